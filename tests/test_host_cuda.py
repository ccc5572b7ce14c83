"""The CUDA kernels' own source, run on the host by csrc/host_cuda: right results in every order of
threads, and planted faults that must be caught.

The build stands in build/host_cuda. With DLACCEL_SANITIZE=1 the module has the sanitizers; Python
must then be started with LD_PRELOAD of libasan and libstdc++ and with ASAN_OPTIONS=detect_leaks=0.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from samples import maker, relative_error
from torch import Tensor

from dlaccel.ops._glu_family import ACTIVATIONS, CODES, _sum_scratch, gated_product

ROOT = Path(__file__).parents[1]
ALPHA, LIMIT = 1.702, 1.5  # a limit that a good part of the samples passes
SANITIZE = os.environ.get("DLACCEL_SANITIZE") == "1"


class Build(NamedTuple):
    module: ModuleType
    faults: Path


def _cmake() -> str | None:
    beside = Path(sys.executable).parent / "cmake"
    return str(beside) if beside.exists() else shutil.which("cmake")


@pytest.fixture(scope="session")
def build() -> Build:
    cmake = _cmake()
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if cmake is None or compiler is None or importlib.util.find_spec("pybind11") is None:
        pytest.skip("needs cmake, a C++ compiler and pybind11")
    import pybind11

    folder = ROOT / "build" / ("host_cuda_asan" if SANITIZE else "host_cuda")
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=environment["PATH"]) else []
    steps = (
        [
            cmake, "-S", str(ROOT), "-B", str(folder), *generator,
            "-DDLACCEL_HOST_CUDA=ON", "-DDLACCEL_CUDA=OFF",
            f"-DDLACCEL_SANITIZE={'ON' if SANITIZE else 'OFF'}",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ],
        [cmake, "--build", str(folder), "-j", "2", "--target", "_cuda_host", "host_cuda_faults"],
    )  # fmt: skip
    for step in steps:
        done = subprocess.run(step, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (library,) = (
        path
        for suffix in importlib.machinery.EXTENSION_SUFFIXES[:1]
        for path in folder.glob(f"_cuda_host{suffix}")
    )
    spec = importlib.util.spec_from_file_location("_cuda_host", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Build(module, folder / "host_cuda_faults")


def tolerance(dtype: torch.dtype, rows: int = 1) -> float:
    """At most 14 roundings in the compute type, one in the dtype; a sum over rows adds rows more,
    whose errors grow as their square root."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return 0.5 * torch.finfo(dtype).eps + 7 * torch.finfo(compute).eps * (1 + rows**0.5)


class Guarded:
    """An output full of NaN inside a buffer of a known number, which must stay as it was."""

    def __init__(self, like: Tensor, margin: int = 8) -> None:
        size = like.numel()
        self.buffer = torch.full((size + 2 * margin,), 7.0, dtype=like.dtype)
        self.buffer[margin : margin + size] = float("nan")
        self.inside = slice(margin, margin + size)
        self.tensor = self.buffer[self.inside].view(like.shape)

    def check(self) -> Tensor:
        edges = self.buffer.clone()
        edges[self.inside] = 7.0
        assert (edges == 7.0).all(), "a kernel wrote outside its output"
        return self.tensor


def reference(
    gate: Tensor, value: Tensor, dy: Tensor, biases: tuple[Tensor, ...], code: int
) -> tuple[Tensor, ...]:
    """y, then the gradients of gate, value and the biases, in float64."""
    leaves = [t.double().clone().requires_grad_() for t in (gate, value, *biases)]
    left, right = leaves[:2]
    if biases:
        left, right = left + leaves[2], right + leaves[3]
    y = gated_product(left, right, code, ALPHA, LIMIT)
    return (y.detach(), *torch.autograd.grad(y, leaves, dy.double()))


