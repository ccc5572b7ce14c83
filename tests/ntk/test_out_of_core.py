"""Kernels in files: whole, killed and resumed, over two processes, and the files of others."""

import datetime
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import get_context, spawn

from dlaccel import ntk
from dlaccel.ntk._tile_file import sidecar_of
from dlaccel.ntk.empirical import OUTPUTS, Outputs

X = torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(10, 4).sin()
TILES = 6  # of 10 rows by 4: three spans, the pairs on and below the diagonal


class Network(nn.Module):
    """Ends its process in a forward, once so many have gone through."""

    def __init__(self, forwards: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
        self.left = forwards
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(x)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("second", [None, X[:7].flip(0)])
def test_the_file_holds_the_kernel(tmp_path: Path, outputs: Outputs, second: Tensor | None) -> None:
    path = tmp_path / "kernel.npy"
    ntk.write(path, Network(), X, second, outputs=outputs, tile=4)
    found = ntk.open(path)
    whole = ntk.empirical(Network(), X, second, outputs=outputs)
    assert found.dtype == torch.float64
    # Tiles and the whole differ in the order of sums of at most 24 + 2 terms, forward and backward.
    assert (found - whole).abs().max() <= 52 * 2 * torch.finfo(
        torch.float64
    ).eps * whole.abs().max()
    if second is None:
        mirrored = {"full": (1, 0, 3, 2), "trace": (1, 0), "diagonal": (1, 0, 2)}
        assert torch.equal(found, found.permute(mirrored.get(outputs, (0, 2, 1))))
    assert np.array_equal(np.load(path), found.numpy())


def test_options_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kernel.npy"
    options: dict[str, Any] = {
        "outputs": "trace", "normalize": True, "precision": "float32", "parameters": "layers.0.*"
    }  # fmt: skip
    ntk.write(path, Network(), X, **options)
    assert torch.equal(ntk.open(path), ntk.empirical(Network(), X, **options))


def test_changes_to_what_was_opened_stay_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "kernel.npy"
    ntk.write(path, Network(), X, outputs="trace")
    before = path.read_bytes()
    ntk.open(path).zero_()
    assert path.read_bytes() == before


def _write(path: Path, forwards: int | None) -> None:
    torch.set_num_threads(1)
    ntk.write(path, Network(forwards), X, tile=4)


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    path, other = tmp_path / "kernel.npy", tmp_path / "whole.npy"
    # A forward to look at the network, then the rows of 1 + 2 + ... tiles: killed in the fourth.
    process = get_context("spawn").Process(target=_write, args=(path, 5))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    marks = sidecar_of(path).read_bytes().partition(b"\n")[2]
    done = marks.count(b"1")
    assert (len(marks), done) == (TILES, 3)
    with pytest.raises(ValueError, match=r"a finished kernel .* got one without 3 of its 6 tiles"):
        ntk.open(path)
    model = Network()
    ntk.write(path, model, X, tile=4)
    assert len(model.sizes) == 4  # the look, the third span of rows, and two spans of columns
    ntk.write(other, Network(), X, tile=4)
    assert torch.equal(ntk.open(path), ntk.open(other))


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    path, model = tmp_path / "kernel.npy", Network()
    ntk.write(path, model, X, tile=4)
    before = path.stat().st_mtime_ns
    model.sizes.clear()
    ntk.write(path, model, X, tile=4)
    assert len(model.sizes) == 1  # the look at the network
    assert path.stat().st_mtime_ns == before


def _other_weights(path: Path) -> None:
    model = Network()
    with torch.no_grad():
        model.layers[0].weight[0, 0] += 1e-9
    ntk.write(path, model, X, tile=4)


def _no_sidecar(path: Path) -> None:
    sidecar_of(path).unlink()
    _write(path, None)


def _no_data(path: Path) -> None:
    path.unlink()
    _write(path, None)


def _other_array(path: Path) -> None:
    np.save(path, np.zeros((2, 3)))
    _write(path, None)


def _other_sidecar(path: Path) -> None:
    sidecar_of(path).write_bytes(b"[]\n000000")
    _write(path, None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (_other_weights, "be this run's file, got another run's, which differs in model."),
        (
            lambda path: ntk.write(path, Network(), X + 1, tile=4),
            "be this run's file, got another run's, which differs in inputs.",
        ),
        (
            lambda path: ntk.write(path, Network(), X, tile=3),
            "be this run's file, got another run's, which differs in tile.",
        ),
        (
            lambda path: ntk.write(path, Network(), X, X, outputs="trace", tile=4),
            "got another run's, which differs in shape, outputs, symmetric, inputs.",
        ),
        (_no_sidecar, "name a file that is not there or that this run began, got"),
        (_no_data, "name the file of the tiles that are done, got"),
        (_other_array, "hold a kernel (10, 10, 2, 2) of float64, got (2, 3) of float64."),
        (_other_sidecar, "be this run's file, got"),
    ],
)
def test_files_of_others_are_refused(
    tmp_path: Path, call: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "kernel.npy"
    _write(path, None)
    with pytest.raises(ValueError, match=r"dlaccel\.ntk\.write: path must ") as caught:
        call(path)
    assert words in str(caught.value)


def test_arguments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernel.npy"
    with pytest.raises(ValueError, match=r"dlaccel\.ntk\.write: tile must be at least 1, got 0\."):
        ntk.write(path, Network(), X, tile=0)
    with pytest.raises(ValueError, match=r"dlaccel\.ntk\.write: normalize must be False but"):
        ntk.write(path, Network(), X, normalize=True)
    assert list(tmp_path.iterdir()) == []
    np.save(path, np.array(["no", "kernel"]))
    with pytest.raises(ValueError, match="hold an array of float32 or float64, got memmap of <U6"):
        ntk.open(path)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    found: dict[str, Any] = {}
    model = Network()
    ntk.write(f"{folder}/kernel.npy", model, X, tile=4)
    found["rows"] = sum(model.sizes)
    try:
        ntk.write(f"{folder}/kernel.npy", model, X + rank, tile=4)
    except ValueError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/found{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_share_the_tiles(tmp_path: Path) -> None:
    spawn(_rank, (str(tmp_path),), nprocs=2)
    whole = tmp_path / "whole.npy"
    model = Network()
    ntk.write(whole, model, X, tile=4)
    assert torch.equal(ntk.open(tmp_path / "kernel.npy"), ntk.open(whole))
    found = [torch.load(tmp_path / f"found{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(each["rows"] < sum(model.sizes) for each in found)
    # Rank 1 asks for other inputs: both raise, and neither waits for the other.
    sentence = "got another run's, which differs in inputs."
    assert sentence in found[1]["error"]
    assert f"{sentence} (on rank 1)" in found[0]["error"]


def _measured(folder: str) -> None:
    import resource

    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    x = torch.randn(6000, 8)
    ntk.empirical(model, x[:9], outputs="trace")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ntk.write(f"{folder}/kernel.npy", model, x, outputs="trace", memory=1 << 24)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(f"{folder}/kilobytes").write_text(str(after - before))


def test_memory_is_that_of_a_tile(tmp_path: Path) -> None:
    """The file has 144 MB; were it mapped while written, or a side held, all would be resident."""
    process = get_context("spawn").Process(target=_measured, args=(str(tmp_path),))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    file = (tmp_path / "kernel.npy").stat().st_size
    assert file > 144e6
    assert 1024 * int((tmp_path / "kilobytes").read_text()) < file / 3
