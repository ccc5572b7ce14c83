"""Whether class statistics fit into a device's memory."""

from __future__ import annotations

import os

import torch

from .. import _check
from ._moments import Moments


def refuse_too_large(op: str, moments: str, classes: int, width: int, device: torch.device) -> None:
    """Raises ValueError where the state would take more than half of the device's memory.

    Half, since a second copy is held while states merge.
    """
    gigabytes = {
        kept: 8e-9 * (Moments.size(classes, width, matrices) + classes * width)
        for kept, matrices in (("trace", 0), ("pooled", 1), ("full", classes))
    }
    room = memory_of(device) / 2e9
    if gigabytes[moments] <= room:
        return
    less = [f"{kept!r} ({size:.1f} GB)" for kept, size in gigabytes.items() if size <= room]
    instead = f", as {' and '.join(less)} would" if less else ""
    rule = f"take at most {room:.1f} GB, half of what {device} has{instead}"
    got = f"{moments!r} with {gigabytes[moments]:.1f} GB for C = {classes}, D = {width}"
    _check.refuse(op, "moments", rule, got, ValueError)


def memory_of(device: torch.device) -> int:
    """Bytes of a device's memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
