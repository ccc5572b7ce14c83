"""Directional CDNV and NC1 by projections against covariances, and NC4, in float64."""

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from samples import DTYPES, maker
from torch import Tensor

from dlaccel.collapse import _tiles
from dlaccel.collapse.geometry import ClassGeometry
from dlaccel.collapse.projection import Disagreement, Projections, nc4
from dlaccel.collapse.statistics import ClassStatistics

CLASSES = 6


def batch(
    dtype: torch.dtype, device: str = "cpu", *, width: int = 20, offset: float = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Unequal classes of unequal shapes; class 3 is empty, class 5 has one sample, some are -1."""
    make = maker(torch.float64, device, seed)
    labels = torch.arange(300, device=device) ** 2 % 11 % 5
    labels[labels == 3] = 2
    labels[::17] = -1
    labels[100] = 5
    centres = make(CLASSES + 1, width)
    shapes = torch.linspace(0.1, 3, width, dtype=torch.float64, device=device)
    features = centres[labels] + make(300, width) * shapes.roll(3) / (1 + labels[:, None] % 4)
    return (features + offset).to(dtype), labels


def geometry_of(features: Tensor, labels: Tensor) -> ClassGeometry:
    """From the definitions, with every covariance."""
    rows, width = features.flatten(1).double(), features.flatten(1).shape[1]
    counts = torch.zeros(CLASSES, dtype=torch.float64, device=rows.device)
    means = counts.new_full((CLASSES, width), torch.nan)
    covariances = counts.new_full((CLASSES, width, width), torch.nan)
    for label in range(CLASSES):
        own = rows[labels == label]
        counts[label] = len(own)
        if len(own):
            means[label] = own.mean(0)
            covariances[label] = (own - means[label]).T @ (own - means[label]) / len(own)
    variances = covariances.diagonal(dim1=1, dim2=2).sum(1).where(counts > 1, torch.nan)
    return ClassGeometry(counts, means, variances, class_covariances=covariances)


def directional(geometry: ClassGeometry) -> Tensor:
    """a^T Sigma_i a / |d|^2 with d = mu_j - mu_i and a = d / |d|."""
    assert geometry.class_covariances is not None
    pairs = torch.full((CLASSES, CLASSES), torch.nan, dtype=torch.float64)
    for i in range(CLASSES):
        for j in range(CLASSES):
            if i != j and min(geometry.counts[i], geometry.counts[j]) > 1:
                line = geometry.means[j] - geometry.means[i]
                spread = line @ geometry.class_covariances[i] @ line
                pairs[i, j] = spread / line.square().sum() ** 2
    return pairs


def projected(geometry: ClassGeometry, *batches: tuple[Tensor, Tensor]) -> Projections:
    projections = Projections(geometry)
    for features, labels in batches:
        projections.update(features, labels)
    return projections


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("width", [1, 3, 20, 77])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_definition_by_covariances(
    dtype: torch.dtype, width: int, offset: float, device: str
) -> None:
    """Both sides are float64 about the same means: what they differ by is their own rounding.

    A mean errs by some 1e-16 of the offset, which 1e-10 covers by far.
    """
    if offset > 0 and dtype in (torch.float16, torch.bfloat16):
        pytest.skip("nothing is left of the classes there")
    features, labels = batch(dtype, device, width=width, offset=offset)
    geometry = geometry_of(features, labels)
    found = projected(geometry, (features, labels)).compute()
    expected = directional(geometry).to(device)
    torch.testing.assert_close(found.cdnv.pairs, expected, rtol=1e-10, atol=0, equal_nan=True)
    assert found.cdnv.ordered
    assert found.cdnv.included.tolist() == [True, True, True, False, True, False]
    assert found.cdnv.excluded == 30 - 12
    off = expected[~expected.isnan()]
    assert float(found.cdnv.mean) == pytest.approx(float(off.mean()), rel=1e-10)
    torch.testing.assert_close(found.nc1, geometry.nc1(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("width", [2, 40])
def test_what_a_collapsed_line_leaves(width: int) -> None:
    """Along the line of two means a class is 1e6 times narrower than across it: float32 data.

    Products in float32 would round by 1e-7 of the deviation, which is a tenth of what is asked.
    """
    make = maker(torch.float64, "cpu")
    features = make(400, width)
    labels = torch.arange(400) % 2
    features[:, 0] = features[:, 0] * 1e-6 + labels
    features = features.float()
    statistics = ClassStatistics(2)
    statistics.update(features, labels)
    geometry = statistics.compute()
    found = projected(geometry, (features, labels)).compute().cdnv.pairs
    for i in (0, 1):
        own = features[labels == i].double()
        line = geometry.means[1 - i] - geometry.means[i]
        exact = ((own - geometry.means[i]) @ line).square().mean() / line.square().sum() ** 2
        assert float(found[i, 1 - i]) == pytest.approx(float(exact), rel=1e-6)


def test_batches_order_strides_and_shapes_change_nothing(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    features, labels = batch(torch.float32, device)
    geometry = geometry_of(features, labels)
    whole = projected(geometry, (features, labels))
    parts = [1, 120, 0, 179]
    split = projected(
        geometry, *zip(torch.split(features, parts), torch.split(labels, parts), strict=True)
    )
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1)).to(device)
    shuffled = projected(geometry, (features[order], labels[order].int()))
    strided = projected(geometry, (features.T.contiguous().T.view(300, 5, 4), labels))
    monkeypatch.setattr(_tiles, "TILE", 1)
    tiled = projected(geometry, (features, labels))
    for other in (split, shuffled, strided, tiled):
        torch.testing.assert_close(other._sums, whole._sums, rtol=1e-12, atol=1e-12)


def test_merging_is_adding(device: str) -> None:
    features, labels = batch(torch.float32, device)
    geometry = geometry_of(features, labels)
    whole = projected(geometry, (features, labels)).compute()
    left = projected(geometry, (features[:77], labels[:77]))
    merged = left.merge(projected(geometry, (features[77:], labels[77:]))).compute()
    torch.testing.assert_close(
        merged.cdnv.pairs, whole.cdnv.pairs, rtol=1e-12, atol=0, equal_nan=True
    )
    torch.testing.assert_close(merged.nc1, whole.nc1, rtol=1e-12, atol=0)
    left.reset()
    left.update(features, labels)
    assert torch.equal(left.compute().nc1, whole.nc1)
    assert left.all_reduce() is left  # one process: nothing to add


def share_of_rank(rank: int, folder: str) -> list[Tensor]:
    """What both ranks hold after adding their parts of the batch."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=100),
    )
    try:
        features, labels = batch(torch.float32)
        geometry = geometry_of(features, labels)
        mine = slice(0, 100) if rank == 0 else slice(100, 300)
        projections = projected(geometry, (features[mine], labels[mine])).all_reduce()
        disagreement = Disagreement(geometry)
        disagreement.update(features[mine], features[mine, :CLASSES])
        found = projections.compute()
        numbers = [found.cdnv.pairs, found.nc1, disagreement.all_reduce().compute()]
        torch.save(numbers, f"{folder}/{rank}.pt")
        return numbers
    finally:
        dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(
        target=share_of_rank, args=(1, str(tmp_path))
    )
    other.start()
    mine = share_of_rank(0, str(tmp_path))
    other.join(100)
    assert other.exitcode == 0
    features, labels = batch(torch.float32)
    geometry = geometry_of(features, labels)
    whole = projected(geometry, (features, labels)).compute()
    expected = [whole.cdnv.pairs, whole.nc1, nc4(features, features[:, :CLASSES], geometry)]
    for numbers in (mine, torch.load(tmp_path / "1.pt")):
        for ours, one in zip(numbers, expected, strict=True):
            torch.testing.assert_close(ours, one, rtol=1e-12, atol=0, equal_nan=True)


