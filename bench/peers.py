"""Who else computes an op: torch eager, torch.compile, and packages where they are installed.

torch's two come from the spec's reference; a package stands in ``_PACKAGES`` by op and variant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import Case
from .rows import OURS

EAGER, COMPILE = "eager", "compile"


@dataclass(frozen=True)
class Peer:
    """``attribute`` of ``module`` takes the spec's tensors. Packages here run on CUDA alone."""

    who: str
    module: str
    attribute: str
    overwrites: bool = False  # its backward writes into what it saved

    def load(self) -> Callable[..., Tensor]:
        found = importlib.import_module(self.module)
        for name in self.attribute.split("."):
            found = getattr(found, name)
        return found  # type: ignore[return-value]


_PACKAGES = {
    ("glu", "silu"): (
        Peer("liger", "liger_kernel.ops", "LigerSiLUMulFunction.apply", overwrites=True),
        Peer("fla", "fla.modules.activations", "swiglu"),
    ),
    ("glu", "gelu_tanh"): (
        Peer("liger", "liger_kernel.ops", "LigerGELUMulFunction.apply", overwrites=True),
    ),
}


@dataclass(frozen=True)
class Entrant:
    """A function that computes a case."""

    who: str
    function: Callable[..., Tensor]
    overwrites: bool = False


def entrants(
    case: Case, device: torch.device, *, compiled: bool
) -> tuple[list[Entrant], list[str]]:
    """Everyone who can compute the case here, ours first, and a line for each who cannot."""
    eager = case.bind(case.spec.reference)
    found = [Entrant(OURS, case.bind(case.spec.function)), Entrant(EAGER, eager)]
    if compiled:
        torch.compiler.reset()  # the graphs of earlier cases count against a limit
        found.append(Entrant(COMPILE, torch.compile(eager, fullgraph=True, dynamic=False)))
    absent = []
    if device.type == "cuda":
        for peer in _PACKAGES.get((case.spec.name, case.variant), ()):
            try:
                found.append(Entrant(peer.who, peer.load(), peer.overwrites))
            except Exception as error:  # a package may fail on import in any way
                absent.append(f"{peer.who}: {type(error).__name__}: {error}")
    return found, absent
