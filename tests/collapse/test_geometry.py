"""The measures of collapse against exact values, rationals, NumPy's loops and scikit-learn."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from dlaccel.collapse.geometry import ClassGeometry
from dlaccel.collapse.neural_collapse import equal_angles
from dlaccel.collapse.pairs import off_diagonal
from dlaccel.ops.class_scatter import PROCEDURE as class_scatter

EPS = 2.0**-52
Array = np.ndarray


def clusters(
    counts: list[int], width: int, spread: float = 1.0, seed: int = 0
) -> tuple[Array, Array]:
    """Samples of classes of unequal sizes and spreads about normal means, offset by 3."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = random.normal(size=(len(counts), width)) + 3
    widths = spread * (1 + np.arange(len(counts)) / len(counts))
    noise = random.normal(size=(len(labels), width)) * widths[labels, None]
    return means[labels] + noise, labels


def geometry_of(features: Array, labels: Array, classes: int) -> ClassGeometry:
    """Two passes of NumPy in float64."""
    width = features.shape[1]
    counts = np.bincount(labels, minlength=classes).astype(float)
    means, variances = np.full((classes, width), np.nan), np.full(classes, np.nan)
    covariances = np.full((classes, width, width), np.nan)
    within = np.zeros((width, width))
    for c in range(classes):
        rows = features[labels == c]
        if len(rows):
            means[c] = rows.mean(0)
            within += (rows - means[c]).T @ (rows - means[c])
        if len(rows) > 1:
            covariances[c] = (rows - means[c]).T @ (rows - means[c]) / len(rows)
            variances[c] = np.trace(covariances[c])
    arrays = (counts, means, variances, within / len(labels), covariances)
    return ClassGeometry(*map(torch.from_numpy, arrays))


def plain(means: object, variances: object = None, counts: object = None) -> ClassGeometry:
    m = torch.as_tensor(means, dtype=torch.float64)
    v, n = (
        torch.as_tensor([default] * len(m) if given is None else given, dtype=torch.float64)
        for given, default in ((variances, 1.0), (counts, 10.0))
    )
    return ClassGeometry(n, m, v)


def simplex(classes: int, width: int, scale: float = 2.0) -> Tensor:
    """Rows m with <m, m'> = scale^2 (1{m = m'} - 1/C), rotated, about a centre of fives."""
    generator = torch.Generator().manual_seed(classes)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    return scale * centred @ basis[:classes] + 5


@pytest.mark.parametrize(("classes", "width"), [(2, 3), (4, 9), (10, 10), (10, 64)])
def test_a_simplex_has_exact_values(classes: int, width: int) -> None:
    means, a, s = simplex(classes, width), 4.0, 0.25
    geometry = replace(
        plain(means, torch.full((classes,), s * width)),
        scatter=s * torch.eye(width, dtype=torch.float64),
    )
    # Entries of size 5 and sums of `width` products: some width * 25 roundings.
    close = {"rel": 100 * width * EPS, "abs": 100 * width * EPS}
    nc2, nc3 = (
        geometry.nc2(),
        geometry.nc3(3 * (means - 5), 3 * -(means - 5) @ torch.full((width,), 5.0).double()),
    )
    for zero in (nc2.norms, nc2.angles, nc2.maximal, nc2.structure):
        assert zero.item() == pytest.approx(0, **close)
    for zero in (nc3.distance, nc3.structure, nc3.bias):
        assert zero.item() == pytest.approx(0, **close)
    # Every pair is at sqrt(2a); Sigma_B = (1/C) M^T M has C - 1 eigenvalues a / C.
    distances, pairs = geometry.distances(), geometry.cdnv()
    assert distances.min.item() == pytest.approx(math.sqrt(2 * a), **close)
    assert distances.max.item() == pytest.approx(math.sqrt(2 * a), **close)
    assert pairs.mean.item() == pytest.approx(s * width / (2 * a), **close)
    assert geometry.nc1().item() == pytest.approx(s * (classes - 1) / a, **close)
    inner, outer = s * width, a * (classes - 1) / classes
    assert geometry.nc1("quotient").item() == pytest.approx(inner / outer, **close)
    assert geometry.nc1("trace").item() == pytest.approx(inner / (inner + outer), **close)


