"""What the generic procedure tests cannot know of class_moments: a GPU's faults, on the host."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import torch
from test_host_cuda import Build, build
from torch import Tensor

from dlaccel import _core
from dlaccel.ops.class_moments import PROCEDURE, reference, scratch

__all__ = ["build"]  # the fixture
CLASSES, WIDTH = 5, 131  # two tiles of columns


def state(classes: int = CLASSES, width: int = WIDTH, common: bool = False) -> list[Tensor]:
    counts, samples, squares = torch.zeros(3, classes, dtype=torch.float64)
    sums = torch.zeros(classes, width, dtype=torch.float64)
    shifts = torch.zeros(1 if common else classes, width, dtype=torch.float64)
    return [counts, samples, sums, squares, shifts, torch.full((3,), -1)]


def batch(samples: int = 900, classes: int = CLASSES, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(samples)
    x = torch.randn(samples, width, generator=draw)
    return x, torch.randint(-1, classes, (samples,), generator=draw)


def on_host(build: Build, given: list[Tensor], *inputs: Any, seed: int = 0) -> None:
    """The CUDA kernels, in an order of threads drawn from the seed."""
    x, labels, weight = (*inputs, None)[:3]
    room = scratch(given[0], x)
    for tensor in room:  # nothing of it may be read before it was written
        tensor.fill_(-(10**6) if tensor.dtype == torch.int32 else torch.nan)
    build.module.class_moments(seed, *given, x, labels, weight, 1, *room)


def note(row: int, label: int, weight: float) -> list[int]:
    return [row, label, *struct.unpack("q", struct.pack("d", weight))]


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize(("classes", "samples"), [(1, 40), (5, 900), (100, 500), (1000, 0)])
def test_cuda_on_the_host(build: Build, classes: int, samples: int, common: bool) -> None:
    x, labels = batch(samples, classes)
    results = []
    for seed in range(3):
        mine, exact = state(classes, common=common), state(classes, common=common)
        for rows, y in ((x[: samples // 3], labels[: samples // 3]), (x, labels.int())):
            on_host(build, mine, rows, y, seed=seed)
            reference(*exact, rows, y, None, 1)
        # A sum of n numbers errs by 2^-53 of the sum of their sizes for each of its n additions.
        for ours, truth in zip(mine, exact, strict=True):
            torch.testing.assert_close(ours, truth, rtol=1e-12, atol=max(samples, 1) * 1e-14)
        results.append(mine)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


WRONG = {
    "label above": ([(700, CLASSES)], [], note(700, CLASSES, 1.0)),
    "label below": ([(3, -2)], [], note(3, -2, 1.0)),
    "the first of many": ([(899, 77), (412, 10**12), (500, -9)], [], note(412, 10**12, 1.0)),
    "negative weight": ([], [(20, -0.5)], note(20, 2, -0.5)),
    "weight without end": ([], [(0, torch.inf)], note(0, 1, torch.inf)),
    "an ignored sample's weight": ([(30, -1)], [(30, -1.0)], note(30, -1, -1.0)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_is_noted_and_nothing_is_added(build: Build, name: str) -> None:
    wrong_labels, wrong_weights, wanted = WRONG[name]
    x, labels = batch()
    labels[[0, 20]] = torch.tensor([1, 2])
    good = labels.clone()
    weight = torch.ones(900)
    for row, label in wrong_labels:
        labels[row] = label
    for row, number in wrong_weights:
        weight[row] = number
    mine, plain = state(), state()
    on_host(build, mine, x, good)
    before = [tensor.clone() for tensor in mine[:5]]
    on_host(build, mine, x, labels, weight, seed=1)
    assert mine[5].tolist() == wanted
    on_host(build, mine, x, good)  # until somebody has looked, nothing is counted
    on_host(build, mine, x, torch.full_like(labels, 99))
    assert mine[5].tolist() == wanted
    assert all(torch.equal(a, b) for a, b in zip(mine[:5], before, strict=True))
    reference(*plain, x, labels, weight, 1)
    assert plain[5].tolist() == wanted
    assert not any(tensor.any() for tensor in plain[:5])


def test_nan_weight_is_a_fault(build: Build) -> None:
    x, labels = batch()
    weight = torch.ones(900, dtype=torch.float64)
    weight[[8, 9]] = torch.nan
    mine = state()
    on_host(build, mine, x, labels, weight)
    assert mine[5][:2].tolist() == [8, int(labels[8])]
    assert mine[5][2:].view(torch.float64).isnan()


def test_scratch_is_refused_when_it_does_not_fit(build: Build) -> None:
    x, labels = batch(64)
    mine = state()
    room = scratch(mine[0], x)
    for place, tensor in enumerate(room):
        short = [*room[:place], tensor[..., :-1], *room[place + 1 :]]
        with pytest.raises(ValueError, match="class_moments: the scratch is contiguous"):
            build.module.class_moments(0, *mine, x, labels, None, 1, *short)
    with pytest.raises(ValueError, match="class_moments: CUDA needs places"):
        build.module.class_moments(0, *mine, x, labels, None, 1)


@pytest.mark.skipif(_core.ISA in (None, "cuda_host"), reason="no compiled CPU module here")
def test_state_of_another_layout_is_refused() -> None:
    x, labels = batch(64)
    kernel = _core.kernel("class_moments", "cpu")
    assert kernel is not None
    for place in range(6):
        for change in (lambda t: t[..., :-1], lambda t: t.float()):
            mine = state()
            mine[place] = change(mine[place])
            with pytest.raises(ValueError, match="class_moments: the state is contiguous"):
                kernel(1, *mine, x, labels, None, 1)
            assert not any(tensor.any() for tensor in mine[:5])


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("common", [False, True])
def test_adopted_shifts_are_finite(build: Build, common: bool, wrong: float) -> None:
    x, labels = batch(300)
    labels[0] = 2
    x[0, 7], x[0, 130] = wrong, -wrong
    mine, host, exact = (state(common=common) for _ in range(3))
    PROCEDURE(*mine, x, labels, None, 1)
    on_host(build, host, x, labels)
    reference(*exact, x, labels, None, 1)
    for found in (mine, host):
        shift = found[4][0 if common else 2]
        assert torch.equal(shift[:7], x[0, :7].double())
        assert shift[[7, 130]].tolist() == [0, 0]
        assert torch.equal(found[4], exact[4])
        assert torch.equal(found[2].isfinite(), exact[2].isfinite())
        assert torch.equal(found[3].isfinite(), exact[3].isfinite())
        assert found[3].isfinite().sum() == CLASSES - 1
