"""Layers with generated weights: acceptance lines on one thread and on two, float32.

N = 1 goes through ``nn.Bilinear``, whose rivals are torch's own layer, the outer products in one
product, and generated weights in a batched product; N rows for each code go through
``ops.hyper_linear``, whose rival is the last of these. A rival is left out where what it makes does
not fit. Both the forward pass and a training step with the inputs' gradients are raced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dlaccel.nn import Bilinear
from dlaccel.ops import hyper_linear, hyper_linear_plan

from .lines import Calls, Lines
from .measure import Effort, Found
from .rows import OURS
from .timing import Spread

THREADS = (1, 2)
ROOM = 4 << 30  # bytes that a rival may make on the way
# (B, K, I, O): mixing networks of QMIX, small and wide layers, one row, odd widths.
SINGLE = (
    (1920, 64, 8, 32), (5760, 64, 27, 32), (256, 64, 64, 64), (32, 32, 256, 256),
    (1000, 7, 33, 65), (1, 512, 512, 512), (1024, 4, 1280, 1280), (4096, 64, 256, 256),
    (4096, 256, 256, 256), (8192, 16, 1024, 1024), (4096, 128, 512, 512),
)  # fmt: skip
QUICK = SINGLE[:5]
SHARED = ((256, 64, 256, 256), (64, 16, 128, 128))  # and N rows for each code
ROWS = (1, 2, 4, 8, 16, 64, 256, 1024)
COMPUTE_BOUND = 64 << 20  # operations from which on the share of torch's product rate counts
SIDE = 768  # of the square product beside which ours runs
LOOP, OUTER, GENERATE = "torch's Bilinear", "outer product + product", "generate + bmm"
PRODUCT = "square product"
Layer = Callable[[Tensor, Tensor, Tensor], Tensor]


def measure(effort: Effort) -> Found:
    """Measures every line, prints them, and gives a row for each."""
    before = torch.get_num_threads()
    quick = effort.budget <= 1
    made = Lines(effort)
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            for size in QUICK if quick else SINGLE:
                _single(made, threads, *size)
            for size in SHARED[1:] if quick else SHARED:
                for rows in ROWS[:6] if quick else ROWS:
                    _shared(made, threads, rows, *size)
    finally:
        torch.set_num_threads(before)
    return made.shown("hyper")


def _outer(x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    return (x[:, :, None] * z[:, None, :]).flatten(1) @ weight.flatten(1).T


def _generate(x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    made = (z @ weight.flatten(0, 1).T).view(len(z), *weight.shape[:2])
    if x.ndim == 3:
        return torch.bmm(x, made.transpose(1, 2))
    return torch.bmm(made, x[:, :, None])[..., 0]


def _forward(layer: Layer, given: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return layer(*given)


def _step(layer: Layer, given: tuple[Tensor, ...], cotangent: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(layer(*given), given, cotangent)


def _drawn(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(s, generator=generator).requires_grad_() for s in shapes)


def _single(made: Lines, threads: int, codes: int, width: int, inputs: int, outputs: int) -> None:
    module = Bilinear(inputs, width, outputs, bias=False)
    x, z, weight = *_drawn((codes, inputs), (codes, width)), module.weight
    layers: dict[str, Layer] = {
        OURS: lambda x, z, weight: module(x, z),
        LOOP: torch.nn.functional.bilinear,
    }
    if 4 * codes * width * inputs <= ROOM:
        layers[OUTER] = _outer
    if 4 * codes * inputs * outputs <= ROOM:
        layers[GENERATE] = _generate
    where = f"{threads} threads, B={codes} K={width} I={inputs} O={outputs}"
    _lines(made, where, layers, (x, z, weight), 2 * codes * width * inputs * outputs)


def _shared(
    made: Lines, threads: int, rows: int, codes: int, width: int, inputs: int, outputs: int
) -> None:
    given = _drawn((codes, rows, inputs), (codes, width), (outputs, inputs, width))
    plan, *_ = hyper_linear_plan(*given)
    where = f"{threads} threads, N={rows} B={codes} K={width} I={inputs} O={outputs}"
    made.found.notes.append(f"{where}: {plan.order}")
    forced = {o: partial(hyper_linear, order=o) for o in ("outer", "generate_tiles")}
    layers: dict[str, Layer] = {OURS: hyper_linear, GENERATE: _generate, **forced}
    _lines(made, where, layers, given)


def _lines(
    made: Lines,
    where: str,
    layers: dict[str, Layer],
    given: tuple[Tensor, ...],
    flops: int = 0,
) -> None:
    """A race for each stage; the share of the product rate is told where that bounds the time."""
    bound = flops > COMPUTE_BOUND and len(given[0]) >= 64
    ours = layers[OURS]
    few = given[0][:64], given[1][:64], given[2]
    truth = _generate(*(t.detach().double() for t in few))
    # Sums of I K products, each rounded to float32.
    limit = 4 * math.sqrt(given[2].shape[1] * given[2].shape[2]) * 2.0**-24
    if not made.admits(where, ours(*few).detach(), truth, limit):
        return
    cotangent = torch.randn_like(_forward(ours, given))
    a, product = torch.ones(SIDE, SIDE), torch.empty(SIDE, SIDE)
    stages: dict[str, tuple[int, Callable[[Layer], Callable[[], object]]]] = {
        "forward": (1, lambda layer: partial(_forward, layer, given)),
        "step": (3, lambda layer: partial(_step, layer, given, cotangent)),
    }
    for stage, (products, call) in stages.items():
        calls: Calls = {who: call(layer) for who, layer in layers.items()}
        calls[PRODUCT] = partial(torch.mm, a, a, out=product)
        made.found.notes.append(f"{where}, {stage}")
        result = made.race(calls)
        rivals = [who for who in layers if who != OURS]
        fastest = min(rivals, key=lambda who: result.time(who).median)
        for rival in rivals:
            if rival in (LOOP, fastest):
                target = 1.1 if rival == fastest else 1.0
                what = f"{where}, {stage}: ours over {rival}"
                made.add(what, "at most", target, result.ratio(OURS, rival))
        if bound:
            share = products * flops / (2 * SIDE**3)
            ratio = result.ratio(PRODUCT, OURS)
            spread = Spread(share * ratio.median, share * ratio.low, share * ratio.high)
            made.add(f"{where}, {stage}: share of torch's product rate", "at least", 0.7, spread)