def test_gaussian_clusters_have_the_known_cdnv() -> None:
    """V = D sigma^2 / d^2 for equal spreads sigma at distance d, up to the sampling error."""
    width, n, sigma, d = 16, 4000, 0.5, 8.0
    random = np.random.default_rng(0)
    means = np.eye(3, width) * d / math.sqrt(2)
    labels = np.repeat(np.arange(3), n)
    features = means[labels] + sigma * random.normal(size=(3 * n, width))
    geometry = geometry_of(features, labels, 3)
    # A variance's relative deviation is sqrt(2 / (n D)); a mean's, along the line of two means,
    # sigma / sqrt(n), twice, against d; five standard deviations of both.
    limit = 5 * (math.sqrt(2 / (n * width)) + 2 * math.sqrt(2 / n) * sigma / d)
    expected = width * sigma**2 / d**2
    assert geometry.cdnv().values.numpy() == pytest.approx(np.full(3, expected), rel=limit)
    assert geometry.cdnv(one_sided=True).mean.item() == pytest.approx(expected, rel=limit)


@pytest.mark.parametrize("width", [3, 40], ids=["more classes", "more features"])
@pytest.mark.parametrize("weighting", ["class", "sample"])
def test_the_formulas_by_loops(width: int, weighting: str) -> None:
    counts = [2, 5, 9, 3, 30, 7, 4]
    x, y = clusters(counts, width)
    geometry = geometry_of(x, y, 7)
    n = np.array(counts)
    means = np.stack([x[y == c].mean(0) for c in range(7)])
    p = np.full(7, 1 / 7) if weighting == "class" else n / n.sum()
    mu = p @ means
    m = means - mu
    sigma_b = sum(p[c] * np.outer(m[c], m[c]) for c in range(7))
    sigma_w = sum(np.outer(r - means[c], r - means[c]) for r, c in zip(x, y, strict=True)) / len(x)
    close = {"rel": 1e-12}  # sums of some hundred terms; kappa(Sigma_B) is below 100
    rank = min(6, width)
    inverse = np.linalg.pinv(sigma_b, rcond=1e-10)
    assert np.linalg.matrix_rank(sigma_b, tol=1e-10) == rank
    get = dict(weighting=weighting)
    assert geometry.nc1(**get).item() == pytest.approx(np.trace(sigma_w @ inverse) / 7, **close)
    ratio = np.trace(sigma_w) / np.trace(sigma_b)
    assert geometry.nc1("quotient", **get).item() == pytest.approx(ratio, **close)
    assert geometry.nc1("trace", **get).item() == pytest.approx(ratio / (1 + ratio), **close)
    assert geometry.nc1(rank=rank, **get).item() == pytest.approx(geometry.nc1(**get).item())
    bare = replace(geometry, scatter=None)
    assert bare.nc1(**get).item() == pytest.approx(geometry.nc1(**get).item(), **close)
    b = geometry.between(weighting).numpy()
    np.testing.assert_allclose(b.T @ b, sigma_b, rtol=0, atol=1e-12)

    norms = np.linalg.norm(m, axis=1)
    cosines = [m[i] @ m[j] / norms[i] / norms[j] for i in range(7) for j in range(7) if i != j]
    nc2 = geometry.nc2(weighting=weighting)
    assert nc2.norms.item() == pytest.approx(norms.std() / norms.mean(), **close)
    assert nc2.angles.item() == pytest.approx(np.std(cosines), **close)
    assert nc2.maximal.item() == pytest.approx(np.mean(np.abs(np.array(cosines) + 1 / 6)), **close)
    unbiased = geometry.nc2(weighting=weighting, ddof=1)
    assert unbiased.norms.item() == pytest.approx(norms.std(ddof=1) / norms.mean(), **close)
    target = (np.eye(7) - 1 / 7) / math.sqrt(6)
    gram = m @ m.T
    assert nc2.structure.item() == pytest.approx(
        np.linalg.norm(gram / np.linalg.norm(gram) - target), **close
    )

    w, bias = np.random.default_rng(1).normal(size=(7, width)), np.arange(7.0)
    nc3 = geometry.nc3(torch.from_numpy(w).float(), torch.from_numpy(bias), weighting=weighting)
    w = w.astype(np.float32).astype(float)
    duality = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m)) ** 2
    product = w @ m.T
    assert nc3.distance.item() == pytest.approx(duality, **close)
    assert nc3.structure.item() == pytest.approx(
        np.linalg.norm(product / np.linalg.norm(product) - target), **close
    )
    assert nc3.bias is not None
    assert nc3.bias.item() == pytest.approx(np.linalg.norm(bias + w @ mu), **close)
    of_weight = equal_angles(torch.from_numpy(w))
    assert of_weight.norms.item() == pytest.approx(
        np.linalg.norm(w, axis=1).std() / np.linalg.norm(w, axis=1).mean(), **close
    )


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("classes", [2, 5, 6, 60], ids=lambda c: f"{c} classes")
def test_pairs_and_their_summaries_by_loops(classes: int, ddof: int) -> None:
    x, y = clusters([2 + c % 3 for c in range(classes)], 7)
    geometry = geometry_of(x, y, classes)
    means = [x[y == c].mean(0) for c in range(classes)]
    spreads = [x[y == c].var(0, ddof=ddof).sum() for c in range(classes)]
    unordered, ordered = {}, {}
    for i, j in itertools.permutations(range(classes), 2):
        between = ((means[i] - means[j]) ** 2).sum()
        ordered[i, j] = spreads[i] / between
        unordered[i, j] = (spreads[i] + spreads[j]) / (2 * between)
    for wanted, found in (
        (ordered, geometry.cdnv(one_sided=True, ddof=ddof)),
        ({(i, j): v for (i, j), v in unordered.items() if i < j}, geometry.cdnv(ddof=ddof)),
    ):
        for (i, j), value in wanted.items():
            assert found.pairs[i, j].item() == pytest.approx(value, rel=1e-12)
        assert found.pairs.diagonal().isnan().all()
        values = np.array(list(wanted.values()))
        assert (found.count, found.excluded) == (len(values), 0)
        np.testing.assert_allclose(np.sort(found.values.numpy()), np.sort(values), rtol=1e-12)
        assert found.mean.item() == pytest.approx(values.mean(), rel=1e-12)
        assert found.min.item() == pytest.approx(values.min(), rel=1e-12)
        assert found.max.item() == pytest.approx(values.max(), rel=1e-12)
        assert found.median.item() == pytest.approx(np.median(values), rel=1e-12)
        edges = values.min() + (values.max() - values.min() + 1) * torch.tensor([0.05, 0.33, 0.8])
        by_edges = found.histogram(edges)
        expected = np.histogram(values, edges.double().numpy())[0]
        assert by_edges.counts.tolist() == expected.tolist()
        even = found.histogram(8)
        assert even.counts.tolist() == np.histogram(found.values.numpy(), 8)[0].tolist()
        np.testing.assert_allclose(
            even.edges, np.histogram(found.values.numpy(), 8)[1], rtol=8 * EPS
        )
    symmetric = geometry.cdnv().pairs
    assert torch.equal(symmetric.nan_to_num(), symmetric.T.nan_to_num())


