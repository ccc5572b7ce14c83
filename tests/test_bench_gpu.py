"""bench/gpu.sh with stubs in place of the tools: which parts run, and what fails the script."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUBS = {
    "nvidia-smi": 'case $* in *compute_cap*) echo 9.0 ;; *) echo "Stub GPU, 1.0" ;; esac',
    "nvcc": "exit 0",
    "ncu": "echo no counters; exit 9",
    "compute-sanitizer": "exit 0",
}
PYTHON_STUB = """
case $* in
  *pytest*) exit ${TESTS:-0} ;;
  *"-m pip"*) echo "$*" >&2; mkdir -p build/gpu-site/dlaccel; touch build/gpu-site/dlaccel/x.so ;;
  *) echo "$*" ;;
esac
"""


def gpu_script(
    tmp_path: Path, tests: int, stubs: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """bench/gpu.sh in a copy of the tree's bench folder, with tools that only say what they got."""
    tools, tree = tmp_path / "tools", tmp_path / "tree"
    (tree / "bench").mkdir(parents=True)
    (tree / "dlaccel").mkdir()
    shutil.copy(ROOT / "bench" / "gpu.sh", tree / "bench")
    tools.mkdir()
    for name, body in {**stubs, "python": PYTHON_STUB}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    for name in ("bash", "dirname", "mkdir", "timeout", "tail", "head", "tr", "cp", "env", "touch"):
        (tools / name).symlink_to(shutil.which(name) or name)
    return subprocess.run(
        [tools / "bash", tree / "bench" / "gpu.sh", "out"],
        env={"PATH": str(tools), "CUDA_BIN": "", "PYTHON": "python", "TESTS": str(tests)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


bash = pytest.mark.skipif(not shutil.which("timeout"), reason="needs bash and coreutils")


@bash
def test_gpu_script_goes_through_all_parts_and_fails_with_a_failed_test(tmp_path: Path) -> None:
    done = gpu_script(tmp_path, tests=3, stubs=STUBS)
    assert done.returncode == 1, done.stderr
    said = done.stdout
    assert "Stub GPU, 1.0, sm_90a" in said
    for part in (
        "build",
        "doctor",
        "overhead",
        "compiled",
        "memcheck",
        "racecheck",
        "gated_mlp",
        "ops",
    ):
        assert f"\n{part}: ok" in said
    assert "tests: FAILED with status 3" in said
    assert "ncu: FAILED with status 9" in said  # told, and no reason to fail
    assert said.endswith("failed: tests layers\n")
    log = (tmp_path / "tree" / "out" / "logs" / "build.log").read_text()
    assert "DLACCEL_CUDA_ARCHITECTURES=90a-real" in log
    assert (tmp_path / "tree" / "dlaccel" / "x.so").exists()


@bash
def test_gpu_script_does_without_missing_tools(tmp_path: Path) -> None:
    few = {name: STUBS[name] for name in ("nvidia-smi", "nvcc")}
    done = gpu_script(tmp_path, tests=0, stubs=few)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memcheck: left out, compute-sanitizer is not on the PATH" in done.stdout
    assert "ncu: left out, it is not on the PATH" in done.stdout


@bash
def test_gpu_script_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    done = gpu_script(tmp_path, tests=0, stubs={})
    assert done.returncode == 2
    assert done.stderr == (
        "bench/gpu.sh: nothing can run here: it needs an NVIDIA GPU (nvidia-smi) and nvcc on the "
        "PATH.\n"
    )
