"""Adding the states of all ranks with ``torch.distributed``."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _check
from ._moments import Moments

Group = dist.ProcessGroup | None


def reduced(op: str, state: Moments, shared_shift: bool, group: Group) -> Moments:
    """The total of all ranks' states, on every rank: the shifts, then one buffer with the rest.

    Raises:
        ValueError: On every rank, where one holds a fault.
    """
    if not shared_shift:
        state = state.about(_mean_of_shifts(state, group))
    buffer = torch.cat([state.buffer, (state.fault[:1] >= 0).double()])
    dist.all_reduce(buffer, group=group)
    if buffer[-1] > 0:
        state.raise_fault()
        rule = "have right labels and weights on every rank"
        _check.refuse(op, "an update", rule, "wrong ones on another rank", ValueError)
    return replace(state, buffer=buffer[:-1])


def _mean_of_shifts(state: Moments, group: Group) -> Tensor:
    """The mean of the ranks that use them: near every sample, and the same on all ranks."""
    used = state.used().double()
    total = torch.cat([state.shifts * used, used], 1)
    dist.all_reduce(total, group=group)
    return total[:, :-1] / total[:, -1:].clamp(min=1)


def common_width(op: str, known: int | None, device: torch.device, group: Group) -> int | None:
    """The width of the ranks that know it; None where none does.

    Raises:
        ValueError: On every rank, where two differ.
    """
    bounds = [-1, -(2**62)] if known is None else [known, -known]
    widest = torch.tensor(bounds, device=device)
    dist.all_reduce(widest, dist.ReduceOp.MAX, group)
    most, least = int(widest[0]), -int(widest[1])
    if most < 0:
        return None
    if most != least:
        rule = "have one width on all ranks"
        _check.refuse(op, "features", rule, f"{least} to {most}", ValueError)
    return most


def device_of(group: Group) -> torch.device:
    """Where a rank that has seen nothing makes its share."""
    nccl = "nccl" in dist.get_backend(group)
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
