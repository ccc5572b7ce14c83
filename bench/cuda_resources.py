"""Compiles the CUDA module and checks what each kernel takes: registers, stack, shared memory.

``python -m bench.cuda_resources --check`` builds with warnings as errors and compares with the
committed table; ``--write`` replaces the table. No kernel may spill or use a stack. Registers are
compared where the compiler is the table's own. Where cuobjdump is found (on the PATH, or named by
CUOBJDUMP), the machine code must hold the accesses that a kernel's width promises.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "bench" / "results" / "cuda_resources.json"
SASS_ARCHITECTURE = "sm_90a"

# kernel -> architecture -> what it takes
Table = dict[str, dict[str, "Resources"]]


class Resources(NamedTuple):
    registers: int
    shared: int  # bytes
    stack: int  # bytes
    spilled: int  # bytes stored and loaded


_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<architecture>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def parse(log: str) -> Table:
    """Reads what ``nvcc --resource-usage`` printed."""
    found = list(_ENTRY.finditer(log))
    table: Table = {}
    for match, name in zip(found, demangle(m["name"] for m in found), strict=True):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        table.setdefault(name, {})[match["architecture"]] = Resources(
            int(match["registers"]),
            int(shared[1]) if shared else 0,
            int(match["stack"]),
            int(match["stores"]) + int(match["loads"]),
        )
    return {name: dict(sorted(table[name].items())) for name in sorted(table)}


def demangle(names: Iterable[str]) -> list[str]:
    """Template names without parameter lists, namespaces of ours and return types."""
    out = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout
    noise = re.compile(r"\(anonymous namespace\)::|dlaccel::|\(dlaccel::\w+\)|^void ")
    short = (noise.sub("", name) for name in out.splitlines())
    return [name.split("(")[0].replace("> >", ">>") for name in short]


def problems(table: Table, committed: Table, same_compiler: bool) -> list[str]:
    """What is wrong with ``table``, a sentence each."""
    found = []
    for name, rows in table.items():
        for architecture, row in rows.items():
            where = f"{name} on {architecture}"
            if row.stack or row.spilled:
                found.append(f"{where} spills {row.spilled} bytes over a stack of {row.stack}.")
            known = committed.get(name, {}).get(architecture)
            if known is None:
                found.append(f"{where} is not in the table.")
            elif same_compiler and row != known:
                found.append(
                    f"{where} takes {row.registers} registers and {row.shared} bytes of shared "
                    f"memory, the table says {known.registers} and {known.shared}."
                )
    found += [f"{name} is in the table but was not built." for name in committed.keys() - table]
    return found


def access_problems(sass: str) -> list[str]:
    """Kernels whose machine code lacks the global accesses of its width, or uses local memory.

    A kernel's second template argument is its access width in bytes.
    """
    parts = re.split(r"Function : (\w+)", sass)[1:]
    found = []
    for name, code in zip(demangle(parts[::2]), parts[1::2], strict=True):
        if re.search(r"\b(LDL|STL)\b", code):
            found.append(f"{name} uses local memory.")
        width = re.match(r"\w+<\w+, (2|4|8|16)\b", name)
        if width is None or name.startswith("add_blocks"):
            continue
        suffix = {2: r"\.U16", 4: "", 8: r"\.64", 16: r"\.128"}[int(width[1])]
        found += [
            f"{name} has no {what} of {width[1]} bytes."
            for what in ("LDG", "STG")
            if not re.search(rf"\b{what}\.E{suffix} ", code)
        ]
    return found


def build(folder: Path) -> tuple[str, Path]:
    """Builds ``_cuda`` anew with warnings as errors; returns the log and the module's path."""
    import pybind11

    beside = Path(sys.executable).parent
    path = f"{beside}{os.pathsep}{os.environ['PATH']}"
    cmake = shutil.which("cmake", path=path)
    if cmake is None or shutil.which("nvcc", path=path) is None:
        raise SystemExit("cuda_resources needs cmake and nvcc on the PATH.")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=path) else []
    configure = [
        cmake, "-S", str(ROOT), "-B", str(folder), *generator, "-DDLACCEL_CUDA=ON",
        "-DDLACCEL_WERROR=ON", "-DCMAKE_CUDA_FLAGS=--resource-usage",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]  # fmt: skip
    make = [cmake, "--build", str(folder), "--clean-first", "--target", "_cuda", "-j", "2"]
    log = ""
    for command in (configure, make):
        done = subprocess.run(
            command, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        log = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(log[-6000:])
    (module,) = folder.glob("_cuda.*.so")
    return log, module


def compiler() -> str:
    """The CUDA compiler's version, as in 13.0.88."""
    out = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"V([\d.]+)", out)
    return version[1] if version else "unknown"


def load(path: Path = TABLE) -> tuple[str, Table]:
    """The committed table: the compiler's version and the kernels."""
    data = json.loads(path.read_text())
    table = {
        name: {architecture: Resources(*row) for architecture, row in rows.items()}
        for name, rows in data["kernels"].items()
    }
    return data["nvcc"], table


def dump(version: str, table: Table, path: Path = TABLE) -> None:
    """Writes the table, one kernel a line."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(rows)}" for name, rows in table.items())
    fields = json.dumps(Resources._fields)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"nvcc": "{version}",\n "fields": {fields},\n "kernels": {{\n{lines}\n}}}}\n'
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cuda_resources", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare with the committed table")
    action.add_argument("--write", action="store_true", help="replace the committed table")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "cuda", help="build folder")
    arguments = parser.parse_args()

    start = time.perf_counter()
    log, module = build(arguments.build)
    table = parse(log)
    print(f"{len(table)} kernels built in {time.perf_counter() - start:.0f} s")
    version = compiler()
    if arguments.write:
        dump(version, table)
    known_version, committed = load()
    found = problems(table, committed, same_compiler=version == known_version)
    cuobjdump = os.environ.get("CUOBJDUMP") or shutil.which("cuobjdump")
    if cuobjdump is None:
        print("cuobjdump was not found: the widths of accesses were not checked.")
    else:
        sass = subprocess.run(
            [cuobjdump, "-sass", "-arch", SASS_ARCHITECTURE, str(module)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found += access_problems(sass)
    print("\n".join(found) or "no kernel spills, and all are as the table says.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
