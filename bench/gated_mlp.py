"""The gated MLP through ``dlaccel.nn.GatedMLP``, beside torch's own composition.

Contestants: ``eager`` multiplies in the dtype of the weights; ``cast`` (half types) turns weights
and input into float32, multiplies, and rounds back; ``recompute`` is ours with that memory mode.
The ceiling is the three products alone, in the dtype where the processor has instructions for it
and otherwise in float32, weights converted beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlaccel._spec import ROUNDING
from dlaccel.nn import GatedMLP

from .gate import EAGER_FACTOR, relative_error
from .measure import Effort, Found, cuda_peak
from .peers import EAGER
from .roofline import buffer_sets
from .rows import OURS, Row, timed
from .timing import Contestant, Race, race

CAST, RECOMPUTE, PRODUCTS = "cast", "recompute", "products"
Layer = Callable[[Tensor], Tensor]
STAGES = ("forward", "both")
_NAMES = (
    "gate_proj.weight",
    "up_proj.weight",
    "down_proj.weight",
)  # as Llama's state dicts have them
CPU_SIZES = ((64, 768, 2048), (512, 256, 704), (512, 512, 1408))
GPU_SIZES = (
    (8192, 896, 4864), (8192, 4096, 14336), (25216, 384, 1024), (65536, 256, 704),
    (1024, 2048, 1408), (512, 512, 1408), (16, 4096, 14336),
)  # fmt: skip


@dataclass(frozen=True)
class Mlp:
    """y = (silu(x G^T) * x V^T) D^T for ``tokens`` rows; one set of weights, inputs that rotate."""

    tokens: int
    features: int
    hidden: int
    dtype: torch.dtype
    device: torch.device

    @property
    def words(self) -> tuple[str, str, str, str]:
        size = f"{self.tokens};{self.features},{self.hidden}"
        return "GatedMLP", "silu", size, str(self.dtype).removeprefix("torch.")

    @property
    def limit(self) -> float:
        """Relative L2 error: result and three intermediates are rounded into the dtype; in float32
        stand two products in a row, whose errors grow with the square root of what they sum.
        """
        inner = 12 + 2 * math.sqrt(self.features) + math.sqrt(self.hidden)
        return 4 * ROUNDING[self.dtype] + inner * ROUNDING[torch.float32]

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        shapes = (
            (self.hidden, self.features),
            (self.hidden, self.features),
            (self.features, self.hidden),
        )
        return tuple(self._random(*s, scale=s[1] ** -0.5).requires_grad_() for s in shapes)  # type: ignore[return-value]

    @cached_property
    def inputs(self) -> list[tuple[Tensor, Tensor]]:
        """x and dy, set by set."""
        count = buffer_sets(self.tokens * self.features * self.dtype.itemsize, self.device)
        return [
            (self._random(self.tokens, self.features), self._random(self.tokens, self.features))
            for _ in range(count)
        ]

    def _random(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, device=self.device) * scale).to(self.dtype)

    def _ours(self, memory: Literal["keep", "recompute"]) -> tuple[Layer, tuple[Tensor, ...]]:
        made = GatedMLP(
            self.features, self.hidden, memory=memory, device=self.device, dtype=self.dtype
        )
        weights = (w.detach() for w in self.weights)
        made.load_state_dict(dict(zip(_NAMES, weights, strict=True)))
        return made, tuple(made.get_parameter(name) for name in _NAMES)

    @cached_property
    def layers(self) -> dict[str, tuple[Layer, tuple[Tensor, ...]]]:
        """By contestant: the layer, and the weights that its gradient is for."""
        found: dict[str, tuple[Layer, tuple[Tensor, ...]]] = {
            EAGER: (partial(_composed, self.weights), self.weights)
        }
        if self.dtype in (torch.bfloat16, torch.float16):
            found[CAST] = (partial(_cast, self.weights), self.weights)
        found[OURS] = self._ours("keep")
        found[RECOMPUTE] = self._ours("recompute")
        return found

    def racing(self, stage: str) -> list[str]:
        """Contestants; the forward pass is the same in both memory modes."""
        return [who for who in self.layers if stage != "forward" or who != RECOMPUTE]

    def contestant(self, who: str, stage: str) -> Contestant:
        inputs = self.inputs
        if who == PRODUCTS:
            return self._products()
        function, weights = self.layers[who]

        def forward(x: Tensor) -> Tensor:
            with torch.no_grad():
                return function(x)

        def both(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(function(x), (x, *weights), dy)

        if stage == "forward":
            return Contestant(who, forward, lambda turn: inputs[turn % len(inputs)][:1])
        leaves = [(x.detach().requires_grad_(), dy) for x, dy in inputs]
        return Contestant(who, both, lambda turn: leaves[turn % len(leaves)])

    def _products(self) -> Contestant:
        native = self.device.type == "cuda" or (self.dtype == torch.bfloat16 and native_bfloat16())
        compute = self.dtype if native else torch.float32
        gate, value, down = (w.detach().to(compute) for w in self.weights)
        x = self.inputs[0][0].to(compute)
        h, y = x.new_empty(self.tokens, self.hidden), torch.empty_like(x)

        def multiply() -> None:
            torch.mm(x, gate.t(), out=h)
            torch.mm(x, value.t(), out=h)
            torch.mm(h, down.t(), out=y)

        return Contestant(PRODUCTS, multiply, lambda turn: ())

    def errors(self) -> dict[str, tuple[float, float]]:
        """Relative L2 error of the result and, the largest, of the gradients, by contestant."""
        x, dy = self.inputs[0]
        wide = tuple(w.detach().double().requires_grad_() for w in self.weights)
        exact = _both(partial(_composed, wide), wide, x.double(), dy.double())
        found = {}
        for who, (layer, weights) in self.layers.items():
            y, *gradients = map(relative_error, _both(layer, weights, x, dy), exact)
            found[who] = y, max(gradients)
        return found


def native_bfloat16() -> bool:
    """Whether torch multiplies bfloat16 on this CPU with instructions made for it."""
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(ask and ask())


def _both(layer: Layer, weights: Sequence[Tensor], x: Tensor, dy: Tensor) -> list[Tensor]:
    """The result and the gradients of x and of the weights."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, (x, *weights), dy)]


