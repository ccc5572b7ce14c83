"""CONTRIBUTING.md, "Adding an op", tried: five places and nothing else make an op that passes."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pybind11 = pytest.importorskip("pybind11", reason="needs pybind11 to build a module")
ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("g++")

PYTHON = '''
"""The skip of a polynomial network."""

import torch
from torch import Tensor

from .. import _check
from .._op import Op
from .._spec import Bad, OpSpec


def hadamard_skip(u: Tensor, z: Tensor) -> Tensor:
    r"""Multiplies and adds: :math:`y = u z + z`, shapes (..., D)."""
    return FORWARD(u, z)


def check(u: Tensor, z: Tensor) -> None:
    _check.tensors("hadamard_skip", {"u": u, "z": z})
    _check.same("hadamard_skip", "u", {"u": u, "z": z})


GRADIENT = Op(
    name="hadamard_skip_grad", schema="Tensor dy, Tensor u, Tensor z", returns=2,
    outputs=lambda dy, u, z: (torch.empty_like(u), torch.empty_like(z)),
    reference=lambda dy, u, z: (dy * z, dy * (u + 1)), check=lambda dy, u, z: check(u, z),
)
FORWARD = Op(
    name="hadamard_skip", schema="Tensor u, Tensor z", returns=1,
    outputs=lambda u, z: (torch.empty_like(u),), reference=lambda u, z: u * z + z, check=check,
    pullback=lambda cotangents, arguments: GRADIENT(cotangents[0], *arguments),
)
SPECS = (
    OpSpec(
        name="hadamard_skip", function=hadamard_skip, reference=lambda u, z: u * z + z,
        sample=lambda size, make: (make(*size), make(*size)), variants={"plain": {}},
        sizes=((0, 5), (1,), (7, 129), (300, 70)), bench_sizes={"cpu": ((64, 64),)},
        bytes_moved=lambda tensors, result: 3 * result.nbytes,
        grad_bytes_moved=lambda tensors, result: 5 * result.nbytes,
        flops=lambda tensors: 2 * tensors[0].numel(), roundings=3,
        source="Chrysos et al. 2020, arXiv 2006.13026",
        bad={"shape": Bad(
            lambda make: hadamard_skip(make(2, 3), make(3, 2)), ValueError,
            "dlaccel.hadamard_skip: z must have the shape of u (2, 3), got (3, 2).",
        )},
    ),
)
'''
FORMULA = """
// y = u z + z
#pragma once
#include "../../core/hd.h"

namespace dlaccel::hadamard_skip {
template <class T> DL_HD T forward(T u, T z) { return u * z + z; }
template <class T> struct Gradient { T u, z; };
template <class T> DL_HD Gradient<T> backward(T dy, T u, T z) { return {dy * z, dy * (u + T(1))}; }
}  // namespace dlaccel::hadamard_skip
"""
LOOP = """
#include "hadamard_skip.h"

#include "../../core/elementwise.h"
#include "../../core/registry.h"

namespace dlaccel::hadamard_skip {
namespace {
void run(Lane lane, const View& y, const View& u, const View& z) {
  visit_floating(y.dtype, [&]<class S>() {
    using V = Vec<Compute<S>>;
    const auto formula = [](V a, V b) { return std::array{forward(a, b)}; };
    Elementwise<S, 1, 3, decltype(formula)>(plan_loops<3>({y, u, z}), formula)
        .run_all(lane.threads);
  });
}
void run_grad(Lane lane, const View& du, const View& dz, const View& dy, const View& u,
              const View& z) {
  visit_floating(dy.dtype, [&]<class S>() {
    using V = Vec<Compute<S>>;
    const auto formula = [](V d, V a, V b) {
      const auto gradient = backward(d, a, b);
      return std::array{gradient.u, gradient.z};
    };
    Elementwise<S, 2, 5, decltype(formula)>(plan_loops<5>({du, dz, dy, u, z}), formula)
        .run_all(lane.threads);
  });
}
DLACCEL_REGISTER(hadamard_skip, run);
DLACCEL_REGISTER(hadamard_skip_grad, run_grad);
}  // namespace
}  // namespace dlaccel::hadamard_skip
"""
# An editable install finds the package before any path does: the copy has to go first.
SITE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
"""
LINE = """
from . import hadamard_skip as _skip; hadamard_skip = _skip.hadamard_skip; SPECS += _skip.SPECS
"""


def suite(folder: Path) -> subprocess.CompletedProcess[str]:
    """The generic op tests of the new op, against the package in ``folder``."""
    kernel = "from dlaccel import _core; print('kernel:', _core.kernel('hadamard_skip', 'cpu'))"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "default"}
    environment.pop("DLACCEL_ISA", None)
    run = [sys.executable, "-P", "-c", kernel]
    shown = subprocess.run(run, env=environment, capture_output=True, text=True)
    pytest = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    only = ["-k", "hadamard_skip", "--rootdir", str(folder), "-c", str(folder / "pytest.ini")]
    run = [*pytest, *only, str(ROOT / "tests/test_ops.py")]
    result = subprocess.run(run, env=environment, capture_output=True, text=True, cwd=folder)
    result.stdout = shown.stdout + result.stdout
    return result


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_five_places_make_an_op(tmp_path: Path) -> None:
    above = ["papers", "nn", "models", "data", "collapse", "ntk", "solve", "measure", "experiment"]
    ignore = shutil.ignore_patterns("*.so", "__pycache__", *above)
    package = tmp_path / "dlaccel"
    shutil.copytree(ROOT / "dlaccel", package, ignore=ignore)
    init = package / "__init__.py"
    everything = "from . import collapse, data, models, nn, ntk, ops, solve\n"
    assert everything in init.read_text()
    init.write_text(init.read_text().replace(everything, "from . import ops\n"))
    (tmp_path / "sitecustomize.py").write_text(SITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    cuda: x\n    slow: x\n")

    (package / "ops/hadamard_skip.py").write_text(PYTHON)
    with (package / "ops/__init__.py").open("a") as file:
        file.write(LINE)
    reference_only = suite(tmp_path)
    assert "kernel: None" in reference_only.stdout
    assert reference_only.returncode == 0, reference_only.stdout

    folder = tmp_path / "csrc/ops/hadamard_skip"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "csrc/core", tmp_path / "csrc/core")
    shutil.copy(ROOT / "csrc/bindings.cpp", tmp_path / "csrc")
    (folder / "hadamard_skip.h").write_text(FORMULA)
    (folder / "hadamard_skip.cpp").write_text(LOOP)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    subprocess.run(
        [
            *[str(COMPILER), "-std=c++20", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"],
            *["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fopenmp"],
            *["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")],
            *["-DDLACCEL_MODULE=_cpu_baseline", "-DDL_VECTOR_BYTES=16"],
            *[str(tmp_path / "csrc/bindings.cpp"), str(folder / "hadamard_skip.cpp")],
            *["-o", str(package / f"_cpu_baseline{suffix}")],
        ],
        check=True,
    )
    built = suite(tmp_path)
    assert "kernel: <built-in" in built.stdout
    assert built.returncode == 0, built.stdout
