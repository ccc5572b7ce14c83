"""Turns compiled kernels into torch operators: pure functions with derivatives.

Each :class:`Op` has three routes, chosen at every call:

- **eager**: exact tensors and no mode active. The kernel directly, or a ctx-style
  ``autograd.Function`` where a gradient is wanted.
- **transform**: under ``torch.func`` or forward-mode AD, a ``Function`` with ``setup_context``, its
  own ``vmap`` and ``jvp``.
- **library**: everything else (compile, fake and functional tensors, subclasses, DTensor): the
  operator ``torch.ops.dlaccel.<name>``.

An op's file gives four things: ``outputs`` (shapes, for allocation and tracing alike),
``reference`` (plain torch, the meaning), ``check`` (the refusals), and ``pullback`` (its
vector-Jacobian product, in terms of other ops). Without a pullback, derivatives are those of the
reference, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from . import _core

LIBRARY = torch.library.Library("dlaccel", "DEF")
_PLAIN = frozenset((Tensor, Parameter))

_functorch_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_is_compiling = torch.compiler.is_dynamo_compiling
_grad_enabled = torch.is_grad_enabled
_threads = torch.get_num_threads


def lane_of(tensor: Tensor) -> int:
    """Where a kernel on the tensor's device runs: the thread count, or the current stream."""
    if tensor.is_cpu:
        return _threads()
    # As inductor's code asks for it: current_stream() builds an object around this number.
    raw: int = torch._C._cuda_getCurrentRawStream(tensor.device.index)
    return raw


# Without the auxiliary output that torch's own signature allows for.
vjp: Callable[..., tuple[Any, Callable[..., Any]]] = torch.func.vjp  # type: ignore[assignment]

Result = Any  # a Tensor, or a tuple of Tensors for ops with several outputs