@pytest.mark.parametrize("k", range(10))
def test_every_pair_is_taken_once(k: int) -> None:
    i = torch.arange(k)
    names = 100 * torch.maximum(i[:, None], i) + torch.minimum(i[:, None], i)
    once = [100 * a + b for a in range(k) for b in range(a)]
    assert sorted(off_diagonal(names, ordered=False).tolist()) == sorted(once)
    assert sorted(off_diagonal(names, ordered=True).tolist()) == sorted(2 * once)


def test_integers_give_the_rational_results() -> None:
    """Integers below 2^10 in classes of 2^k samples: every sum, mean and product is exact."""
    random = np.random.default_rng(3)
    classes, width = 4, 5
    counts = [2, 4, 8, 16]
    y = np.repeat(np.arange(classes), counts)
    x = random.integers(-500, 500, size=(len(y), width))
    rows = [[[Fraction(int(v)) for v in row] for row in x[y == c]] for c in range(classes)]
    means = [[sum(column) / len(r) for column in zip(*r, strict=True)] for r in rows]
    spread = [
        sum((v - mu) ** 2 for row in r for v, mu in zip(row, m, strict=True)) / len(r)
        for r, m in zip(rows, means, strict=True)
    ]
    features, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    centres = torch.tensor([[float(v) for v in m] for m in means], dtype=torch.float64)
    scatter = torch.zeros(classes, width, width, dtype=torch.float64)
    class_scatter(scatter, centres, features, labels, None, classes)
    for c, (r, m) in enumerate(zip(rows, means, strict=True)):
        for i, j in itertools.product(range(width), repeat=2):
            exact = sum((row[i] - m[i]) * (row[j] - m[j]) for row in r)
            assert scatter[c, i, j].item() == exact
    pooled = torch.zeros(1, width, width, dtype=torch.float64)
    class_scatter(pooled, centres, features, labels, None, classes)
    assert torch.equal(pooled[0], scatter.sum(0))
    geometry = plain(centres, [float(v) for v in spread], counts)
    found = geometry.cdnv().pairs
    for i, j in itertools.permutations(range(classes), 2):
        between = sum((a - b) ** 2 for a, b in zip(means[i], means[j], strict=True))
        exact = (spread[i] + spread[j]) / (2 * between)
        # Squares about the centre are some ten times the distance: each rounding weighs as much.
        assert found[i, j].item() == pytest.approx(float(exact), rel=100 * EPS)


