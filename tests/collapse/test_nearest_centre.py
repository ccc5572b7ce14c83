"""The nearest class centre against float64 distances and exact fractions."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from samples import DTYPES, maker
from torch import Tensor

from dlaccel.collapse import _tiles, nearest_centre
from dlaccel.collapse.nearest_centre import NearestCentre, TwoBest
from dlaccel.ops.top_two import SUMMED, TOP_TWO

SHAPES = ((0, 3, 4), (1, 1, 1), (50, 2, 1), (61, 3, 7), (90, 37, 33), (40, 10, 2 * SUMMED + 5))


def distances(features: Tensor, centres: Tensor) -> Tensor:
    """(N, C) float64 squared distances from differences; infinite for a centre that is not."""
    rows, centres = features.double(), centres.double()
    found = torch.stack([(rows - centre).square().sum(1) for centre in centres], 1)
    return found.masked_fill(~centres.isfinite().all(1), torch.inf)


def truth(features: Tensor, centres: Tensor) -> TwoBest:
    """By sorting all distances; the sort is stable, so that equal ones stay in labels' order."""
    lowest, labels = distances(features, centres).sort(dim=1, stable=True)
    labels = labels.masked_fill(lowest == torch.inf, -1)
    if len(centres) == 1:
        lowest = torch.cat([lowest, torch.full_like(lowest, torch.inf)], 1)
        labels = torch.cat([labels, torch.full_like(labels, -1)], 1)
    return TwoBest(labels[:, 0], labels[:, 1], lowest[:, 1] - lowest[:, 0])


def agree(features: Tensor, centres: Tensor) -> None:
    head, wanted = NearestCentre(centres), truth(features.flatten(1), centres)
    assert torch.equal(head.predict(features), wanted.best)
    found = head.top_two(features)
    assert torch.equal(found.best, wanted.best)
    assert torch.equal(found.second, wanted.second)
    torch.testing.assert_close(found.margin, wanted.margin, rtol=0, atol=0, equal_nan=True)


