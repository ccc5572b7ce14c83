"""Two processes over gloo, and what they must agree with: one process that has seen everything."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import spawn

from dlaccel.collapse import ClassStatistics

RANKS, CLASSES, WIDTH = 2, 6, 9
MOMENTS = ("trace", "pooled", "full")
SHIFTS = ("first", "common", "given")
# Which samples each rank has seen: class 5 on rank 1 alone; nothing on rank 0; nothing anywhere.
SHARES = {"both": [(0, 200), (200, 400)], "one": [(0, 0), (0, 400)], "none": [(0, 0), (0, 0)]}
CASES = list(itertools.product(MOMENTS, SHIFTS, (None, WIDTH), SHARES))


def samples() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % CLASSES
    labels[:200][labels[:200] == 5] = -1
    means = 3 + torch.randn(CLASSES, WIDTH, generator=draw)
    return means[labels] + 0.3 * torch.randn(400, WIDTH, generator=draw), labels


def statistics(case: tuple[Any, ...], spans: list[tuple[int, int]]) -> ClassStatistics:
    moments, shift, dim, _ = case
    x, labels = samples()
    given = torch.linspace(2, 4, WIDTH) if shift == "given" else shift
    made = ClassStatistics(CLASSES, dim, moments=moments, shift=given)
    for start, end in spans:
        if start < end:
            made.update(x[start:end], labels[start:end])
    return made


def work(rank: int, folder: str) -> None:
    """What one process does; it leaves its findings in a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    calls: list[int] = []
    reduce = dist.all_reduce

    def counted(tensor: Tensor, *args: Any, **options: Any) -> Any:
        calls.append(tensor.numel())
        return reduce(tensor, *args, **options)

    dist.all_reduce = counted
    found: dict[str, Any] = {"states": [], "calls": [], "errors": []}
    for case in CASES:
        calls.clear()
        made = statistics(case, [SHARES[case[-1]][rank]])
        assert made.all_reduce() is made
        found["states"].append(made.state_dict())
        found["calls"].append(list(calls))
    for case, change in ((CASES[0], "fault"), (CASES[0], "width")):
        made = statistics(case, [SHARES["both"][rank]])
        assert made._state is not None
        if change == "width" and rank == 1:
            made = ClassStatistics(CLASSES)
            made.update(torch.ones(2, 4), torch.tensor([0, 1]))
        if change == "fault" and rank == 1:
            made._state.fault.copy_(torch.tensor([3, 17, 0]))
        kept = made._state
        assert kept is not None
        try:
            made.all_reduce()
        except ValueError as error:
            found["errors"].append(str(error))
        assert made._state is kept
    group = dist.new_group([0])
    alone = statistics(CASES[0], [SHARES["both"][rank]])
    if rank == 0:
        alone.all_reduce(group)
    found["alone"] = alone.state_dict()
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def loaded(case: tuple[Any, ...], state: dict[str, Any]) -> ClassStatistics:
    made = statistics(case, [])
    made.load_state_dict(state)
    return made


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_equal_one(found: list[dict[str, Any]], number: int) -> None:
    case = CASES[number]
    states = [rank["states"][number] for rank in found]
    whole = statistics(case, SHARES[case[-1]]).compute()
    if case[-1] == "none" and case[2] is None and case[1] != "given":
        assert [state["tensors"] for state in states] == [None, None]
        return
    for name, tensor in states[0]["tensors"].items():
        assert torch.equal(tensor, states[1]["tensors"][name]), name
    total = loaded(case, states[0]).compute()
    for name in ("counts", "means", "variances", "scatter", "class_covariances"):
        mine, exact = getattr(total, name), getattr(whole, name)
        if exact is not None:
            assert torch.equal(mine.isnan(), exact.isnan())
            mine, exact = mine.nan_to_num(), exact.nan_to_num()
            assert (mine - exact).norm() <= 1e-12 * exact.norm()


@pytest.mark.parametrize("number", range(len(CASES)))
def test_collectives(found: list[dict[str, Any]], number: int) -> None:
    """The buffer goes once, with a place for a fault; a given shift needs no other round."""
    case = CASES[number]
    moments, shift, dim, share = case
    matrices = {"trace": 0, "pooled": 1, "full": CLASSES}[moments]
    buffer = CLASSES * (3 + WIDTH) + matrices * WIDTH**2 + 1
    rows = {"first": CLASSES, "common": 1, "given": 0}[shift]
    wanted = [2] * (dim is None and shift != "given")
    if share != "none" or not wanted:
        wanted += [rows * (WIDTH + 1)] * (rows > 0) + [buffer]
    for rank in found:
        assert rank["calls"][number] == wanted


def test_every_rank_hears_of_what_is_wrong_on_one(found: list[dict[str, Any]]) -> None:
    fault = "dlaccel.class_moments: labels must lie in [0, 6) or be -1, got 17 at 3."
    other = (
        "dlaccel.ClassStatistics: an update must have right labels and weights on every rank, "
        "got wrong ones on another rank."
    )
    width = "dlaccel.ClassStatistics: features must have one width on all ranks, got 4 to 9."
    assert found[0]["errors"] == [other, width]
    assert found[1]["errors"] == [fault, width]


def test_a_group(found: list[dict[str, Any]]) -> None:
    for rank, share in enumerate(SHARES["both"]):
        mine = loaded(CASES[0], found[rank]["alone"]).compute()
        torch.testing.assert_close(
            mine.means, statistics(CASES[0], [share]).compute().means, equal_nan=True
        )


def test_without_processes_nothing_changes() -> None:
    made = statistics(CASES[0], [(0, 400)])
    before = made.state_dict()["tensors"]
    assert made.all_reduce() is made
    for name, tensor in made.state_dict()["tensors"].items():
        assert torch.equal(tensor, before[name])