def test_autocast_and_inference_mode_change_nothing(device: str) -> None:
    features, labels = batch(torch.float32, device)
    geometry = geometry_of(features, labels)
    whole = projected(geometry, (features, labels))
    with torch.autocast(device, dtype=torch.bfloat16):
        other = projected(geometry, (features, labels))
    assert torch.equal(other._sums, whole._sums)
    with torch.inference_mode():
        inside = projected(geometry, (features[:90] + 0, labels[:90] + 0))
    inside.update(features[90:].requires_grad_(), labels[90:])
    torch.testing.assert_close(inside._sums, whole._sums, rtol=1e-12, atol=1e-12)
    assert not inside.compute().cdnv.pairs.requires_grad


def test_other_samples_than_those_of_the_means(device: str) -> None:
    """Test samples about the training means: the mean square along the line, not a variance."""
    features, labels = batch(torch.float32, device)
    others, other_labels = batch(torch.float32, device, seed=9)
    other_labels[:9] = 3  # has no mean: left out
    geometry = geometry_of(features, labels)
    both = projected(geometry, (others, other_labels)).compute()
    other_labels[:9] = -1
    torch.testing.assert_close(
        both.nc1, projected(geometry, (others, other_labels)).compute().nc1, rtol=1e-12, atol=0
    )
    found = both.cdnv.pairs
    i, j = 0, 4
    line = geometry.means[j] - geometry.means[i]
    along = (others[other_labels == i].double() - geometry.means[i]) @ line
    exact = along.square().mean() / line.square().sum() ** 2
    assert float(found[i, j]) == pytest.approx(float(exact), rel=1e-12)
    assert found[3].isnan().all()
    assert found[:, 3].isnan().all()