def clusters(
    shape: tuple[int, int, int], dtype: torch.dtype, device: str, offset: float
) -> tuple[Tensor, Tensor]:
    """Samples around centres, both far from the origin."""
    samples, classes, width = shape
    make = maker(torch.float64, device, seed=classes)
    centres = make(classes, width) + offset
    near = centres[torch.arange(samples, device=device) % classes]
    return (near + make(samples, width)).to(dtype), centres


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_distances_of_float64(dtype: torch.dtype, offset: float, device: str) -> None:
    """bfloat16 at 1e6 has nothing left but ties and samples far from every centre."""
    for shape in SHAPES:
        features, centres = clusters(shape, dtype, device, offset)
        if not features.isfinite().all():  # float16 ends at 65504
            assert (NearestCentre(centres).predict(features)[~features.isfinite().all(1)] < 0).all()
            features = features[features.isfinite().all(1)]
        agree(features, centres)
        agree(features, centres.to(dtype).nan_to_num())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_go_to_the_lowest_label(dtype: torch.dtype, device: str) -> None:
    """Whole numbers have exact distances, of which many are equal; some centres are equal too."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randint(0, 3, (200, 4), generator=generator).to(device, dtype)
    centres = torch.randint(0, 3, (30, 4), generator=generator).to(device, dtype)
    centres[17], centres[5], centres[29] = centres[2], centres[2], centres[11]
    spread = distances(features, centres).sort(1).values
    assert (spread[:, 0] == spread[:, 1]).float().mean() > 0.3
    agree(features, centres)
    agree(features, centres[:1].expand(4, 4))  # all equal, as where a layer is dead


def nudged(
    dtype: torch.dtype, offset: float, width: int, device: str
) -> tuple[Tensor, Tensor, list[int]]:
    """Points between two centres, moved towards one by 0, 1, 2, 4 units in the last place.

    A third centre, far away, makes the bound on the error large. The labels are exact.
    """
    make = maker(dtype, device, seed=width)
    centres = torch.cat([make(2, width) + offset, make(1, width) * 1e3 + offset])
    middle = ((centres[0].double() + centres[1].double()) / 2).to(dtype)
    points = []
    for axis in range(min(width, 6)):
        for direction in (torch.inf, -torch.inf):
            toward, point = torch.full_like(middle, direction), middle.clone()
            for _ in range(5):
                points.append(point.clone())
                point[axis] = torch.nextafter(point, toward)[axis]
    features = torch.stack(points)
    exact = [[Fraction(value) for value in centre] for centre in centres.tolist()]
    labels = []
    for row in features.tolist():
        apart = [
            sum((Fraction(x) - m) ** 2 for x, m in zip(row, centre, strict=True))
            for centre in exact
        ]
        labels.append(apart.index(min(apart)))
    return features, centres, labels


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("width", [1, 2, 9, 64])
def test_near_ties_are_decided_exactly(width: int, offset: float, device: str) -> None:
    """In float32 one unit in the last place is far above the rounding of a float64 distance."""
    features, centres, labels = nudged(torch.float32, offset, width, device)
    assert NearestCentre(centres).predict(features).tolist() == labels
    if offset == 0:
        assert set(labels) == {0, 1}


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("width", [1, 9])
def test_near_ties_of_float64_are_those_of_its_distances(
    width: int, offset: float, device: str
) -> None:
    features, centres, _ = nudged(torch.float64, offset, width, device)
    agree(features, centres)


def sure_rows(head: NearestCentre, features: Tensor) -> tuple[Tensor, Tensor]:
    """What the float32 pass says, and where the bound vouches for it."""
    fused = features.is_cuda
    found = head._pass_fused(features) if fused else head._pass_tiled(features)
    assert found.scores.dtype == torch.float32
    gap = found.scores[:, 1].double() - found.scores[:, 0].double()
    sums = min(head.width, SUMMED) + -(-head.width // SUMMED)
    return found.best, gap > head._slack(found.norms, sums)


def test_the_bound_vouches_for_no_wrong_row_and_for_most_right_ones(device: str) -> None:
    wrong = 0
    for width in (1, 2, 9, 64):
        for offset in (0.0, 1.0, 1e4):
            features, centres, labels = nudged(torch.float32, offset, width, device)
            best, sure = sure_rows(NearestCentre(centres), features)
            mistaken = best != torch.tensor(labels, device=device)
            assert not (mistaken & sure).any()
            wrong += int(mistaken.sum())
    assert wrong > 0  # the float32 pass alone would not do
    features, centres = clusters((2000, 50, 64), torch.float32, device, 1e4)
    _, sure = sure_rows(NearestCentre(centres), features)
    assert sure.float().mean() > 0.95


@pytest.fixture
def flushing() -> Iterator[None]:
    """Numbers below the least normal one become 0, where the processor can."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("scale", [1e-22, 1e-20, 1.0])
@pytest.mark.parametrize("width", [3, 700, 3 * SUMMED + 1])
@pytest.mark.usefixtures("flushing")
def test_no_score_errs_by_more_than_the_bound_allows(width: int, scale: float, device: str) -> None:
    """Entries of one sign and of many sizes, so that partial sums round as they grow."""
    make = maker(torch.float64, device, seed=width)
    sizes = scale * 10.0 ** torch.linspace(-3, 3, width, dtype=torch.float64, device=device)
    centres = make(5, width).abs() * sizes
    features = (make(40, width).abs() * sizes + 7 * scale).float()
    head = NearestCentre(centres)
    found = head._pass_fused(features) if device == "cuda" else head._pass_tiled(features)
    centred = centres - head._shift.double()
    exact = centred.square().sum(1) / 2 - (features.double() - head._shift.double()) @ centred.T
    error = (found.scores.double() - exact.sort(1).values[:, :3]).abs().amax(1)
    sums = min(width, SUMMED) + -(-width // SUMMED)
    assert (error <= head._slack(found.norms, sums) / 2).all()


def test_the_nearest_centre_may_be_the_one_whose_score_overflows(device: str) -> None:
    centres = maker(torch.float64, device)(20, 4) * 5e17
    centres[7] = torch.tensor([2.8e19, 0, 0, 0])
    features = torch.tensor([[1.75e19, 0, 0, 0], [1e18, 0, 0, 0]], device=device)
    head = NearestCentre(centres)
    assert head._about[torch.float32][1][7] == torch.inf
    assert head.predict(features)[0] == 7
    agree(features, centres)


def test_so_far_away_that_the_distances_round(device: str) -> None:
    """All that is left of the centres there is the rounding of the float64 distances."""
    make = maker(torch.float64, device)
    features, centres = make(200, 20) * 1e6, make(10, 20) * 1e-9
    spread = distances(features, centres).sort(1).values
    assert (spread[:, 0] == spread[:, 1]).any()
    agree(features, centres)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e15, 1e25, 3e37])
