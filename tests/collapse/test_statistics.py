"""One pass over labelled features: exact fractions, two float64 passes and scikit-learn as judges,
and what must not matter: how the samples come in batches, in which order, on how many threads."""

from __future__ import annotations

import copy
import pickle
import resource
from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from samples import DTYPES
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from torch import Tensor

from dlaccel.collapse import ClassGeometry, ClassStatistics

EPS = 2.0**-53
SHIFTS = ["first", "common", "given"]


def clusters(
    samples: int, width: int, classes: int, spread: float = 1.0, offset: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Normal classes about normal means, in float32; every class has two samples at least."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(samples) % classes)
    means = draw.standard_normal((classes, width))
    x = offset + means[labels] + spread * draw.standard_normal((samples, width))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


def gathered(
    batches: Iterable[tuple[Tensor, ...]],
    classes: int,
    shift: str = "first",
    moments: Any = "trace",
) -> ClassStatistics:
    batches = list(batches)
    given: Any = batches[0][0].flatten(1).double().mean(0) if shift == "given" else shift
    statistics = ClassStatistics(classes, moments=moments, shift=given)
    for batch in batches:
        statistics.update(*batch)
    return statistics


def two_passes(x: Tensor, labels: Tensor, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Means, then centred squares, in float64."""
    rows, y = x.double().numpy(), labels.numpy()
    means = np.stack([rows[y == c].mean(0) for c in range(classes)])
    squares = ((rows - means[y]) ** 2).sum(1)
    return means, np.array([squares[y == c].mean() for c in range(classes)])


def assert_same(a: ClassGeometry, b: ClassGeometry, limit: float) -> None:
    """Each tensor within a relative L2 distance."""
    for name in ("counts", "means", "variances", "scatter", "class_covariances"):
        mine, other = getattr(a, name), getattr(b, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert torch.equal(mine.isnan(), other.isnan())
            mine, other = mine.nan_to_num(), other.nan_to_num()
            assert (mine - other).norm() <= limit * other.norm(), name


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_fractions_of_whole_numbers(dtype: torch.dtype, shift: str) -> None:
    """Sums of small whole numbers are exact. So a mean errs by a division and an addition, and an
    entry of a covariance by two divisions, a product and a difference of numbers below 2^9."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(-8, 9, (60, 5), generator=draw)
    labels = torch.randint(-1, 4, (60,), generator=draw)
    batches = [(part.to(dtype), y) for part, y in zip(x.split(17), labels.split(17), strict=True)]
    if shift == "given":
        statistics = ClassStatistics(4, moments="full", shift=torch.arange(5.0))
        for batch in batches:
            statistics.update(*batch)
    else:
        statistics = gathered(batches, 4, shift, "full")
    geometry = statistics.compute()
    assert geometry.scatter is not None
    assert geometry.class_covariances is not None
    pooled = [[Fraction(0)] * 5 for _ in range(5)]
    for c in range(4):
        rows = [[Fraction(int(v)) for v in row] for row in x[labels == c]]
        n = len(rows)
        mean = [sum(column) / n for column in zip(*rows, strict=True)]
        assert geometry.counts[c] == n
        trace = Fraction(0)
        for i in range(5):
            assert abs(Fraction(geometry.means[c, i].item()) - mean[i]) <= 32 * Fraction(EPS)
            for j in range(5):
                exact = sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows)
                pooled[i][j] += exact
                found = Fraction(geometry.class_covariances[c, i, j].item())
                assert abs(found - exact / n) <= 4 * 512 * Fraction(EPS)
                trace += exact / n if i == j else 0
        assert abs(Fraction(geometry.variances[c].item()) - trace) <= 8 * 2048 * Fraction(EPS)
    used = int((labels >= 0).sum())
    for i in range(5):
        for j in range(5):
            found = Fraction(geometry.scatter[i, j].item())
            assert abs(found - pooled[i][j] / used) <= 8 * 512 * Fraction(EPS)


@pytest.mark.parametrize("offset", [0, 3, 30])
@pytest.mark.parametrize("spread", [1, 1e-1, 1e-2, 1e-3, 1e-4])
def test_cdnv_against_two_passes(spread: float, offset: float) -> None:
    """5e-7 at every spread and offset. With the class's first sample nothing cancels: 1e-12."""
    x, labels = clusters(3000, 48, 5, spread, offset)
    means, variances = two_passes(x, labels, 5)
    i, j = np.triu_indices(5, 1)
    exact = (variances[i] + variances[j]) / (2 * ((means[i] - means[j]) ** 2).sum(1))
    for shift, limit in (("first", 1e-12), ("common", 5e-7)):
        for size in (3000, 100):
            batches = zip(x.split(size), labels.split(size), strict=True)
            found = gathered(batches, 5, shift).compute().cdnv().pairs.numpy()[i, j]
            assert np.abs(found / exact - 1).max() <= limit


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("moments", ["trace", "pooled", "full"])
def test_batches_order_and_threads_do_not_matter(moments: str, shift: str) -> None:
    x, labels = clusters(700, 20, 6, spread=0.3)
    labels[::9] = -1
    whole = gathered([(x, labels)], 6, shift, moments)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            again = gathered([(x, labels)], 6, shift, moments)
            for name, tensor in whole.state_dict()["tensors"].items():
                assert torch.equal(tensor, again.state_dict()["tensors"][name]), name
    finally:
        torch.set_num_threads(threads)
    for size in (1, 64, 333):
        batches = list(zip(x.split(size), labels.split(size), strict=True))
        assert_same(gathered(batches, 6, shift, moments).compute(), whole.compute(), 1e-12)
        assert_same(gathered(batches[::-1], 6, shift, moments).compute(), whole.compute(), 1e-12)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("moments", ["trace", "pooled", "full"])
def test_merging_is_one_pass_in_any_grouping(moments: Any, shift: str) -> None:
    """Class 0 is in every part, class 5 in one; the parts' shifts differ."""
    x, labels = clusters(600, 12, 6, spread=0.3, offset=3)
    given = x[0] if shift == "given" else shift
    labels[:400][labels[:400] == 5] = 0

    def part(*batches: int) -> ClassStatistics:
        made = ClassStatistics(6, moments=moments, shift=given)
        for i in batches:
            made.update(x[200 * i : 200 * i + 200], labels[200 * i : 200 * i + 200])
        return made

    whole = part(0, 1, 2).compute()
    empty = ClassStatistics(6, moments=moments, shift=given)
    left = part(0).merge(part(1)).merge(part(2))
    right = part(0).merge(part(1).merge(part(2)))
    backwards = part(2).merge(part(1)).merge(part(0)).merge(empty)
    for merged in (left, right, backwards, empty.merge(part(0, 1, 2))):
        assert_same(merged.compute(), whole, 1e-12)
    twice = part(0, 1, 2)
    assert twice.merge(twice) is twice
    assert torch.equal(twice.compute().counts, 2 * whole.counts)
    assert_same(part(0, 1).merge(part(2)).compute(), whole, 1e-12)


def test_a_merged_object_goes_on_counting() -> None:
    x, labels = clusters(300, 7, 3)
    whole = gathered([(x, labels)], 3)
    a, b = gathered([(x[:100], labels[:100])], 3), gathered([(x[100:200], labels[100:200])], 3)
    before = b.state_dict()
    a.merge(b).update(x[200:], labels[200:])
    assert_same(a.compute(), whole.compute(), 1e-12)
    for name, tensor in b.state_dict()["tensors"].items():
        assert torch.equal(tensor, before["tensors"][name])


def test_scikit_learn() -> None:
    """GaussianNB takes batches too; LDA's covariance is pooled with the classes' frequencies."""
    x, labels = clusters(500, 9, 4, offset=1)
    rows, y = x.double().numpy(), labels.numpy()
    geometry = gathered(
        zip(x.split(99), labels.split(99), strict=True), 4, moments="full"
    ).compute()
    bayes = GaussianNB(var_smoothing=0)
    for start in range(0, 500, 99):
        bayes.partial_fit(rows[start : start + 99], y[start : start + 99], classes=range(4))
    np.testing.assert_allclose(geometry.means, bayes.theta_, rtol=0, atol=1e-13)
    np.testing.assert_allclose(geometry.variances, bayes.var_.sum(1), rtol=1e-12)
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(rows, y)
    assert geometry.scatter is not None
    np.testing.assert_allclose(geometry.scatter, lda.covariance_, rtol=0, atol=1e-13)
    assert geometry.class_covariances is not None
    for c, covariance in enumerate(geometry.class_covariances):
        exact = np.cov(rows[y == c].T, bias=True)
        np.testing.assert_allclose(covariance, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("moments", ["trace", "pooled", "full"])
def test_a_weight_is_a_number_of_equal_samples(moments: Any) -> None:
    x, labels = clusters(200, 6, 3)
    weight = torch.arange(200) % 4
    repeated = weight.repeat_interleave(weight)
    assert len(repeated) == 8 * 50 - 2 * 50
    copies = torch.arange(200).repeat_interleave(weight)
    plain = gathered([(x[copies], labels[copies])], 3, moments=moments)
    for dtype in DTYPES:
        weighted = gathered([(x, labels.int(), weight.to(dtype))], 3, moments=moments)
        assert_same(weighted.compute(), plain.compute(), 1e-12)


def test_empty_and_single_classes() -> None:
    """Class 0 has two equal samples, 1 one, 2 none, 3 one that weighs 5."""
    x = torch.tensor([[1.0, 2], [1, 2], [3, 4], [5, 6]])
    statistics = ClassStatistics(4, moments="full")
    statistics.update(x, torch.tensor([0, 0, 1, 3]), torch.tensor([1.0, 1, 1, 5]))
    geometry = statistics.compute()
    assert geometry.counts.tolist() == [2, 1, 0, 5]
    assert geometry.means[[0, 1, 3]].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert geometry.means[2].isnan().all()
    assert geometry.variances[0] == 0
    assert geometry.variances[1:].isnan().all()
    assert geometry.scatter is not None
    assert geometry.scatter.tolist() == [[0, 0], [0, 0]]
    assert geometry.class_covariances is not None
    assert geometry.class_covariances.isnan().flatten(1).all(1).tolist() == [
        False,
        True,
        True,
        True,
    ]
    nothing = ClassStatistics(3).compute()
    assert nothing.counts.tolist() == [0, 0, 0]
    assert nothing.means.shape == (3, 0)
    assert ClassStatistics(3, 5, moments="pooled").compute().means.isnan().all()


@pytest.mark.parametrize("shift", ["first", "common"])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 30])
def test_what_is_not_finite_spoils_its_own_class(place: int, wrong: float, shift: str) -> None:
    """Even as the first sample, whose place a shift would take; through a merge too."""
    x, labels = clusters(120, 10, 4)
    spoilt, others = int(labels[place]), labels != labels[place]
    clean = gathered([(x, labels)], 4, shift, "full").compute()
    dirty = x.clone()
    dirty[place, 3] = wrong
    one = gathered([(dirty, labels)], 4, shift, "full")
    halves = [gathered([(dirty[i::2], labels[i::2])], 4, shift, "full") for i in range(2)]
    for found in (one.compute(), halves[0].merge(halves[1]).compute()):
        assert not found.means[spoilt, 3].isfinite()
        assert found.means[spoilt, :3].isfinite().all()
        assert not found.variances[spoilt].isfinite()
        kept = [c for c in range(4) if c != spoilt]
        for name in ("means", "variances", "class_covariances"):
            mine, exact = getattr(found, name)[kept], getattr(clean, name)[kept]
            assert (mine - exact).norm() <= 1e-12 * exact.norm()
        assert found.scatter is not None
        assert found.scatter.isnan().any()
    assert others.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_features_of_any_shape_are_rows(dtype: torch.dtype) -> None:
    maps = torch.randn(40, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(40) % 3
    rows = gathered([(maps.flatten(1), labels)], 3).compute()
    channels_last = maps.to(memory_format=torch.channels_last)
    for features in (maps, channels_last, maps.requires_grad_()):
        found = gathered([(features, labels)], 3).compute()
        assert torch.equal(found.means, rows.means)
        assert torch.equal(found.variances, rows.variances)
        assert not found.means.requires_grad
    numbers = gathered([(torch.arange(6.0), torch.tensor([0, 0, 1, 1, 1, -1]))], 2).compute()
    assert numbers.means.tolist() == [[0.5], [3.0]]


def test_a_loop_with_resets_and_inference_mode() -> None:
    x, labels = clusters(90, 4, 3)
    statistics = ClassStatistics(3)
    expected = gathered([(x, labels)], 3).compute()
    for _ in range(2):
        statistics.reset()
        assert statistics.dim is None
        with torch.inference_mode():
            statistics.update(x[:50] * 1, labels[:50])
            other = gathered([(x[50:60], labels[50:60])], 3)
            statistics.merge(other)
        statistics.update(x[60:], labels[60:])
        assert_same(statistics.compute(), expected, 1e-12)
    empty = statistics.compute()
    statistics.update(x[:0], labels[:0])
    assert torch.equal(statistics.compute().means, empty.means)
    assert repr(statistics) == (
        "ClassStatistics(num_classes=3, dim=4, moments='trace', shift='first')"
    )


@pytest.mark.parametrize("moments", ["trace", "pooled", "full"])
@pytest.mark.parametrize("shift", SHIFTS)
def test_saved_copied_and_pickled(shift: str, moments: Any) -> None:
    x, labels = clusters(90, 4, 3)
    given: Any = x[7] if shift == "given" else shift
    first = ClassStatistics(3, moments=moments, shift=given)
    file = BytesIO()
    torch.save(first.state_dict(), file)
    first.update(x[:50], labels[:50])
    saved = BytesIO()
    torch.save(first.state_dict(), saved)
    loaded = ClassStatistics(3, moments=moments, shift=given)
    loaded.load_state_dict(torch.load(BytesIO(saved.getvalue()), weights_only=True))
    pickled = pickle.loads(pickle.dumps(first))
    held = first.state_dict()
    for other in (copy.deepcopy(first), pickled, loaded, first):
        other.update(x[50:], labels[50:])
    for other in (pickled, loaded):
        for name, tensor in other.state_dict()["tensors"].items():
            assert torch.equal(tensor, first.state_dict()["tensors"][name])
    assert held["tensors"]["counts"].sum() == 50
    loaded.load_state_dict(torch.load(BytesIO(file.getvalue()), weights_only=True))
    assert loaded.compute().counts.sum() == 0


def test_memory_does_not_grow_with_the_samples() -> None:
    """Twenty layers of 25,600 features: storing them would take 2 MB a sample."""
    layers = [ClassStatistics(10) for _ in range(20)]
    features = torch.randn(50, 25_600)

    def sweep() -> None:
        for start, statistics in enumerate(layers):
            statistics.update(features, (torch.arange(50) + start) % 10)

    sweep()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        sweep()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < 3 * 20 * features.nbytes / 10
    held = sum(t.nbytes for s in layers for t in s.state_dict()["tensors"].values())
    assert held == 20 * 8 * 10 * (2 * 25_600 + 3)
