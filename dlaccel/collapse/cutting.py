"""A network without the layers above one of them, classes told by the nearest centre."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from .. import _check
from ._batches import Batches, as_rows, eager, evaluating, home, pairs, uncompiled


class Cut(nn.Module):
    """What :func:`cut` gives: the scores (N, C) of x, minus the squared distances to the centres.

    Attributes:
        body: The layers up to the cut; they are the original's, not copies.
        head: :class:`CentreScores`.
    """

    def __init__(self, body: nn.Module, head: CentreScores) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, C)."""
        scores: Tensor = self.head(self.body(x))
        return scores


class CentreScores(nn.Module):
    """-|x - m_c|^2 for features x (N, ...) and centres m (C, D), both taken about the mean centre.

    A class without a centre (NaN) has the score -inf. At least float32, also under autocast.
    """

    centres: Tensor
    origin: Tensor
    missing: Tensor

    def __init__(self, centres: Tensor, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        missing = centres.isnan().any(1)
        centres = centres.detach().double()
        origin = centres[~missing].mean(0)
        shifted = (centres - origin).masked_fill(missing[:, None], 0)
        self.register_buffer("missing", missing)
        self.register_buffer("origin", origin.to(dtype))
        self.register_buffer("centres", shifted.to(dtype))

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N, C)."""
        width = self.centres.shape[1]
        if features.ndim == 0 or features.shape[1:].numel() != width:
            rule = f"have {width} numbers for each sample, as the centres have"
            _check.refuse("cut", "the layer's output", rule, tuple(features.shape), ValueError)
        with torch.autocast(features.device.type, enabled=False):
            x = as_rows(features).to(self.centres.dtype) - self.origin
            lengths = self.centres.square().sum(1)
            scores = torch.addmm(lengths, x, self.centres.T, beta=-1, alpha=2)
            scores = scores - x.square().sum(1, keepdim=True)
            return scores.clamp(max=0).masked_fill(self.missing, -torch.inf)


def cut(model: nn.Module, layer: str, centres: Tensor) -> Cut:
    """The network up to ``layer``, then the nearest class centre: what the layers above are worth.

    Where ``layer`` is reached through ``nn.Sequential`` alone, as in the networks of
    ``dlaccel.models``, the layers above are left out. Of any other module they are kept and not
    run: a hook on ``layer`` raises an exception that ends the forward there and that nobody else
    sees (code that catches BaseException does; ``torch.compile`` leaves the graph).

    The cut shares its parameters with ``model``; ``copy.deepcopy`` parts them.

    Args:
        model: Any module.
        layer: Name of one of its modules.
        centres: (C, D), such as ``layers[layer].geometry.means``; NaN rows for absent classes.

    Raises:
        TypeError: ``model`` is no module, ``centres`` no floating tensor.
        ValueError: There is no such layer, or ``centres`` has not two axes.

    Source: arXiv 2202.09028, "the top layers are redundant".
    """
    if not isinstance(model, nn.Module):
        _check.refuse("cut", "model", "be a torch.nn.Module", type(model).__name__, TypeError)
    model = uncompiled(model)
    if not layer or layer not in dict(model.named_modules()):
        _check.refuse("cut", "layer", "name a module of the model", repr(layer), ValueError)
    _check.tensors("cut", {"centres": centres})
    _check.floating("cut", {"centres": centres})
    if centres.ndim != 2 or bool(centres.isnan().any(1).all()):
        rule = "be (C, D) with a centre for at least one class"
        got = "NaN alone" if centres.ndim == 2 and len(centres) else tuple(centres.shape)
        _check.refuse("cut", "centres", rule, got, ValueError)
    weights = next((p for p in model.parameters() if p.is_floating_point()), centres)
    dtype = torch.promote_types(weights.dtype, torch.float32)
    head = CentreScores(centres.to(weights.device), dtype)
    shorter = Cut(_up_to(model, layer), head)
    shorter.training = head.training = model.training
    return shorter


def _up_to(model: nn.Module, path: str) -> nn.Module:
    """``model`` ending after the module at ``path``."""
    if not path:
        return model
    own_way = getattr(model.forward, "__func__", None) is not nn.Sequential.forward
    if own_way or model._forward_pre_hooks:
        return _Stopped(model, path)
    first, _, rest = path.partition(".")
    names = list(model._modules)
    kept = OrderedDict((name, model.get_submodule(name)) for name in names[: names.index(first)])
    kept[first] = _up_to(model.get_submodule(first), rest)
    shorter = nn.Sequential(kept)
    shorter.training = model.training
    return shorter


class _Reached(BaseException):
    """Carries the output of the layer out of the forward of its network."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output


