"""A module as a function of its parameters, with nothing of the module's own touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import _check

State = Mapping[str, Tensor]
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


@dataclass(eq=False)
class Network:
    """Copies in one dtype of what a module computes with; calls see them instead of its own.

    Attributes:
        leaves: The parameters that the kernel is taken over; they require gradients.
        fixed: The other parameters and the buffers.
    """

    op: str
    module: nn.Module
    leaves: dict[str, Tensor]
    fixed: dict[str, Tensor]
    dtype: torch.dtype

    def __call__(self, x: Tensor, leaves: State | None = None) -> Tensor:
        """The outputs (N, O) of the rows of ``x``.

        Raises:
            TypeError: The module gives something other than a tensor.
            ValueError: Its first axis is not that of ``x``.
        """
        state = {**self.fixed, **(self.leaves if leaves is None else leaves)}
        out = functional_call(self.module, state, (x.clone(),))  # it may write into its input
        if not isinstance(out, Tensor):
            _check.refuse(self.op, "model", "give a tensor", type(out).__name__, TypeError)
        if out.ndim == 0 or out.shape[0] != x.shape[0]:
            rule = f"give one row for each of the {x.shape[0]} rows of its input"
            _check.refuse(self.op, "model", rule, f"shape {tuple(out.shape)}", ValueError)
        return out if out.ndim == 2 else out.reshape(len(out), -1)

    def cast(self, x: Tensor) -> Tensor:
        """``x`` without its graph, in the network's dtype if its numbers are floating."""
        x = x.detach()
        x = x.to(self.dtype) if x.is_floating_point() else x
        return x.clone() if x.is_inference() else x


@contextmanager
def graph() -> Iterator[None]:
    """Gradients are recorded inside, in the dtypes that the operands have."""
    with torch.inference_mode(False), torch.enable_grad():
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                yield
        else:
            yield


@contextmanager
def constant() -> Iterator[None]:
    """Nothing is recorded inside, and what is made may be recorded later."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def networks(
    op: str,
    model: nn.Module,
    x: Tensor,
    parameters: str | Sequence[str] | None,
    precision: torch.dtype | str | None,
    ensemble: tuple[State, State] | None = None,
    attached: bool = False,
) -> list[Network]:
    """The network, or one for each entry of the ensemble's leading axis.

    Their tensors have no graph unless they stay ``attached`` to that of the given ones.
    """
    model = _plain(op, model)
    _refuse_modes(op, model)
    names = _selected(op, model, parameters)
    dtype = _dtype(op, model, x, precision)
    own = dict(model.named_parameters()), dict(model.named_buffers())
    states = [own] if ensemble is None else _members(op, own, ensemble)
    copied = _attached if attached else _copied
    return [copied(op, model, names, dtype, *state) for state in states]


def _plain(op: str, model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        _check.refuse(op, "model", "be a torch.nn.Module", type(model).__name__, TypeError)
    inner = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    assert isinstance(inner, nn.Module)
    return inner


def _refuse_modes(op: str, model: nn.Module) -> None:
    """Refuses modules in a mode that couples samples or draws numbers."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training or module.running_mean is None:
                rule = "treat each sample alone, in eval mode with running statistics"
                got = f"batch normalisation {name!r}, which couples the samples of a batch"
                _check.refuse(op, "model", rule, got, ValueError)
        elif isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p:
            got = f"{name!r} that drops in training mode"
            _check.refuse(op, "model", "be a fixed function, in eval mode", got, ValueError)


def _selected(op: str, model: nn.Module, wanted: str | Sequence[str] | None) -> list[str]:
    known = dict(model.named_parameters())
    if wanted is None:
        names = [name for name, value in known.items() if value.requires_grad]
        if not names:
            rule = "hold parameters that require a gradient, or parameters= name some"
            _check.refuse(op, "model", rule, f"{len(known)} that do not", ValueError)
        return names
    found: dict[str, None] = {}
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        if not isinstance(pattern, str):
            _check.refuse(op, "parameters", "be names", type(pattern).__name__, TypeError)
        fitting = [name for name in known if name == pattern or fnmatchcase(name, pattern)]
        if not fitting:
            more = ", ..." if len(known) > 5 else ""
            rule = f"name parameters of the model ({', '.join(list(known)[:5])}{more})"
            _check.refuse(op, "parameters", rule, repr(pattern), ValueError)
        found.update(dict.fromkeys(fitting))
    if not found:
        _check.refuse(op, "parameters", "name at least one parameter", "none", ValueError)
    return list(found)


def _dtype(
    op: str, model: nn.Module, x: Tensor, precision: torch.dtype | str | None
) -> torch.dtype:
    if precision is None:
        dtypes = [x.dtype, *(p.dtype for p in model.parameters())]
        first = next((d for d in dtypes if d.is_floating_point), torch.float32)
        return first if first in PRECISIONS.values() else torch.float32
    found = PRECISIONS.get(precision) if isinstance(precision, str) else precision
    if found is None or found not in PRECISIONS.values():
        _check.refuse(op, "precision", "be float64 or float32", repr(precision), ValueError)
    return found


def _members(
    op: str, own: tuple[State, State], ensemble: tuple[State, State]
) -> list[tuple[State, State]]:
    if not isinstance(ensemble, tuple) or len(ensemble) != 2:
        rule = "be (parameters, buffers) as of torch.func.stack_module_state"
        _check.refuse(op, "ensemble", rule, type(ensemble).__name__, TypeError)
    sizes = set()
    for model_state, stacked in zip(own, ensemble, strict=True):
        if set(stacked) != set(model_state):
            odd = sorted(set(stacked) ^ set(model_state))
            rule = "hold the model's parameters and buffers, each under its name"
            _check.refuse(op, "ensemble", rule, f"a difference in {odd[0]!r}", ValueError)
        for name, value in stacked.items():
            if value.shape[1:] != model_state[name].shape:
                rule = f"hold {name} as (E, {', '.join(map(str, model_state[name].shape))})"
                _check.refuse(op, "ensemble", rule, tuple(value.shape), ValueError)
            sizes.add(len(value))
    if len(sizes) != 1:
        _check.refuse(op, "ensemble", "have one leading size E", sorted(sizes), ValueError)
    count = sizes.pop()
    return [(_member(ensemble[0], e), _member(ensemble[1], e)) for e in range(count)]


def _member(stacked: State, place: int) -> State:
    return {name: value[place] for name, value in stacked.items()}


def _copied(
    op: str,
    model: nn.Module,
    names: Sequence[str],
    dtype: torch.dtype,
    parameters: State,
    buffers: State,
) -> Network:
    chosen = set(names)
    with torch.inference_mode(False):
        leaves = {n: _cast(parameters[n], dtype).requires_grad_() for n in names}
        fixed = {n: _cast(p, dtype) for n, p in parameters.items() if n not in chosen}
        # Buffers are copied: a forward may count or average in place.
        fixed |= {n: _cast(b, dtype).clone() for n, b in buffers.items()}
    return Network(op, model, leaves, fixed, dtype)


def _attached(
    op: str,
    model: nn.Module,
    names: Sequence[str],
    dtype: torch.dtype,
    parameters: State,
    buffers: State,
) -> Network:
    """The same, as parts of the given tensors' graph."""
    state = {**parameters, **buffers}
    found = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    leaves = {n: found.pop(n) for n in names}
    return Network(op, model, leaves, found, dtype)


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach()
    value = value.to(dtype) if value.is_floating_point() else value
    return value.clone() if value.is_inference() else value
