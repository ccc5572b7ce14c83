"""Who may include whom in C++ (ARCHITECTURE.md); import-linter holds the Python side."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
SOURCES = [p for p in CSRC.rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
PYBIND = re.compile(r'#include\s*[<"](pybind11|Python\.h)')
TORCH = re.compile(r'#include\s*[<"](torch|ATen|c10)')
LOCAL = re.compile(r'#include\s*"([^"]+)"')


def includes(path: Path) -> list[Path]:
    return [(path.parent / name).resolve() for name in LOCAL.findall(path.read_text())]


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 10


def test_only_bindings_know_python_and_nothing_knows_torch() -> None:
    assert [p.name for p in SOURCES if PYBIND.search(p.read_text())] == ["bindings.cpp"]
    assert [p.name for p in SOURCES if TORCH.search(p.read_text())] == []


def test_an_op_includes_only_the_core_and_itself() -> None:
    core, host = CSRC / "core", CSRC / "host_cuda"
    for path in SOURCES:
        if path.is_relative_to(CSRC / "ops"):
            for included in includes(path):
                assert included.parent in (core, host, path.parent), f"{path} includes {included}"


def test_the_core_includes_only_the_core() -> None:
    for path in (CSRC / "core").iterdir():
        for included in includes(path):
            assert included.parent in (CSRC / "core", CSRC / "host_cuda"), path


def test_a_formula_header_needs_no_cuda() -> None:
    for path in CSRC.glob("ops/*/*.h"):
        assert not any(included.suffix == ".cuh" for included in includes(path)), path


def test_no_file_passes_400_lines() -> None:
    files = [*SOURCES, *ROOT.glob("dlaccel/**/*.py"), *ROOT.glob("tests/**/*.py")]
    files += ROOT.glob("bench/**/*.py")
    assert [str(p) for p in files if len(p.read_text().splitlines()) > 400] == []
