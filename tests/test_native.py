"""The C++ tests under the address and undefined-behaviour sanitizers; what the binaries hold."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dlaccel import _core

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = {
    "baseline": ["-march=x86-64-v2", "-DDL_VECTOR_BYTES=16"],
    "avx2": ["-mavx2", "-mfma", "-DDL_VECTOR_BYTES=32"],
    "avx512": ["-march=x86-64-v4", "-DDL_VECTOR_BYTES=64"],
}
needs_modules = pytest.mark.skipif(_core.CPU is None, reason="no compiled module here")


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("isa", FLAGS)
@pytest.mark.parametrize("name", ["core", "vec_math"])
def test_cpp(name: str, isa: str, tmp_path: Path) -> None:
    if isa not in _core.runnable():
        pytest.skip(f"this processor or this build has no {isa}")
    program = tmp_path / name
    build = [
        *[COMPILER, "-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Wno-psabi", "-fopenmp"],
        *["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", *FLAGS[isa]],
        *["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        *[str(ROOT / f"csrc/tests/test_{name}.cpp"), "-o", str(program)],
    ]
    subprocess.run(build, check=True)
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def modules() -> dict[str, Path]:
    assert _core.CPU is not None
    folder = Path(str(_core.CPU.__file__)).parent
    return {isa: next(folder.glob(f"_cpu_{isa}.*so")) for isa in _core.runnable()}


@needs_modules
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize(("isa", "register"), [("avx2", "ymm"), ("avx512", "zmm")])
def test_every_hot_loop_holds_vector_code(isa: str, register: str) -> None:
    if isa not in modules():
        pytest.skip(f"this processor or this build has no {isa}")
    listing = subprocess.run(
        ["objdump", "-dC", "--no-show-raw-insn", str(modules()[isa])],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    loops = {}
    for block in listing.split("\n\n"):
        title = block.partition("\n")[0]
        if "::vectors<" in title and ".cold" not in title:
            loops[title] = len(re.findall(rf"v(?:mul|fmadd|fnmadd)\w*\s.*%{register}", block))
    assert len(loops) > 100
    assert not [title for title, count in loops.items() if count == 0]


@needs_modules
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_modules_share_no_symbols() -> None:
    """Modules with a public template symbol in common could run each other's instructions."""
    for path in modules().values():
        lines = subprocess.run(
            ["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert [line.split()[-1] for line in lines if "PyInit_" not in line] == []
