"""Batches of a user's loader, and a model's state while it is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .. import _check

Batches = Iterable[Sequence[Tensor]]


def home(model: nn.Module, device: torch.device | str | None) -> torch.device:
    """``device``, or where the model's first parameter or buffer is."""
    if device is not None:
        return torch.device(device)
    tensors = (tensor for source in (model.parameters(), model.buffers()) for tensor in source)
    first = next(tensors, None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; each module's own mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` wrapped, whose layers have their own names."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


@contextmanager
def eager() -> Iterator[None]:
    """No compiled code runs inside: it does not see hooks that came after it."""
    with torch.compiler.set_stance("force_eager"):
        yield


def as_rows(features: Tensor) -> Tensor:
    """(N, ...) as (N, D); a number for each sample is D = 1."""
    return features.flatten(1) if features.ndim > 1 else features[:, None]


def repeatable(op: str, argument: str, batches: object) -> None:
    """``batches`` can be swept again."""
    if not isinstance(batches, Iterable) or isinstance(batches, Iterator):
        rule = "be swept twice, as a DataLoader or a list of batches can"
        _check.refuse(op, argument, rule, type(batches).__name__, TypeError)


def pairs(
    op: str, argument: str, batches: Batches, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels (N,) of each batch, on ``device``.

    Raises:
        TypeError: A batch is no pair of tensors.
        ValueError: There is no batch, or labels have not one axis.
    """
    none = True
    for batch in batches:
        none = False
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            rule = "give batches (inputs, labels)"
            _check.refuse(op, argument, rule, type(batch).__name__, TypeError)
        x, labels = batch[:2]
        _check.tensors(op, {f"the inputs of {argument}": x, f"the labels of {argument}": labels})
        if labels.ndim != 1:
            rule = "have one axis"
            _check.refuse(op, f"the labels of {argument}", rule, tuple(labels.shape), ValueError)
        yield x.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    if none:
        _check.refuse(op, argument, "hold at least one batch", "none", ValueError)