class _Stopped(nn.Module):
    """``network`` whose forward ends after the module at ``path``."""

    def __init__(self, network: nn.Module, path: str) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.training = network.training

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: object) -> Tensor:
        """The module's output, of a tuple the first."""

        def stop(_module: nn.Module, _inputs: object, output: object) -> None:
            raise _Reached(output)

        handle = self.network.get_submodule(self.path).register_forward_hook(stop)
        try:
            with eager():
                self.network(*inputs)
        except _Reached as reached:
            output = reached.output
        else:
            rule = "be called in every forward"
            _check.refuse("cut", f"layer {self.path!r}", rule, "no call", ValueError)
        finally:
            handle.remove()
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(first, Tensor):
            rule = "give a tensor or a tuple that begins with one"
            _check.refuse("cut", f"layer {self.path!r}", rule, type(first).__name__, TypeError)
        return first


@dataclass(frozen=True)
class Comparison:
    """A network beside its cut.

    Attributes:
        accuracy: Of the network.
        accuracy_cut: Of its cut.
        agreement: Share of the samples that both call the same class.
        seconds: Of one batch through the network, the median.
        seconds_cut: Of the same batch through the cut.
        parameters: Numbers that the network learned.
        parameters_cut: Those that the cut keeps.
    """

    accuracy: float
    accuracy_cut: float
    agreement: float
    seconds: float
    seconds_cut: float
    parameters: int
    parameters_cut: int

    @property
    def speed(self) -> float:
        """How many times faster the cut is."""
        return self.seconds / self.seconds_cut


@torch.no_grad()
def compare(
    model: nn.Module,
    shorter: nn.Module,
    loader: Batches,
    *,
    device: torch.device | str | None = None,
    repeats: int = 11,
) -> Comparison:
    """Accuracy of both on all batches and time of both on the first, turn by turn.

    Args:
        model: The network; its outputs are scores (N, C).
        shorter: The same network :func:`cut`.
        loader: Batches (inputs, labels, ...); label -1 is ignored.
        device: Where inputs and labels go; by default where the model's first parameter is.
        repeats: Timings of each, of which the median counts.

    Raises:
        ValueError: The loader is empty, or ``repeats`` is not positive.
    """
    if repeats < 1:
        _check.refuse("compare", "repeats", "be at least 1", repeats, ValueError)
    place = home(model, device)
    first: Tensor | None = None
    counts = torch.zeros(4, dtype=torch.int64, device=place)  # samples, right, right cut, the same
    with evaluating(model), evaluating(shorter):
        for x, labels in pairs("compare", "loader", loader, place):
            first = x if first is None else first
            whole, part = model(x).argmax(1), shorter(x).argmax(1)
            used = labels >= 0
            shown = used, used & (whole == labels), used & (part == labels), used & (whole == part)
            counts += torch.stack([hit.sum() for hit in shown])
        assert first is not None
        seconds, seconds_cut = _interleaved([model, shorter], first, repeats)
    samples, *hits = counts.tolist()
    accuracy, accuracy_cut, agreement = (hit / samples if samples else math.nan for hit in hits)
    return Comparison(
        accuracy=accuracy,
        accuracy_cut=accuracy_cut,
        agreement=agreement,
        seconds=seconds,
        seconds_cut=seconds_cut,
        parameters=_size(model),
        parameters_cut=_size(shorter),
    )


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _interleaved(
    networks: Sequence[Callable[[Tensor], Tensor]], x: Tensor, repeats: int
) -> list[float]:
    """Median seconds of each, after a call that is not counted."""
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(repeats + 1):
        for network, own in zip(networks, times, strict=True):
            start = time.perf_counter()
            network(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            own.append(time.perf_counter() - start)
    return [median(own[1:]) for own in times]