def run(
    module: ModuleType,
    gate: Tensor,
    value: Tensor,
    dy: Tensor,
    activation: str,
    *,
    biases: tuple[Tensor, ...] = (),
    blocks: int | None = None,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """Both kernels, compared with the reference; returns what the gradient kernel wrote."""
    code = CODES[activation]
    rows = gate.numel() // max(gate.shape[-1], 1)
    y, product, dgate, dvalue = (Guarded(gate) for _ in range(4))
    rows_of = [Guarded(b) for b in biases]
    compute = torch.float64 if gate.dtype == torch.float64 else torch.float32
    scratch = torch.full((blocks or 1, 2, gate.shape[-1]), float("nan"), dtype=compute)
    given: tuple[Any, ...] = biases or (None, None)
    module.glu(seed, y.tensor, gate, value, code, ALPHA, LIMIT, *given)
    sums = [r.tensor for r in rows_of] or [None, None]
    module.glu_grad(
        seed, dgate.tensor, dvalue.tensor, product.tensor, *sums, dy, gate, value, *given,
        code, ALPHA, LIMIT, *([] if blocks is None else [scratch]),
    )  # fmt: skip
    want_y, *want = reference(gate, value, dy, biases, code)
    limit = tolerance(gate.dtype)
    assert relative_error(y.check(), want_y) <= limit
    assert relative_error(product.check(), want_y) <= limit
    results = [dgate.check(), dvalue.check(), *(r.check() for r in rows_of)]
    for result, truth in zip(results[:2], want, strict=False):
        assert relative_error(result, truth) <= limit
    for result, truth in zip(results[2:], want[2:], strict=True):
        assert relative_error(result, truth) <= tolerance(gate.dtype, max(rows, 1))
    return tuple(results)


SIZES = ((0, 5), (3, 0), (1,), (1, 1), (7, 129), (3, 5, 17), (257, 64), (2, 4099))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(build: Build, activation: str) -> None:
    make = maker(torch.float32, "cpu")
    for size in SIZES:
        run(build.module, make(*size), make(*size), make(*size), activation)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["silu", "gelu", "clamped"])
def test_dtypes(build: Build, dtype: torch.dtype, activation: str) -> None:
    make = maker(dtype, "cpu")
    for size in SIZES:
        run(build.module, make(*size), make(*size), make(*size), activation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [8, 37, 1031])
