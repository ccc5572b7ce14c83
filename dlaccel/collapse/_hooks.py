"""Forward hooks that hand the outputs of named modules on, one forward at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from .. import _check
from ._batches import as_rows, uncompiled

Receiver = Callable[[str, Tensor], None]


def layer_names(op: str, model: nn.Module, layers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of the modules to measure.

    Args:
        op: Who asks, for the sentences.
        model: Any module.
        layers: Names or patterns (``*`` matches dots too); None for the model's ``embeddings``
            where it has them, else for every module without children that owns parameters.

    Raises:
        TypeError: ``model`` is no module or ``layers`` no names.
        ValueError: A name or pattern fits no module, or nothing is left to measure.
    """
    if not isinstance(model, nn.Module):
        _check.refuse(op, "model", "be a torch.nn.Module", type(model).__name__, TypeError)
    model = uncompiled(model)
    known = [name for name, _ in model.named_modules() if name]
    if layers is None:
        layers = _own_names(model) or [
            name
            for name, module in model.named_modules()
            if name and not any(module.children()) and any(True for _ in module.parameters())
        ]
        if not layers:
            _check.refuse(op, "model", "hold modules with parameters", "none", ValueError)
    patterns = [layers] if isinstance(layers, str) else layers
    found: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            _check.refuse(op, "layers", "be names of modules", type(pattern).__name__, TypeError)
        fitting = [name for name in known if name == pattern or fnmatchcase(name, pattern)]
        if not fitting:
            rule = f"name modules of the model ({_shown(known)})"
            _check.refuse(op, "layers", rule, repr(pattern), ValueError)
        found.update(dict.fromkeys(fitting))
    if not found:
        _check.refuse(op, "layers", "name at least one module", "none", ValueError)
    return tuple(found)


def _own_names(model: nn.Module) -> Sequence[str] | None:
    """``model.embeddings``, unless it is something else of that name, such as a layer."""
    names = getattr(model, "embeddings", None)
    listed = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    return names if listed else None


def penultimate_of(model: nn.Module) -> str | None:
    """``model.penultimate``, where it is a name."""
    name = getattr(model, "penultimate", None)
    return name if isinstance(name, str) else None


def _shown(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "it has none"


class Taps:
    """Hooks on modules; idle but inside :meth:`forward`.

    Attributes:
        order: Names in the order in which the last forward reached them.
    """

    def __init__(self, op: str, model: nn.Module, names: Sequence[str]) -> None:
        self.order: list[str] = []
        self._op = op
        self._names = tuple(names)
        self._receive: Receiver | None = None
        self._samples = 0
        self._open = False  # what a compiled model guards on
        model = uncompiled(model)
        self._handles = [
            model.get_submodule(name).register_forward_hook(self._hook(name)) for name in names
        ]

    @contextmanager
    def forward(self, samples: int, receive: Receiver) -> Iterator[None]:
        """One forward of ``samples`` samples inside; ``receive`` is given each layer's (N, D).

        Raises:
            ValueError: A layer is called twice, never, or gives other than a row for each sample.
            TypeError: A layer gives no tensor.
        """
        if self._open:
            raise RuntimeError(f"dlaccel.{self._op}: one forward must end before another begins.")
        self.order = []
        self._samples, self._receive, self._open = samples, receive, True
        try:
            yield
        finally:
            self._receive, self._open = None, False
        missed = [name for name in self._names if name not in self.order]
        if missed:
            got = f"none of {missed[0]!r}; a compiled model has to be watched before its first call"
            _check.refuse(self._op, "layers", "be called in every forward", got, ValueError)

    def remove(self) -> None:
        """Takes the hooks off; safe to call twice."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if self._open:
                self._take(name, output)

        return hook

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _take(self, name: str, output: object) -> None:
        if self._receive is None:
            return
        layer = f"layer {name!r}"
        if name in self.order:
            rule = "be called once in a forward"
            _check.refuse(self._op, layer, rule, "a second call", ValueError)
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(first, Tensor):
            rule = "give a tensor or a tuple that begins with one"
            _check.refuse(self._op, layer, rule, type(first).__name__, TypeError)
        if first.ndim == 0 or first.shape[0] != self._samples:
            rule = f"give a row for each of the {self._samples} labels"
            _check.refuse(self._op, layer, rule, f"shape {tuple(first.shape)}", ValueError)
        self.order.append(name)
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            self._receive(name, as_rows(first.detach()))