def test_scales_at_which_float32_products_fail(scale: float, device: str) -> None:
    features, centres = clusters((60, 5, 20), torch.float64, device, 0.0)
    agree((features * scale / 4).float(), centres * scale / 4)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e60, 1e150, 1e200, 1e300])
def test_scales_at_which_float64_products_fail(scale: float, device: str) -> None:
    """From 1e155 on the distances overflow, all are infinite, and the first label is theirs."""
    features, centres = clusters((60, 5, 20), torch.float64, device, 0.0)
    head, wanted = NearestCentre(centres * scale), distances(features * scale, centres * scale)
    assert torch.equal(head.predict(features * scale), wanted.argmin(1))


def test_the_fused_way_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NearestCentre, "_pass_tiled", NearestCentre._pass_fused)
    for dtype in DTYPES:
        features, centres = clusters((90, 37, 33), dtype, "cpu", 100.0)
        agree(features, centres)
    features, centres, labels = nudged(torch.float32, 1.0, 9, "cpu")
    assert NearestCentre(centres).predict(features).tolist() == labels


def test_rows_that_are_not_finite_have_no_centre(device: str) -> None:
    features, centres = clusters((6, 4, 3), torch.float32, device, 0.0)
    features[1, 0], features[3, 2], features[4, 1] = torch.nan, torch.inf, -torch.inf
    lost = torch.tensor([False, True, False, True, True, False], device=device)
    found = NearestCentre(centres).top_two(features)
    for labels in (found.best, found.second, NearestCentre(centres).predict(features)):
        assert (labels[lost] == -1).all()
        assert (labels[~lost] >= 0).all()
    assert found.margin[lost].isnan().all()
    agree(features[~lost], centres)


def test_centres_of_empty_classes_never_win(device: str) -> None:
    features, centres = clusters((50, 8, 3), torch.float32, device, 5.0)
    centres[0], centres[3, 1], centres[7] = torch.nan, torch.nan, torch.inf
    agree(features, centres)
    agree(features, centres[[0, 2, 3]])
    nobody = NearestCentre(centres[[0, 3]]).top_two(features)
    assert (nobody.best == -1).all()
    assert (nobody.second == -1).all()
    assert nobody.margin.isnan().all()


def test_a_batch_split_or_strides_change_nothing(device: str) -> None:
    features, centres = clusters((300, 12, 24), torch.bfloat16, device, 50.0)
    head = NearestCentre(centres)
    whole = head.predict(features)
    assert torch.equal(
        torch.cat([head.predict(p) for p in torch.split(features, [1, 99, 7, 193])]), whole
    )
    assert torch.equal(head.predict(features.T.contiguous().T), whole)
    assert torch.equal(head.predict(features.view(300, 2, 3, 4)), whole)
    channels = features.view(300, 2, 3, 4).to(memory_format=torch.channels_last)
    assert torch.equal(head.predict(channels), whole)
    wide = torch.stack([features, features + 1], 2)[..., 0]
    assert torch.equal(head.predict(wide.requires_grad_()), whole)