def test_layouts(build: Build, dtype: torch.dtype, columns: int) -> None:
    make = maker(dtype, "cpu")
    plain = make(6, columns)
    halves = make(6, 2 * columns).chunk(2, -1)
    layouts = {
        "halves": halves,
        "shifted by one": tuple(t[:, 1:] for t in (make(6, columns + 1), make(6, columns + 1))),
        "shifted by two": tuple(make(6 * columns + 2)[2:].view(6, columns) for _ in range(2)),
        "transposed": (make(columns, 6).T, make(columns, 6).T),
        "one transposed": (plain, make(columns, 6).T),
        "every other": (make(6, 2 * columns)[:, ::2], plain),
        "expanded": (make(1, columns).expand(6, columns), make(6, 1).expand(6, columns)),
        "several axes": tuple(make(3, 2, 2, columns)[:, 1].transpose(0, 1) for _ in range(2)),
    }
    for gate, value in layouts.values():
        ones = make(1).expand(gate.shape)  # as sum().backward() sends
        for dy in (make(*gate.shape), ones):
            run(build.module, gate, value, dy, "silu")
        biases = (make(columns), make(2 * columns)[::2])
        run(build.module, gate, value, make(*gate.shape), "silu", biases=biases, blocks=3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_bias_gradients_have_the_same_bits_in_every_order(build: Build, dtype: torch.dtype) -> None:
    make = maker(dtype, "cpu")
    for size in ((1, 3), (130, 72), (2, 5, 300)):
        gate, value, dy = make(*size), make(*size), make(*size)
        biases = (make(size[-1]), make(size[-1]))
        for blocks in (None, 4, 40):
            results = [
                run(
                    build.module, gate, value, dy, "gelu", biases=biases, blocks=blocks, seed=seed
                )
                for seed in range(3)
            ]  # fmt: skip
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("size", [(4096, 8), (100, 3), (5, 7), (0, 5), (3, 0), (2, 64, 33)])
def test_the_ops_own_scratch_fits(build: Build, size: tuple[int, ...]) -> None:
    make = maker(torch.float32, "cpu")
    gate, value, dy, p, q = (make(*s) for s in (size, size, size, size[-1:], size[-1:]))
    scratch = _sum_scratch(gate)
    assert bool(scratch) == (size in ((4096, 8), (100, 3), (2, 64, 33)))
    for row in scratch:
        assert (row.shape[1:], row.dtype) == ((2, size[-1]), torch.float32)
    blocks = scratch[0].shape[0] if scratch else None
    run(build.module, gate, value, dy, "silu", biases=(p, q), blocks=blocks)


def test_bias_gradients_of_no_rows_are_zero(build: Build) -> None:
    make = maker(torch.float32, "cpu")
    empty, biases = make(0, 5), (make(5), make(5))
    for blocks in (None, 2):
        *_, dgate_bias, dvalue_bias = run(
            build.module, empty, empty, empty, "tanh", biases=biases, blocks=blocks
        )
        assert not dgate_bias.any()
        assert not dvalue_bias.any()


def test_more_rows_than_one_grid_holds(build: Build) -> None:
    """65535 blocks of 256 rows are the most that one launch covers; x x is exact here."""
    rows = 65535 * 256 + 300
    x = torch.empty(rows, 4, dtype=torch.float16).random_(0, 4)[:, :3]
    out = torch.full((rows, 3), float("nan"), dtype=torch.float16)
    build.module.glu(0, out, x, x, CODES["identity"], ALPHA, LIMIT)
    assert torch.equal(out, x * x)


def test_extremes(build: Build) -> None:
    inf = float("inf")
    gate = torch.tensor([inf, -inf, 0.0, -0.0, 3e38, -3e38, 1e-45, float("nan")])
    for name in ("identity", "sigmoid", "silu", "gelu", "relu", "tanh"):
        out = torch.empty_like(gate)
        ones = torch.ones_like(gate)
        build.module.glu(0, out, gate, ones, CODES[name], ALPHA, LIMIT)
        want = gated_product(gate.double(), ones.double(), CODES[name], ALPHA, LIMIT).float()
        # 1e-45 is the least denormal: results there have one bit.
        torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-45, equal_nan=True)


def test_refusals(build: Build) -> None:
    x, row = torch.zeros(4, 6), torch.zeros(6)
    with pytest.raises(ValueError, match=r"glu: unknown activation code\."):
        build.module.glu(0, x, x, x, len(ACTIVATIONS), ALPHA, LIMIT)
    with pytest.raises(ValueError, match=r"glu_grad: a bias gradient must be as long as"):
        build.module.glu_grad(
            0, x, x, None, row[:5], row, x, x, x, row, row, 2, ALPHA, LIMIT, None
        )  # fmt: skip
    for scratch in (torch.zeros(2, 2, 5), torch.zeros(2, 6, 2).mT, torch.zeros(2, 2, 6).double()):
        with pytest.raises(ValueError, match=r"the scratch of column sums must be a contiguous"):
            build.module.glu_grad(
                0, x, x, None, row, row, x, x, x, row, row, 2, ALPHA, LIMIT, scratch
            )


FAULTS = {
    "out_of_bounds": "heap-buffer-overflow",
    "shared_out_of_bounds": "out of bounds",
    "missing_barrier": "row",
    "unwritten_shared": "row",
    "early_exit": "32 threads wait at __syncthreads, 96 have left the kernel",
    "absent_lanes": "wait for lanes of their warp that never come",
    "misaligned": "misaligned address",
}


def _faults(build: Build, name: str, seed: int) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"
    return subprocess.run(
        [build.faults, name, str(seed)], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["none", "collectives"])
def test_right_kernels_pass(build: Build, name: str, seed: int) -> None:
    done = _faults(build, name, seed)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(build: Build, name: str, seed: int) -> None:
    done = _faults(build, name, seed)
    assert done.returncode == 1, done.stdout + done.stderr
    assert FAULTS[name] in done.stdout + done.stderr