def test_nan_samples_spoil_their_class_alone() -> None:
    features, labels = batch(torch.float32)
    features[labels == -1] = torch.nan  # nobody's
    clean = projected(geometry_of(features, labels), (features, labels)).compute().cdnv.pairs
    assert clean.isfinite().sum() == 12
    features[(labels == 1).nonzero()[0]] = torch.nan
    statistics = ClassStatistics(CLASSES)
    statistics.update(features, labels)
    found = projected(statistics.compute(), (features, labels)).compute()
    assert found.cdnv.included[1]  # the NaN is the data's, and shows
    assert found.cdnv.pairs[1].isnan().all()
    assert found.cdnv.pairs[:, 1].isnan().all()
    kept = torch.tensor([0, 2, 4])
    torch.testing.assert_close(
        found.cdnv.pairs[kept][:, kept], clean[kept][:, kept], rtol=1e-10, atol=0, equal_nan=True
    )
    assert found.nc1.isnan()


def test_equal_means_and_lone_classes() -> None:
    """Two classes on one point: nothing divides them. One class: there is no pair."""
    features = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    labels = torch.tensor([0, 0, 1, 1])
    found = projected(geometry_of(features, labels), (features, labels)).compute()
    assert found.cdnv.pairs[0, 1] == found.cdnv.pairs[1, 0] == torch.inf
    assert found.nc1 == torch.inf
    alone = projected(geometry_of(features, labels * 0), (features, labels * 0)).compute()
    assert alone.cdnv.count == 0
    assert alone.cdnv.mean.isnan()
    assert alone.nc1 == torch.inf


def test_nc1_cuts_off_what_the_means_do_not_span() -> None:
    """Means on a line, in 20 dimensions: one axis counts, the others hold their rounding."""
    make = maker(torch.float64, "cpu")
    labels = torch.arange(120) % 4
    direction = make(20)
    deviations = (
        make(60, 20).repeat_interleave(2, 0) * torch.tensor([1.0, -1.0]).repeat(60)[:, None]
    )
    features = labels.sort().values.double()[:, None] * direction + deviations
    geometry = geometry_of(features, labels.sort().values)
    found = projected(geometry, (features, labels.sort().values)).compute().nc1
    along = (deviations @ direction).square().mean() / direction.square().sum() ** 2
    # Of the numbers 0 to 3, the variance is 5 / 4; C = 4.
    assert float(found) == pytest.approx(float(along / (5 / 4) / 4), rel=1e-10)
    torch.testing.assert_close(found, geometry.nc1(), rtol=1e-10, atol=0)


