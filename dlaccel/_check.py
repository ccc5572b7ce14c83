"""The wording of refusals, in one place.

Every sentence reads ``dlaccel.<op>: <argument> must <rule>, got <value>.``
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def refuse(op: str, argument: str, rule: str, got: object, kind: type[Exception]) -> NoReturn:
    """Raises ``kind`` with the sentence that names the argument, the rule and the value."""
    raise kind(f"dlaccel.{op}: {argument} must {rule}, got {got}.")


def tensors(op: str, arguments: Mapping[str, object]) -> None:
    """Every argument is a torch tensor."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            refuse(op, name, "be a torch.Tensor", type(value).__name__, TypeError)


def floating(op: str, arguments: Mapping[str, Tensor]) -> None:
    """Every argument is strided and of a floating dtype that the kernels know."""
    for name, value in arguments.items():
        dtype(op, {name: value}, *FLOATING)
        if value.layout != torch.strided:
            refuse(op, name, "be a strided tensor", str(value.layout), TypeError)


def dtype(op: str, arguments: Mapping[str, Tensor], *allowed: torch.dtype) -> None:
    """Every argument has one of the allowed dtypes."""
    for name, value in arguments.items():
        if value.dtype not in allowed:
            *first, last = map(_dtype, allowed)
            words = f"{', '.join(first)} or {last}" if first else last
            refuse(op, name, f"have dtype {words}", _dtype(value.dtype), TypeError)


def same(op: str, first: str, arguments: Mapping[str, Tensor]) -> None:
    """Every argument has the device, dtype and shape of the one called ``first``."""
    model = arguments[first]
    for name, value in arguments.items():
        if value.device != model.device:
            refuse(op, name, f"be on {first}'s device {model.device}", value.device, ValueError)
        if value.dtype != model.dtype:
            rule = f"have {first}'s dtype {_dtype(model.dtype)}"
            refuse(op, name, rule, _dtype(value.dtype), TypeError)
        if value.shape != model.shape:
            rule = f"have the shape of {first} {tuple(model.shape)}"
            refuse(op, name, rule, tuple(value.shape), ValueError)


def row(op: str, name: str, value: Tensor, length: int, model: Tensor) -> None:
    """``value`` is a vector (length,) with the model's device and dtype."""
    if value.device != model.device:
        refuse(op, name, f"be on device {model.device}", value.device, ValueError)
    if value.dtype != model.dtype:
        refuse(op, name, f"have dtype {_dtype(model.dtype)}", _dtype(value.dtype), TypeError)
    if value.shape != (length,):
        refuse(op, name, f"have shape ({length},)", tuple(value.shape), ValueError)


def choice(op: str, argument: str, value: object, allowed: Collection[str]) -> None:
    """``value`` is one of the allowed words."""
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        refuse(op, argument, f"be one of {words}", repr(value), ValueError)


def labels(op: str, value: Tensor, length: int, classes: int) -> None:
    """``value`` is (length,) of class numbers, or of -1 for what is not to be used.

    The numbers themselves are seen on the CPU alone: reading a GPU's would wait for it.
    """
    dtype(op, {"labels": value}, torch.int64, torch.int32)
    if value.shape != (length,):
        refuse(op, "labels", f"have shape ({length},)", tuple(value.shape), ValueError)
    if has_values(value):
        wrong = (value < -1) | (value >= classes)
        if wrong.any():
            place = int(wrong.nonzero()[0])
            got = f"{int(value[place])} at {place}"
            refuse(op, "labels", f"lie in [0, {classes}) or be -1", got, ValueError)


def weights(op: str, value: Tensor, length: int) -> None:
    """``value`` is (length,) and, as far as the CPU shows, finite and not negative."""
    if value.shape != (length,):
        refuse(op, "weight", f"have shape ({length},)", tuple(value.shape), ValueError)
    if has_values(value):
        wrong = ~(value >= 0) | value.isinf()
        if wrong.any():
            place = int(wrong.nonzero()[0])
            got = f"{value[place].item()} at {place}"
            refuse(op, "weight", "be finite and not negative", got, ValueError)


def has_values(value: Tensor) -> bool:
    """Numbers that can be read at once: on the CPU, and neither fake nor traced."""
    return type(value) in (Tensor, torch.nn.Parameter) and value.is_cpu and not _tracing()


def _tracing() -> bool:
    return torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None


def at_least_one_axis(op: str, name: str, value: Tensor) -> None:
    """``value`` has a last axis."""
    if value.ndim == 0:
        refuse(op, name, "have at least one axis", "a scalar tensor", ValueError)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def destination(op: str, out: object, shape: tuple[int, ...], model: Tensor) -> None:
    """``out`` can take the result: its shape, dtype and device."""
    tensors(op, {"out": out})
    assert isinstance(out, Tensor)
    if out.device != model.device:
        refuse(op, "out", f"be on device {model.device}", out.device, ValueError)
    if out.dtype != model.dtype:
        refuse(op, "out", f"have dtype {_dtype(model.dtype)}", _dtype(out.dtype), TypeError)
    if tuple(out.shape) != tuple(shape):
        refuse(op, "out", f"have shape {tuple(shape)}", tuple(out.shape), ValueError)


def overlap(op: str, out: Tensor, *sources: Tensor) -> None:
    """``out`` holds no element twice and shares no memory in part with a source.

    Writing exactly over an operand is allowed, as each element is read before it is written.
    """
    if _overlaps_itself(out):
        got = f"strides {out.stride()} for shape {tuple(out.shape)}"
        refuse(op, "out", "not hold an element twice", got, ValueError)
    for source in sources:
        if _overlaps_in_part(out, source):
            rule = "share no memory with the inputs but exactly an input's own"
            refuse(op, "out", rule, "a tensor that overlaps one in part", ValueError)


def _overlaps_itself(tensor: Tensor) -> bool:
    reach = 0  # the farthest element of the axes seen so far
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def _overlaps_in_part(out: Tensor, source: Tensor) -> bool:
    if out.numel() == 0 or source.numel() == 0 or not _same_storage(out, source):
        return False
    if out.data_ptr() == source.data_ptr() and out.stride() == source.stride():
        return False
    try:
        work: Any = 10**6  # candidates to try before giving up; NumPy's stub knows fewer values
        return bool(np.shares_memory(_Addresses(out).view(), _Addresses(source).view(), work))
    except np.exceptions.TooHardError:
        return True


def _same_storage(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


class _Addresses:
    """A tensor's addresses as a NumPy array that nobody reads: its overlap solver needs no more."""

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), True),
            "shape": tuple(tensor.shape),
            "strides": tuple(s * size for s in tensor.stride()),
            "typestr": f"|V{size}",
        }

    def view(self) -> np.ndarray[Any, Any]:
        return np.asarray(self)