@dataclass(eq=False)
class Op:
    """An operator over tensors, optional tensors and scalars, in that order.

    Attributes:
        name: Of the operator, ``torch.ops.dlaccel.<name>``, and of its kernel.
        schema: The arguments as torch writes them, ``"Tensor x, Tensor? bias, int kind"``.
        returns: How many tensors come back; a single one comes bare, not in a tuple.
        outputs: Empty outputs for given arguments. An absent output has shape (0,).
        reference: The meaning in plain torch, in the dtype of its arguments.
        check: Raises the sentence that tells what is wrong; called before anything is computed
            when tracing, and when the kernel refuses.
        pullback: ``(cotangents, arguments) -> a gradient or None for each tensor argument``.
        pushforward: ``(tangents, arguments) -> tangents of the outputs``; else the reference's.
        launch: ``(kernel, lane, outputs, arguments) -> None`` where the kernel's own order, outputs
            then arguments, does not do.
        vmap: ``(op, batch size, in_dims, arguments) -> result with the batch axis first``; without
            one, leading axes are rows and the batch becomes the first of them.
        overlap: ``(out, arguments) -> None`` raises where ``out`` must not be written over them.
        kernel: Name of the compiled function, where it is not ``name``.
    """

    name: str
    schema: str
    returns: int
    outputs: Callable[..., tuple[Tensor, ...]]
    reference: Callable[..., Result]
    check: Callable[..., None]
    pullback: Callable[[tuple[Any, ...], tuple[Any, ...]], Sequence[Tensor | None]] | None = None
    pushforward: Callable[[tuple[Any, ...], tuple[Any, ...]], Result] | None = None
    launch: Callable[..., None] | None = None
    vmap: Callable[..., Result] | None = None
    overlap: Callable[[Tensor, tuple[Any, ...]], None] | None = None
    kernel: str = ""
    tensor_count: int = field(init=False)

    def __post_init__(self) -> None:
        kinds = [argument.strip().split()[0] for argument in self.schema.split(",")]
        self.tensor_count = sum(kind.startswith("Tensor") for kind in kinds)
        self._no_gradients = (None,) * (len(kinds) - self.tensor_count)
        self.kernel = self.kernel or self.name
        self._cpu_kernel = _core.kernel(self.kernel, "cpu")
        self._eager = _eager_function(self)
        self._transform = _transform_function(self)
        self._define()
        self._call = _router(self)

    def into(self, out: Tensor, *arguments: Any) -> Tensor:
        """Computes into ``out``, whose version counter moves so that autograd sees the write."""
        if _grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad
            for a in (out, *arguments[: self.tensor_count])
        ):
            raise RuntimeError(
                f"dlaccel.{self.name}: out= must not be used where a gradient is wanted, got a "
                "tensor that requires grad."
            )
        if _is_compiling():
            self._library_out(*arguments, out)
        elif is_plainly_eager(out, *arguments[: self.tensor_count]):
            self._run_into(*_resolved(arguments), out)
            torch.autograd.graph.increment_version((out,))
        elif _functorch_active():
            raise RuntimeError(f"dlaccel.{self.name}: out= must not be used under torch.func.")
        else:
            self._library_out(*_resolved(arguments), out)
        return out

    def __call__(self, *arguments: Any) -> Result:
        return self._call(*arguments)

    def _unusual(self, arguments: tuple[Any, ...]) -> Result:
        """Subclasses, lazily negated tensors (DLPack has no place for the bit) and non-tensors."""
        self.check(*arguments)
        arguments = _resolved(arguments)
        if all(v is None or type(v) in _PLAIN for v in arguments[: self.tensor_count]):
            return self(*arguments)
        if under_transform():
            return self._transform.apply(*arguments)
        return self._library(*arguments)

    def _run(self, arguments: tuple[Any, ...]) -> Result:
        first = arguments[0]
        kernel = self._cpu_kernel if first.is_cpu else self._device_kernel(first)
        if kernel is None:
            self.check(*arguments)
            results = as_tuple(self.reference(*map(_widen, arguments)))
            return self._bare(tuple(r.detach().to(first.dtype) for r in results))
        outputs = self.outputs(*arguments)
        self._write(kernel, outputs, arguments)
        return outputs[0] if self.returns == 1 else outputs

    def _device_kernel(self, tensor: Tensor) -> Callable[..., None] | None:
        return _core.kernel(self.kernel, tensor.device.type)

    def _write(
        self, kernel: Callable[..., None], outputs: tuple[Tensor, ...], arguments: tuple[Any, ...]
    ) -> None:
        lane = lane_of(outputs[0])
        try:
            if self.launch is None:
                kernel(lane, *outputs, *arguments)
            else:
                self.launch(kernel, lane, outputs, arguments)
        except Exception:
            self.check(*arguments)
            raise

    def _bare(self, outputs: tuple[Tensor, ...]) -> Result:
        return outputs[0] if self.returns == 1 else outputs

    def _define(self) -> None:
        returns = ", ".join(["Tensor"] * self.returns)
        returns = returns if self.returns == 1 else f"({returns})"
        qualified = f"dlaccel::{self.name}"
        LIBRARY.define(f"{self.name}({self.schema}) -> {returns}")
        LIBRARY.define(f"{self.name}_out({self.schema}, Tensor(a!) out) -> ()")
        for key in ("CPU", "CUDA"):
            LIBRARY.impl(self.name, lambda *arguments: self._run(arguments), key)
            LIBRARY.impl(f"{self.name}_out", self._run_into, key)
        packet = torch.ops.dlaccel
        self._library = getattr(packet, self.name).default
        self._library_out = getattr(packet, f"{self.name}_out").default
        torch.library.register_fake(qualified, self._fake, lib=LIBRARY)
        torch.library.register_fake(f"{qualified}_out", lambda *a: None, lib=LIBRARY)
        torch.library.register_autograd(
            qualified,
            lambda ctx, *cotangents: _pull(self, ctx, cotangents),
            setup_context=lambda ctx, inputs, output: _save(self, ctx, inputs),
            lib=LIBRARY,
        )
        torch.library.register_vmap(qualified, self._vmap, lib=LIBRARY)

    def _run_into(self, *arguments: Any) -> None:
        *inputs, out = arguments
        if self.overlap is not None:
            self.overlap(out, tuple(inputs))
        kernel = self._cpu_kernel if out.is_cpu else self._device_kernel(out)
        if kernel is None:
            out.copy_(self._run(tuple(inputs)))
        else:
            self._write(kernel, (out,), tuple(inputs))

    def _fake(self, *arguments: Any) -> Result:
        self.check(*arguments)
        return self._bare(self.outputs(*arguments))

    def _vmap(self, info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        if self.vmap is not None:
            result = self.vmap(self, info.batch_size, in_dims, arguments)
        else:
            result = self(*batch_first(info.batch_size, in_dims, arguments))
        return result, 0 if isinstance(result, Tensor) else (0,) * self.returns

    def gradients(self, cotangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """One gradient for each argument; None for scalars and absent tensors."""
        pull = self.pullback or self._reference_pullback
        return as_tuple(pull(cotangents, arguments)) + self._no_gradients

    def _reference_pullback(
        self, cotangents: tuple[Any, ...], arguments: tuple[Any, ...]
    ) -> list[Tensor | None]:
        places, tensors, call = self._reference_of_tensors(arguments)
        _, pull = vjp(call, *tensors)
        wide = tuple(_widen(c) for c in cotangents)
        gradients: list[Tensor | None] = [None] * self.tensor_count
        for place, gradient in zip(places, pull(wide), strict=True):
            gradients[place] = gradient.to(arguments[place].dtype)
        return gradients

    def tangent(self, tangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> Result:
        """The outputs' tangents for the tensor arguments' tangents (None stands for zero)."""
        if self.pushforward is not None:
            return self.pushforward(tangents, arguments)
        places, tensors, call = self._reference_of_tensors(arguments)
        directions = tuple(
            torch.zeros_like(t) if tangents[p] is None else _widen(tangents[p])
            for p, t in zip(places, tensors, strict=True)
        )
        # Twice reverse is forward: u -> J^T u is linear, and its own transpose takes t to J t.
        values, pull = vjp(call, *tensors)
        _, push = vjp(pull, tuple(torch.zeros_like(v) for v in values))
        (result,) = push(directions)
        dtype = arguments[places[0]].dtype
        return self._bare(tuple(r.to(dtype) for r in result))

    def _reference_of_tensors(
        self, arguments: tuple[Any, ...]
    ) -> tuple[list[int], list[Tensor], Callable[..., tuple[Tensor, ...]]]:
        places = [i for i in range(self.tensor_count) if arguments[i] is not None]

        def call(*tensors: Tensor) -> tuple[Tensor, ...]:
            filled = list(arguments)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            return as_tuple(self.reference(*filled))

        return places, [_widen(arguments[i]) for i in places], call


def batch_first(
    batch_size: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]
) -> list[Any]:
    """Moves each tensor's batch axis to the front, giving unbatched tensors one by expansion."""
    moved: list[Any] = []
    for dim, value in zip(in_dims, arguments, strict=True):
        if not isinstance(value, Tensor):
            moved.append(value)
        elif dim is None:
            moved.append(value.expand(batch_size, *value.shape))
        else:
            moved.append(value.movedim(dim, 0))
    return moved


def _widen(value: Any) -> Any:
    """Half types to float32, as the kernels compute."""
    if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value


def under_transform() -> bool:
    """Inside ``torch.func`` or forward-mode AD."""
    return bool(_functorch_active()) or forward_ad._current_level >= 0


def is_plainly_eager(*tensors: Tensor | None) -> bool:
    """Exact tensors, and neither a transform, a mode, tracing nor forward-mode AD around them."""
    return (
        not _is_compiling()
        and all(t is None or type(t) in _PLAIN for t in tensors)
        and not _functorch_active()
        and forward_ad._current_level < 0
        and not _dispatch_modes()
        and _tracing() is None
    )


def as_tuple(result: Result) -> tuple[Tensor, ...]:
    """The outputs of an op or a reference, bare or not, as a tuple."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _save(op: Op, ctx: Any, inputs: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*inputs[: op.tensor_count])  # None is allowed, for absent tensors
    ctx.scalars = inputs[op.tensor_count :]


def _pull(op: Op, ctx: Any, cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
    return op.gradients(cotangents, (*ctx.saved_tensors, *ctx.scalars))


def _resolved(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.resolve_neg() if isinstance(a, Tensor) else a for a in arguments)


def _router(op: Op) -> Callable[..., Result]:
    """The choice of route as a closure: every name is local, for the host's time."""
    count, outputs_of, launch, single = op.tensor_count, op.outputs, op.launch, op.returns == 1
    kernel, plain = op._cpu_kernel, _PLAIN

    def call(*arguments: Any) -> Result:
        if _is_compiling():
            return op._library(*arguments)
        wants_grad = False
        for value in arguments[:count]:
            if type(value) not in plain or value.is_neg():
                if value is not None:
                    return op._unusual(arguments)
            elif value.requires_grad:
                wants_grad = True
        if _functorch_active() or forward_ad._current_level >= 0:
            return op._transform.apply(*arguments)
        if _dispatch_modes() or _tracing() is not None:
            return op._library(*arguments)
        if wants_grad and _grad_enabled():
            return op._eager.apply(*arguments)
        if kernel is None or not arguments[0].is_cpu:
            return op._run(arguments)
        outputs = outputs_of(*arguments)
        try:
            if launch is None:
                kernel(_threads(), *outputs, *arguments)
            else:
                launch(kernel, _threads(), outputs, arguments)
        except Exception:  # the check has the better sentence, where it finds a fault
            op.check(*arguments)
            raise
        return outputs[0] if single else outputs

    return call


def _eager_function(op: Op) -> type[Function]:
    def forward(ctx: Any, *inputs: Any) -> Any:
        _save(op, ctx, inputs)
        return op._run(inputs)

    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        return _pull(op, ctx, cotangents)

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(op.name, (Function,), members)


def _transform_function(op: Op) -> type[Function]:
    def forward(*inputs: Any) -> Any:
        plain = not _dispatch_modes() and all(
            type(v) in _PLAIN for v in inputs if isinstance(v, Tensor)
        )
        return op._run(_resolved(inputs)) if plain else op._library(*inputs)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _save(op, ctx, inputs)
        ctx.save_for_forward(*inputs[: op.tensor_count])

    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        return _pull(op, ctx, cotangents)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        return op.tangent(tangents[: op.tensor_count], (*ctx.saved_tensors, *ctx.scalars))

    members = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "jvp": staticmethod(jvp),
        "vmap": staticmethod(op._vmap),
    }
    return type(f"{op.name}_transform", (Function,), members)