def test_a_simplex_has_collapsed() -> None:
    features = torch.eye(CLASSES).repeat(4, 1)
    labels = torch.arange(CLASSES).repeat(4)
    geometry = geometry_of(features, labels)
    found = projected(geometry, (features, labels)).compute()
    assert float(found.cdnv.max) < 1e-30
    assert float(found.nc1) < 1e-30
    assert nc4(features, features, geometry) == 0


def test_nc4_counts_where_the_classifier_and_the_nearest_centre_differ(device: str) -> None:
    features, labels = batch(torch.float32, device)
    geometry = geometry_of(features, labels)
    make = maker(torch.float32, device, seed=4)
    weight, bias = make(CLASSES, 20), make(CLASSES)
    logits = features @ weight.T + bias
    apart = (features.double()[:, None] - geometry.means).square().sum(2).nan_to_num(torch.inf)
    differing = (logits.argmax(1) != apart.argmin(1)).double().mean()
    assert 0 < differing < 1
    assert nc4(features, logits, geometry) == differing
    assert nc4(features.view(300, 4, 5), (weight, bias), geometry) == differing
    plain = nc4(features, (weight, None), geometry)
    assert plain == nc4(features, features @ weight.T, geometry)
    left, right = Disagreement(geometry), Disagreement(geometry)
    left.update(features[:40], logits[:40])
    right.update(features[40:90], logits[40:90])
    right.update(features[90:], logits[90:])
    assert left.merge(right).compute() == differing
    assert nc4(features[:0], logits[:0], geometry).isnan()
    # The rule of the nearest centre as a linear map: <x, m> - |m|^2 / 2.
    means = geometry.means.nan_to_num(0)
    weight, bias = means, -means.square().sum(1) / 2
    bias[~geometry.present] = -torch.inf
    assert nc4(features.double(), (weight, bias), geometry) == 0


@pytest.mark.cuda
def test_a_wrong_label_on_a_gpu_is_left_for_compute() -> None:
    features, labels = batch(torch.float32, "cuda")
    projections = Projections(geometry_of(features, labels))
    projections.update(features, labels)
    counted = projections._sums.clone()
    wrong = labels.clone()
    wrong[7], wrong[11] = CLASSES, -5
    torch.cuda.set_sync_debug_mode("error")
    try:
        projections.update(features, wrong)
        projections.update(features, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(projections._sums, counted)
    sentence = f"dlaccel.Projections: labels must lie in [0, {CLASSES}) or be -1, got 6 at 7."
    for call in (projections.compute, lambda: projections.merge(projections)):
        with pytest.raises(ValueError, match="labels must lie") as caught:
            call()
        assert str(caught.value) == sentence


def test_how_a_gpu_notes_a_wrong_label() -> None:
    """The same tensor code on the CPU, where ``update`` itself would have refused."""
    features, labels = batch(torch.float32)
    projections = Projections(geometry_of(features, labels))
    assert torch.equal(projections._note_fault(labels), labels)
    wrong = labels.clone()
    wrong[7], wrong[11] = CLASSES, -5
    assert (projections._note_fault(wrong) == -1).all()
    wrong[2] = 99
    assert (projections._note_fault(wrong) == -1).all()  # the first fault stays
    for call in (projections.compute, lambda: Projections(projections.geometry).merge(projections)):
        with pytest.raises(ValueError, match="labels must lie"):
            call()
    with pytest.raises(ValueError, match="labels must lie") as caught:
        projections.merge(Projections(projections.geometry))
    assert str(caught.value) == (
        f"dlaccel.Projections: labels must lie in [0, {CLASSES}) or be -1, got 6 at 7."
    )
    projections.reset()
    assert torch.equal(projections._note_fault(labels), labels)
