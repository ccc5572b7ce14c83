"""Few-shot errors of pairs of classes, and of k, against loops and against what theory says."""

import math
from itertools import combinations
from statistics import NormalDist

import pytest
import torch
from samples import maker
from torch import Tensor

from dlaccel.collapse import pairwise
from dlaccel.collapse.episodes import draw_episodes
from dlaccel.collapse.pairwise import centre_errors, k_way_errors, pairwise_errors

SIZES = (5, 7, 3, 6)
SHOTS, DRAWS, SEED = 2, 6, 9


def samples(device: str, width: int = 3, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Classes of different sizes, in no order, and samples of no class."""
    make = maker(torch.float64, device, seed=2)
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate((*SIZES, 4))])
    labels[labels == 4] = -1
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    features = make(4, width)[labels.to(device)] + spread * make(len(labels), width)
    return features.float(), labels.to(device)


def looped(features: Tensor, labels: Tensor) -> list[list[list[bool]]]:
    """For each draw and held-out sample of class i its i and whether each centre is as near."""
    drawn = draw_episodes(labels, ways=4, shots=SHOTS, queries=0, episodes=DRAWS, seed=SEED)
    rows = features.double().flatten(1)
    found = []
    for classes, support in zip(drawn.classes.tolist(), drawn.support, strict=True):
        centres = {c: rows[s].mean(0) for c, s in zip(classes, support, strict=True)}
        used = set(support.flatten().tolist())
        for row, own in enumerate(labels.tolist()):
            if own >= 0 and row not in used:
                far = {c: float((rows[row] - m).square().sum()) for c, m in centres.items()}
                found.append((own, [far[c] <= far[own] for c in range(4)]))
    return found


def test_pairs_and_ranks_are_those_of_plain_loops(device: str) -> None:
    features, labels = samples(device)
    found = centre_errors(features, labels, shots=SHOTS, draws=DRAWS, seed=SEED)
    outcomes = looped(features, labels)
    for i in range(4):
        mine = [near for own, near in outcomes if own == i]
        assert len(mine) == DRAWS * (SIZES[i] - SHOTS)
        for j in range(4):
            share = sum(near[j] for near in mine) / len(mine)
            assert i == j or float(found.pairs[i, j]) == pytest.approx(share, rel=1e-12)
        for b in range(4):
            share = sum(sum(near) - 1 == b for near in mine) / len(mine)
            assert float(found.nearer[i, b]) == pytest.approx(share, rel=1e-12, abs=1e-300)
    assert found.pairs.diagonal().isnan().all()
    pairs = pairwise_errors(features, labels, shots=SHOTS, draws=DRAWS, seed=SEED)
    torch.testing.assert_close(pairs, found.pairs, rtol=0, atol=0, equal_nan=True)


def test_k_way_errors_are_those_of_all_sets_of_classes(device: str) -> None:
    features, labels = samples(device)
    outcomes = looped(features, labels)
    for ways in (2, 3, 4):
        found = k_way_errors(features, labels, ways, shots=SHOTS, draws=DRAWS, seed=SEED)
        for i in range(4):
            sets = list(combinations([j for j in range(4) if j != i], ways - 1))
            wrong = [any(near[j] for j in s) for own, near in outcomes if own == i for s in sets]
            assert float(found[i]) == pytest.approx(sum(wrong) / len(wrong), rel=1e-12)


def test_theorem_2_holds_on_the_draws_themselves(device: str) -> None:
    """k-way error <= (k - 1) mean pairwise error, with equality at 2, class by class."""
    features, labels = samples(device, spread=0.7)
    found = centre_errors(features, labels, shots=SHOTS, draws=DRAWS, seed=SEED)
    mean = found.pairs.nanmean(1)
    torch.testing.assert_close(found.k_way(2), mean, rtol=1e-12, atol=0)
    for ways in (3, 4):
        assert (found.k_way(ways) <= (ways - 1) * mean * (1 + 1e-12)).all()
        assert (found.k_way(ways) > mean).all()
    assert float(found.by_draw.mean()) == pytest.approx(float(mean.mean()), rel=1e-12)


def one_dimensional_error(distance: float, sigma: float, shots: int) -> float:
    """E_n of two normal classes on a line, exactly.

    |x - a| >= |x - b| is (b - a) (2 x - a - b) >= 0 for the centres a and b of n samples. Both
    factors are normal, with means d and -d, and independent, since a and b have one variance.
    """
    between = distance / (sigma * math.sqrt(2 / shots))
    along = distance / (sigma * math.sqrt(4 + 2 / shots))
    below, right = NormalDist().cdf(-between), NormalDist().cdf(along)
    return (1 - below) * (1 - right) + below * right


@pytest.mark.parametrize("shots", [1, 4])
def test_gaussian_classes_have_the_error_that_theory_gives(shots: int) -> None:
    """60 sets of 40 samples each; their mean is within 5 standard errors of the exact value."""
    make = maker(torch.float64, "cpu", seed=shots)
    labels = torch.arange(3).repeat_interleave(40)
    centres = torch.tensor([0.0, 1.5, 4.0], dtype=torch.float64)
    found = torch.stack([
        pairwise_errors(centres[labels] + make(120), labels, shots=shots, draws=30, seed=s)
        for s in range(60)
    ])  # fmt: skip
    mean, error = found.mean(0), found.std(0) / math.sqrt(60)
    for i in range(3):
        for j in range(3):
            if i != j:
                exact = one_dimensional_error(abs(float(centres[i] - centres[j])), 1, shots)
                assert abs(float(mean[i, j]) - exact) <= 5 * float(error[i, j])
                assert float(error[i, j]) < 0.01


@pytest.mark.parametrize("looked_up", [False, True])
def test_tiles_and_routes_change_nothing(
    looked_up: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = samples(device, width=11)
    whole = centre_errors(features, labels, shots=SHOTS, draws=DRAWS, seed=SEED)
    monkeypatch.setattr(pairwise, "SCORES", 60)
    monkeypatch.setattr(pairwise, "STRIP", 90)
    monkeypatch.setattr(pairwise, "SCORED", -1e9 if looked_up else 1e9)
    tiled = centre_errors(features, labels, shots=SHOTS, draws=DRAWS, seed=SEED)
    for a, b in ((whole.pairs, tiled.pairs), (whole.nearer, tiled.nearer)):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(whole.by_draw, tiled.by_draw, rtol=1e-12, atol=0)


def test_an_offset_changes_nothing_and_ties_are_errors(device: str) -> None:
    """Small integers, exact in float32 at 1e4 too: many ties, the same with the offset."""
    features, labels = samples(device)
    whole = features.round()
    found = pairwise_errors(whole, labels, shots=1, draws=DRAWS, seed=SEED)
    moved = pairwise_errors(whole + 1e4, labels, shots=1, draws=DRAWS, seed=SEED)
    torch.testing.assert_close(found, moved, rtol=0, atol=0, equal_nan=True)
    flat = pairwise_errors(torch.ones_like(whole), labels, shots=1, draws=2, seed=SEED)
    assert (flat[~torch.eye(4, dtype=torch.bool, device=device)] == 1).all()


def test_classes_without_a_sample_to_hold_out_are_left_out(device: str) -> None:
    features, labels = samples(device)
    found = centre_errors(features, labels, shots=5, draws=3, seed=0)
    kept = torch.tensor([False, True, False, True], device=device)
    among = kept & kept[:, None] & ~torch.eye(4, dtype=torch.bool, device=device)
    assert torch.equal(~found.pairs.isnan(), among)
    assert torch.equal(~found.k_way(2).isnan(), kept)
    torch.testing.assert_close(found.k_way(2)[1], found.pairs[1, 3], rtol=1e-12, atol=0)


def refusal(kind: type[Exception], **changes: object) -> str:
    features, labels = samples("cpu")
    given = {"features": features, "labels": labels, "shots": 2, "draws": 3, "seed": 0} | changes
    with pytest.raises(kind) as caught:
        centre_errors(**given)  # type: ignore[arg-type]
    return str(caught.value)


def test_refusals() -> None:
    assert refusal(ValueError, shots=6) == (
        "dlaccel.pairwise_errors: labels must give two classes shots + 1 = 7 samples, "
        "got 1 such classes."
    )
    assert refusal(ValueError, draws=0) == (
        "dlaccel.pairwise_errors: draws must be at least 1, got 0."
    )
    assert refusal(ValueError, features=torch.zeros(3, 2)) == (
        "dlaccel.pairwise_errors: features must have a row for each of 25 labels, got shape (3, 2)."
    )
    assert refusal(TypeError, features=torch.zeros(25, 2, dtype=torch.int64)) == (
        "dlaccel.pairwise_errors: features must have dtype float64, float32, bfloat16 or float16, "
        "got int64."
    )
    features, labels = samples("cpu")
    with pytest.raises(
        ValueError, match=r"^dlaccel\.CentreErrors\.k_way: ways must lie in \[2, 4\]"
    ):
        k_way_errors(features, labels, 5, shots=2, draws=3, seed=0)