def test_means_that_are_near_keep_their_digits() -> None:
    """Pairs 1e-6 apart, 1e4 from the other classes and 1e6 from 0; the truth is a rational."""
    random = np.random.default_rng(0)
    base = 1e6 + 1e4 * random.normal(size=(30, 20))
    means = np.concatenate([base, base + 1e-6 * random.normal(size=base.shape)])
    found = plain(means).distances().pairs
    for i in range(60):
        for j in (i - 1, (i + 30) % 60):
            left, right = ([Fraction(float(v)) for v in means[k]] for k in (i, j))
            exact = math.sqrt(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)))
            # Refined below 1e-4 of the squared distance from the centre; 20 roundings elsewhere.
            assert found[i, j].item() == pytest.approx(exact, rel=20 * EPS / 1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_an_offset_changes_nothing(offset: float) -> None:
    # On a grid of 2^-20 an offset of 1e6 < 2^20 is exact: 20 + 20 bits.
    grid = torch.randn(50, 33, generator=torch.Generator().manual_seed(1)).double()
    means = (grid * 2**20).round() / 2**20
    wanted, found = plain(means).cdnv().pairs, plain(means + offset).cdnv().pairs
    # The centre is rounded at the offset's size: a rounding of 1e6 against distances of 8.
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0, equal_nan=True)


def test_the_policy_for_empty_and_single_classes() -> None:
    x, y = clusters([6, 1, 4, 5], 3)
    y = y + (y >= 2)  # class 2 is empty, class 1 has one sample
    geometry = geometry_of(x, y, 5)
    assert geometry.present.tolist() == [True, True, False, True, True]
    assert geometry.measured.tolist() == [True, False, False, True, True]
    pairs = geometry.cdnv()
    assert (pairs.count, pairs.excluded) == (3, 7)
    assert geometry.cdnv(one_sided=True).excluded == 14
    assert pairs.pairs[[1, 2]].isnan().all()
    assert pairs.pairs[:, [1, 2]].isnan().all()
    assert geometry.distances().excluded == 4  # the single sample has a mean
    kept = geometry_of(*clusters([6, 1, 4, 5], 3), 4)
    without = pairs.pairs[[0, 1, 3, 4]][:, [0, 1, 3, 4]]
    torch.testing.assert_close(without, kept.cdnv().pairs, rtol=1e-13, atol=0, equal_nan=True)
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    rows = weight[[0, 1, 3, 4]]
    for ours, theirs in (
        (geometry.nc1(), kept.nc1()),
        (geometry.nc1("trace", weighting="sample"), kept.nc1("trace", weighting="sample")),
        (replace(geometry, scatter=None).nc1(), kept.nc1()),
        (geometry.nc2().angles, kept.nc2().angles),
        (geometry.nc3(weight).distance, kept.nc3(rows).distance),
        (geometry.nc3(weight).structure, kept.nc3(rows).structure),
        (geometry.within_trace(), torch.trace(kept.within())),
    ):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-13)