def test_tiles_are_all_there_is_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[int] = []

    def top_two(*arguments: Any, run: Callable[..., None] = TOP_TWO) -> None:
        heights.append(len(arguments[3]))
        run(*arguments)

    monkeypatch.setattr(nearest_centre, "TOP_TWO", top_two)
    monkeypatch.setattr(_tiles, "TILE", 100 * 4 * (10 + 8))
    features, centres = clusters((1000, 10, 8), torch.float32, "cpu", 1e4)
    agree(features, centres)
    assert max(heights) == 100
    assert sum(heights) == 2 * 1000  # two passes


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_reduced_precision_of_products_changes_no_call(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_float32_matmul_precision()
    features, centres, labels = nudged(torch.float32, 1e4, 9, "cpu")
    try:
        torch.set_float32_matmul_precision(precision)
        head = NearestCentre(centres)
        assert head._pass_tiled(features).scores.dtype == torch.float64
        assert head.predict(features).tolist() == labels
    finally:
        torch.set_float32_matmul_precision(before)
    with monkeypatch.context() as patch:
        patch.setenv("DNNL_DEFAULT_FPMATH_MODE", "BF16")
        assert head._pass_tiled(features).scores.dtype == torch.float64
    assert head._pass_tiled(features).scores.dtype == torch.float32


def test_autocast_and_inference_mode_change_no_call(device: str) -> None:
    features, centres = clusters((300, 50, 64), torch.float32, device, 1e4)
    head, wanted = NearestCentre(centres), truth(features, centres)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(head.predict(features), wanted.best)
        agree(features[:60], centres)
    with torch.inference_mode():
        made_inside = NearestCentre(centres + 0)
        assert torch.equal(head.predict(features + 0), wanted.best)
    assert torch.equal(made_inside.predict(features), wanted.best)


def test_accuracy_and_confusion(device: str) -> None:
    features, centres = clusters((80, 5, 2), torch.float32, device, 0.0)
    features[7] = torch.nan
    labels = torch.arange(80, device=device, dtype=torch.int32) % 6 - 1
    head = NearestCentre(centres)
    called = head.predict(features).tolist()
    counts = torch.zeros(5, 5, dtype=torch.int64)
    for label, call in zip(labels.tolist(), called, strict=True):
        if label >= 0 and call >= 0:
            counts[label, call] += 1
    assert torch.equal(head.confusion(features, labels).cpu(), counts)
    used = sum(label >= 0 for label in labels.tolist())
    assert 0 < counts.trace() < counts.sum() == used - 1  # row 7 is called nothing
    assert head.accuracy(features, labels).item() == counts.trace().item() / used
    assert head.accuracy(features, torch.full_like(labels, -1)).isnan()
    assert not head.confusion(features[:0], labels[:0]).any()


def test_refusals() -> None:
    head = NearestCentre(torch.eye(3, 4))
    rows = torch.zeros(2, 4)
    bad: dict[str, tuple[type[Exception], Callable[[], object]]] = {
        "centres must be a torch.Tensor, got list.": (TypeError, lambda: NearestCentre([])),  # type: ignore[arg-type]
        "centres must have dtype float64, float32, bfloat16 or float16, got int64.": (
            TypeError,
            lambda: NearestCentre(torch.eye(3).long()),
        ),
        "centres must have shape (C, D), neither of them 0, got (3,).": (
            ValueError,
            lambda: NearestCentre(torch.zeros(3)),
        ),
        "centres must have shape (C, D), neither of them 0, got (0, 4).": (
            ValueError,
            lambda: NearestCentre(torch.zeros(0, 4)),
        ),
        "features must have shape (N, ...) with 4 numbers in a row, got (2, 3).": (
            ValueError,
            lambda: head.predict(torch.zeros(2, 3)),
        ),
        "features must have dtype float64, float32, bfloat16 or float16, got int64.": (
            TypeError,
            lambda: head.top_two(rows.long()),
        ),
        "labels must have dtype int64 or int32, got float32.": (
            TypeError,
            lambda: head.accuracy(rows, torch.zeros(2)),
        ),
        "labels must have shape (2,), got (3,).": (
            ValueError,
            lambda: head.confusion(rows, torch.zeros(3, dtype=torch.int64)),
        ),
        "labels must lie in [0, 3) or be -1, got 3 at 1.": (
            ValueError,
            lambda: head.confusion(rows, torch.tensor([0, 3])),
        ),
    }
    for sentence, (kind, call) in bad.items():
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == f"dlaccel.NearestCentre: {sentence}"