def _composed(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    gate, value, down = weights
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, value), down)


def _cast(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    return _composed([w.float() for w in weights], x.float()).to(x.dtype)


def from_words(op: str, variant: str, size: str, dtype: str) -> Mlp:
    """The case that :attr:`Mlp.words` names, on the CPU."""
    tokens, _, rest = size.partition(";")
    features, _, hidden = rest.partition(",")
    return Mlp(int(tokens), int(features), int(hidden), getattr(torch, dtype), torch.device("cpu"))


def refusal(mlp: Mlp, errors: dict[str, tuple[float, float]]) -> str | None:
    """Why ours must not be timed."""
    worst = max(errors[OURS])
    if not worst <= mlp.limit:
        return f"its error {worst:.2g} passes the limit {mlp.limit:.2g}"
    for own, theirs in zip(errors[OURS], errors[EAGER], strict=True):
        if own > EAGER_FACTOR * theirs:
            return f"its error {own:.2g} passes {EAGER_FACTOR:g} times eager's {theirs:.2g}"
    return None


def measure_one(
    mlp: Mlp, effort: Effort, stages: Sequence[str] = STAGES
) -> tuple[Found, dict[str, Race]]:
    """Rows of a case, and its races by stage."""
    errors = mlp.errors()
    why = refusal(mlp, errors)
    if why:
        return Found(refused=[f"{' '.join(mlp.words)}: dlaccel is not timed: {why}."]), {}
    found, races = Found(), {}
    for stage in stages:
        everyone = [mlp.contestant(who, stage) for who in (*mlp.racing(stage), PRODUCTS)]
        run = partial(race, everyone, mlp.device, rounds=effort.rounds, budget=effort.budget)
        races[stage], others = effort.patience.quietly(run)
        peaks = {c.who: cuda_peak(c) for c in everyone} if mlp.device.type == "cuda" else {}
        found.rows += _rows(mlp, stage, races[stage], errors, others, peaks)
    return found, races


def _rows(
    mlp: Mlp,
    stage: str,
    result: Race,
    errors: dict[str, tuple[float, float]],
    others: float | None,
    peaks: dict[str, float],
) -> list[Row]:
    floor = result.time(PRODUCTS).median * (1 if stage == "forward" else 3)
    rows = []
    for who in result.seconds:
        percent = None if who == PRODUCTS else 100 * floor / result.time(who).median
        error = errors[who][stage != "forward"] if who in errors else None
        rows.append(
            timed(
                (*mlp.words, stage), who, result, others,
                percent=percent, error=error, peak_mib=peaks.get(who),
                cache="weights warm, inputs rotated",
            )
        )  # fmt: skip
    return rows


def measure(
    device: torch.device, dtypes: Sequence[str], effort: Effort, *, quick: bool
) -> Iterator[Found]:
    """Every size and dtype."""
    sizes = GPU_SIZES if device.type == "cuda" else CPU_SIZES
    for dtype in dtypes:
        for size in sizes[1:2] if quick else sizes:
            mlp = Mlp(*size, getattr(torch, dtype), device)
            print("  ", *mlp.words, flush=True)
            yield measure_one(mlp, effort)[0]