@pytest.mark.parametrize("classes", [0, 1, 3])
def test_without_a_pair_there_are_no_numbers(classes: int) -> None:
    geometry = plain(torch.ones(classes, 2), torch.full((classes,), torch.nan))
    pairs = geometry.cdnv()
    assert (pairs.count, pairs.excluded) == (0, classes * (classes - 1) // 2)
    for value in (pairs.mean, pairs.min, pairs.max, pairs.median):
        assert value.isnan()
    assert int(pairs.histogram(4).counts.sum()) == 0
    assert geometry.nc2(ddof=1).angles.isnan()
    assert equal_angles(torch.eye(1, 3)).maximal.isnan()


def test_equal_means_are_infinitely_spread() -> None:
    means = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
    means[3] = means[1]
    geometry = plain(means, [1.0, 0.0, 1.0, 0.0, 1.0])
    pairs = geometry.cdnv()
    assert pairs.pairs.isinf().nonzero().tolist() == [[1, 3], [3, 1]]
    assert pairs.mean.isinf()
    assert pairs.median.isfinite()
    assert int(pairs.histogram(3).counts.sum()) == 9  # the infinite pair is in no bin
    assert geometry.distances().min.item() == 0
    # The axis that the equal means lack is cut off; among the C - 1 that a rank asks for it counts.
    scattered = replace(geometry, scatter=torch.eye(4, dtype=torch.float64))
    four = replace(plain(means[[0, 1, 2, 4]]), scatter=torch.eye(4, dtype=torch.float64))
    assert scattered.nc1().isfinite()
    assert scattered.nc1().item() == scattered.nc1(rank=3).item()
    assert scattered.nc1(rank=4).item() > 1e10 * scattered.nc1().item()
    assert four.nc1(rank=2) < four.nc1()
    alike = replace(scattered, means=means[:1].expand(5, 4))
    assert alike.nc1().isinf()
    assert alike.nc1("quotient").isinf()
    assert alike.nc1("trace").item() == pytest.approx(1)


def test_nan_in_the_data_shows_and_stays_in_its_class() -> None:
    means = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    variances = torch.ones(6).double()
    means[2, 1] = variances[2] = torch.nan
    geometry = plain(means, variances)
    for pairs in (geometry.cdnv(), geometry.distances()):
        assert pairs.excluded == 0
        for value in (pairs.mean, pairs.min, pairs.max, pairs.median):
            assert value.isnan()
        others = [0, 1, 3, 4, 5]
        assert off_diagonal(pairs.pairs[others][:, others], ordered=True).isfinite().all()
    assert geometry.nc1("quotient").isnan()
    assert replace(geometry, scatter=torch.eye(4).double()).nc1().isnan()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_scatter_is_scikit_learns_covariance_within(dtype: torch.dtype) -> None:
    x, y = clusters([40, 9, 25], 6)
    features = torch.from_numpy(x).to(dtype)
    truth = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    truth.fit(features.double().numpy(), y)
    means = torch.from_numpy(geometry_of(features.double().numpy(), y, 3).means.numpy())
    scatter = torch.zeros(1, 6, 6, dtype=torch.float64)
    class_scatter(scatter, means, features, torch.from_numpy(y), None, 3)
    np.testing.assert_allclose(scatter[0] / len(y), truth.covariance_, rtol=1e-12)
