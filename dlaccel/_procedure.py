"""Kernels that write into tensors the caller owns. With ``_op``, a caller of ``_core.kernel``.

An :class:`~dlaccel._op.Op` is a pure function with derivatives; a :class:`Procedure` adds to a
state in place, gives nothing back and has no derivative: its inputs are taken without their graph.
Eager calls go to the kernel; compile, fake tensors and subclasses meet
``torch.ops.dlaccel.<name>``, whose schema marks what is written; under ``torch.func`` a call is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import _core
from ._op import LIBRARY, is_plainly_eager, lane_of, under_transform


@dataclass(eq=False)
class Procedure:
    """A kernel over tensors, optional tensors and scalars, in that order; first what it writes.

    Attributes:
        name: Of the operator, ``torch.ops.dlaccel.<name>``, and of its kernel.
        schema: The arguments as torch writes them, ``"Tensor(a!) sums, Tensor features, int k"``.
        reference: The meaning in plain torch, in place.
        check: Raises the sentence that tells what is wrong: before the reference writes anything,
            when tracing, and when the kernel has refused. A kernel refuses before it writes.
    """

    name: str
    schema: str
    reference: Callable[..., None]
    check: Callable[..., None]
    writes: int = field(init=False)

    def __post_init__(self) -> None:
        kinds = [argument.strip().split()[0] for argument in self.schema.split(",")]
        self.writes = sum("!" in kind for kind in kinds)
        self._tensors = sum(kind.startswith("Tensor") for kind in kinds)
        LIBRARY.define(f"{self.name}({self.schema}) -> ()")
        for key in ("CPU", "CUDA"):
            LIBRARY.impl(self.name, self._run, key)
        self._library = getattr(torch.ops.dlaccel, self.name).default
        fake = torch.library.register_fake
        fake(f"dlaccel::{self.name}", lambda *a: self.check(*a), lib=LIBRARY)

    def __call__(self, *arguments: Any) -> None:
        """Adds to the state. What is wrong is said before any of it changes."""
        tensors = arguments[: self._tensors]
        if is_plainly_eager(*tensors):
            self._run(*arguments)
        elif under_transform():
            raise RuntimeError(
                f"dlaccel.{self.name}: a statistic must not be updated under torch.func."
            )
        else:
            detached = (a.detach() if isinstance(a, Tensor) else a for a in arguments)
            self._library(*detached)

    @torch.no_grad()
    def _run(self, *arguments: Any) -> None:
        state = arguments[: self.writes]
        inputs = arguments[self.writes :]  # DLPack has no place for the bit of lazy negation
        plain = state + tuple(a.resolve_neg() if isinstance(a, Tensor) else a for a in inputs)
        kernel = _core.kernel(self.name, state[0].device.type)
        if kernel is None:
            self.check(*plain)
            self.reference(*plain)
        else:
            self._launch(kernel, plain)
        torch.autograd.graph.increment_version(state)

    def _launch(self, kernel: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            kernel(lane_of(arguments[0]), *arguments)
        except Exception:  # the check has the better sentence, where it finds a fault
            self.check(*arguments)
            raise
