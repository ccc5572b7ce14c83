"""What the CUDA build leaves behind: the committed table of resources and the module itself.

The build takes minutes and is a step of its own: python -m bench.cuda_resources --check.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dlaccel
from bench import cuda_resources
from bench.cuda_resources import Resources

# As printed by nvcc 13.0 --resource-usage, shortened.
LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN7dlaccel17add_blocks_kernelIfLi2EEEvNS_6TotalsIT_XT0_EEEll' for 'sm_80'
ptxas info    : Function properties for _ZN7dlaccel17add_blocks_kernelIfLi2EEEvNS_6TotalsIT_XT0_EEEll
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 4224 bytes smem, 952 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN7dlaccel17add_blocks_kernelIfLi2EEEvNS_6TotalsIT_XT0_EEEll' for 'sm_75'
ptxas info    : Function properties for _ZN7dlaccel17add_blocks_kernelIfLi2EEEvNS_6TotalsIT_XT0_EEEll
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 47 registers, 952 bytes cmem[0]
"""  # noqa: E501
NAME = "add_blocks_kernel<float, 2>"
FINE = Resources(registers=32, shared=4224, stack=0, spilled=0)


def test_the_compilers_report_is_read() -> None:
    assert cuda_resources.parse(LOG) == {
        NAME: {"sm_75": Resources(47, 0, 8, 28), "sm_80": FINE},
    }


def test_what_fails() -> None:
    table = {NAME: {"sm_80": FINE}}
    assert cuda_resources.problems(table, table, same_compiler=True) == []
    spilled = {NAME: {"sm_80": FINE._replace(spilled=28, stack=8)}}
    (spill,) = cuda_resources.problems(spilled, spilled, same_compiler=True)
    assert spill == f"{NAME} on sm_80 spills 28 bytes over a stack of 8."
    heavier = {NAME: {"sm_80": FINE._replace(registers=40)}}
    assert cuda_resources.problems(heavier, table, same_compiler=True) == [
        f"{NAME} on sm_80 takes 40 registers and 4224 bytes of shared memory, "
        "the table says 32 and 4224."
    ]
    assert cuda_resources.problems(heavier, table, same_compiler=False) == []
    assert cuda_resources.problems(table, {}, same_compiler=True) == [
        f"{NAME} on sm_80 is not in the table."
    ]
    assert cuda_resources.problems({}, table, same_compiler=True) == [
        f"{NAME} is in the table but was not built."
    ]


@pytest.mark.parametrize(
    ("store", "found"),
    [
        ("STG.E.128 desc[UR4][R2.64], R8 ;", []),
        ("STG.E desc[UR4][R2.64], R8 ;", ["{} has no STG of 16 bytes."]),
        ("STG.E.128 desc[UR4][R2.64], R8 ; STL [R1], R2 ;", ["{} uses local memory."]),
    ],
)
def test_narrow_accesses_and_local_memory_fail(store: str, found: list[str]) -> None:
    name = "_ZN7dlaccel18elementwise_kernelIfLi16ELi1ELi3EiEEvlT3_"
    sass = f"Function : {name}\n LDG.E.128 R8, desc[UR4][R2.64] ;\n {store}\n"
    short = "elementwise_kernel<float, 16, 1, 3, int>"
    assert cuda_resources.access_problems(sass) == [line.format(short) for line in found]


def test_the_committed_table_holds_no_spills() -> None:
    _, table = cuda_resources.load()
    assert cuda_resources.problems(table, table, same_compiler=True) == []
    for rows in table.values():
        assert set(rows) == {"sm_75", "sm_80", "sm_90a"}


def test_forward_kernels_leave_room_for_every_thread() -> None:
    """At 32 registers a multiprocessor of sm_90 holds all its 2048 threads: memory bounds the plain
    forward pass, and what hides memory's latency is threads."""
    _, table = cuda_resources.load()
    wide = [n for n in table if n.startswith("elementwise_kernel") and "16, 1, 3" in n]
    assert len(wide) == 4  # one for each dtype
    for name in wide:
        assert table[name]["sm_90a"].registers <= 32


def test_the_module_imports_without_a_driver() -> None:
    folders = [Path(dlaccel.__file__).parent, Path(__file__).parents[1] / "build" / "cuda"]
    built = [path for folder in folders for path in folder.glob("_cuda.*.so")]
    if not built:
        pytest.skip("needs a build of _cuda (python -m bench.cuda_resources --check)")
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('_cuda', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); i = m.build_info(); "
        "assert i['cuda'] >= 12000 and i['devices'] >= 0 and m.glu and m.glu_grad; print(i)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(built[0])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
