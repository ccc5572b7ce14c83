"""Where a run happens: device, versions, commit, threads, and the packages that papers need."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from .. import _core
from .records import RunError


def require_extra() -> None:
    """Checks that what papers need is installed.

    Raises:
        RunError: naming what is missing and the remedy.
    """
    extra = _core.EXTRA.items()
    missing = [name for module, name in extra if importlib.util.find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise RunError(f"{', '.join(missing)} {verb} not installed: pip install dlaccel[papers]")


def choose_device(name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``; auto takes CUDA where there is one.

    Raises:
        ValueError: for another name.
        RunError: when CUDA is asked for and torch sees no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}.")
    cuda = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise RunError("device cuda was asked for, but torch sees no CUDA device.")
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def describe(device: torch.device) -> dict[str, Any]:
    """What ``run.json`` says about machine and software."""
    import numpy

    from dlaccel import __version__

    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "versions": {
            "dlaccel": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "commit": _commit(Path(__file__).parents[2]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit(root: Path) -> str | None:
    """The commit of the source tree, ``-dirty`` when changed; None for an installed copy."""
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
        "--abbrev=40",
    ]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
