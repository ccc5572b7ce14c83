"""Finds the compiled kernels, picks the instruction set, and knows what is missing.

The package holds one CPU module for each instruction set and, where it was built with CUDA's
compiler, the CUDA module. The CPU module is picked once, on import, by what torch says of the
processor (``DLACCEL_ISA`` overrides); the CUDA module is loaded when a CUDA tensor first arrives.
``DLACCEL_MODULES`` names a folder whose modules come before the package's own: sanitized ones, or
``_cuda_host``, the CUDA kernels compiled for the host, which ``DLACCEL_ISA=cuda_host`` picks.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ._version import __version__

# What each processor runs, best first. Other processors have the baseline alone.
_RUNS = {
    "AVX512": ("avx512", "avx2", "baseline"),
    "AVX2": ("avx2", "baseline"),
}
ISAS = ("avx512", "avx2", "baseline")

# What the extra [papers] brings: modules, and the distributions that hold them.
EXTRA = {
    "tyro": "tyro",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "joblib": "joblib",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "pooch": "pooch",
}


def runnable() -> tuple[str, ...]:
    """The instruction sets that this processor runs and this build holds, best first."""
    capability = torch.backends.cpu.get_cpu_capability()
    return tuple(isa for isa in _RUNS.get(capability, ("baseline",)) if _built(f"_cpu_{isa}"))


def _find(module: str) -> importlib.machinery.ModuleSpec | None:
    name = f"{__package__}.{module}"
    if folder := os.environ.get("DLACCEL_MODULES"):
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / f"{module}{suffix}"
            if path.exists():
                return importlib.util.spec_from_file_location(name, path)
    return importlib.util.find_spec(name)


def _built(module: str) -> bool:
    return _find(module) is not None


def _load(module: str) -> ModuleType:
    spec = _find(module)
    if spec is None or spec.loader is None:
        raise ImportError(f"dlaccel was built without {module}.")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _pick() -> str | None:
    choices = runnable()
    wanted = os.environ.get("DLACCEL_ISA")
    if wanted == "cuda_host" and _built("_cuda_host"):
        return wanted
    if wanted is None:
        return choices[0] if choices else None
    if wanted not in choices:
        allowed = ", ".join(choices) or "nothing that was built"
        raise ImportError(f"DLACCEL_ISA must be one of {allowed} on this machine, got {wanted!r}.")
    return wanted


def _load_cpu() -> tuple[str | None, ModuleType | None, str]:
    isa = _pick()
    if isa is None:
        return None, None, f"no compiled module for {platform.machine()} in this installation"
    try:
        return isa, _load("_cuda_host" if isa == "cuda_host" else f"_cpu_{isa}"), ""
    except ImportError as error:
        return None, None, str(error)


ISA, CPU, _WHY_NO_CPU = _load_cpu()
if CPU is None:
    warnings.warn(
        f"dlaccel runs without its kernels, on plain torch: {_WHY_NO_CPU}. "
        "Reinstall it with a C++20 compiler on the PATH (pip install --no-binary dlaccel dlaccel).",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def cuda() -> ModuleType | None:
    """The CUDA module, or None where it was not built."""
    return _load("_cuda") if _built("_cuda") else None


@functools.cache
def kernel(name: str, device: str) -> Callable[..., None] | None:
    """The compiled function ``name`` for a device type, or None where there is none."""
    module = CPU if device == "cpu" else cuda() if device == "cuda" else None
    found: Callable[..., None] | None = getattr(module, name, None)
    if found is None or hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        return found
    return _through_capsules(found)


def _through_capsules(function: Callable[..., None]) -> Callable[..., None]:
    """For torch before 2.10, whose tensors bring no exchange table."""

    def call(*arguments: Any) -> None:
        function(
            *(
                torch.utils.dlpack.to_dlpack(a) if isinstance(a, torch.Tensor) else a  # type: ignore[attr-defined]
                for a in arguments
            )
        )

    return call


@dataclass
class Report:
    """What ``dlaccel doctor`` prints: facts, and what is missing with its remedy."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def report() -> Report:
    """Describes the installation: what was built, what was picked, what is missing."""
    out = Report()
    out.lines += [
        ("dlaccel", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", torch.__version__),
        ("tensor exchange", _exchange()),
    ]
    built = [isa for isa in ISAS if _built(f"_cpu_{isa}")]
    out.lines.append(("cpu modules built", ", ".join(built) or "none"))
    if CPU is None:
        out.missing.append(
            (f"CPU kernels ({_WHY_NO_CPU})", "reinstall with a C++20 compiler on the PATH")
        )
    else:
        info = CPU.build_info()
        out.lines += [
            ("cpu module picked", f"{ISA} ({info.get('vector_bytes', '?')}-byte vectors)"),
            ("compiler", info["compiler"]),
            ("openmp", f"{info.get('openmp') or 'no'}, {torch.get_num_threads()} threads"),
        ]
        if not info.get("openmp"):
            out.missing.append(("OpenMP", "install the compiler's OpenMP runtime and reinstall"))
    _report_cuda(out)
    for module in EXTRA:
        if importlib.util.find_spec(module) is None:
            out.missing.append((module, "pip install 'dlaccel[papers]'"))
    return out


def _exchange() -> str:
    fast = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
    return "DLPack exchange table" if fast else "DLPack capsules (torch 2.10 brings a faster way)"


def _report_cuda(out: Report) -> None:
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(devices))
    out.lines.append(("cuda devices", names or "none that torch can use"))
    if not _built("_cuda"):
        out.lines.append(("cuda module", "not built"))
        if devices:
            out.missing.append(
                ("CUDA kernels", "put nvcc on the PATH and reinstall with DLACCEL_CUDA=ON")
            )
        return
    module = cuda()
    assert module is not None
    info = module.build_info()
    out.lines += [
        ("cuda module", f"runtime {_version(info['cuda'])}, {info['architectures']}"),
        ("cuda driver needed", info["driver_needed"]),
    ]
    if info["driver"] and not info["devices"]:
        remedy = f"a CUDA device and driver {info['driver_needed']} or newer"
        out.missing.append(("a device that the CUDA module can use", remedy))


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
