r"""What the orders of evaluating :math:`y_{bn} = (\sum_k z_{bk} H_k) x_{bn}` cost, and which wins.

Flops and bytes are counted, seconds predicted from the machine's rates. For rows T = B N,
with s bytes to a number, K wide codes and weights (O, I, K):

==================  ============  =======================================================
order               flops         bytes of what is made on the way
==================  ============  =======================================================
``outer``           2 T K I O     T K I outer products, a tile at a time (none by the kernel)
``input_first``     2 T K I O     T K O, a tile at a time, and a copy of the weights
``scaled``          2 T K I O     T O for each k, a tile at a time, and a copy of the weights
``generate_tiles``  2 (B K + T)   B I O generated weights, a tile at a time
                    I O
``generate``        the same      B I O generated weights, in memory
==================  ============  =======================================================

So for N = 1 outer products beat generated weights where K < O (in memory), and with N rows to a
code the product of the codes is shared and generating wins from some N on. With R flops to a byte,
a fused outer product breaks even with generating at N = (K + s R) / (K - 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from ._machine import Machine

Order = Literal["auto", "outer", "input_first", "scaled", "generate_tiles", "generate"]
Stage = Literal["forward", "inputs", "weight"]
ORDERS: tuple[Order, ...] = (
    "auto", "outer", "input_first", "scaled", "generate_tiles", "generate",
)  # fmt: skip
TILE_BYTES = 1 << 19  # of what is made on the way: half of a core's second cache
TILE_CODES = 32  # whose weights are generated together at least
TILE_ROWS = 256  # of outer products that are formed together at most


@dataclass(frozen=True)
class Problem:
    """B codes of K numbers with N rows each, I features in and O out; s bytes to a number."""

    codes: int
    each: int
    inputs: int
    width: int
    outputs: int
    itemsize: int = 4

    @property
    def rows(self) -> int:
        return self.codes * self.each

    @property
    def depth(self) -> int:
        return self.inputs * self.width


@dataclass(frozen=True)
class Cost:
    """Of one order: operations, bytes made on the way, and predicted seconds."""

    flops: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """How one evaluation goes.

    Attributes:
        stage: ``forward``; ``inputs``, the gradients of x and z; or ``weight``, its gradient.
        order: One of ``ORDERS``, not ``auto``.
        kernel: Whether it is a compiled kernel's, with nothing made on the way.
        cost: What is predicted of it.
        why: The reason, in words.
        candidates: Costs of all orders of this stage.
    """

    stage: Stage
    order: Order
    kernel: bool
    cost: Cost
    why: str
    candidates: dict[Order, Cost] = field(repr=False, hash=False)

    def __str__(self) -> str:
        by = "kernel" if self.kernel else "torch products"
        return (
            f"hyper_linear {self.stage}: {self.order} ({by}), {self.cost.flops:.3g} flops, "
            f"{self.cost.bytes:.3g} bytes on the way, {1e3 * self.cost.seconds:.3g} ms; {self.why}"
        )


@lru_cache(maxsize=4096)
def plan(problem: Problem, stage: Stage, order: Order, rates: Machine) -> Plan:
    """The order asked for, or the one of the lowest predicted time.

    A gradient has two orders, ``outer`` and ``generate_tiles``: the others stand for the nearer.
    """
    candidates = costs(problem, stage, rates)
    if order == "auto":
        chosen = min(candidates, key=lambda name: candidates[name].seconds)
        times = ", ".join(f"{name} {1e3 * c.seconds:.3g}" for name, c in candidates.items())
        source = "rates measured here" if rates.measured else "rates assumed"
        why = f"lowest prediction (ms, {source}): {times}"
    else:
        chosen, why = order, "asked for"
        if chosen not in candidates:
            chosen = "generate_tiles" if order == "generate" else "outer"
            why = f"{order} asked for: its gradient's order"
    by_kernel = chosen == "outer" and rates.kernel > 0
    return Plan(stage, chosen, by_kernel, candidates[chosen], why, candidates)


def costs(problem: Problem, stage: Stage, rates: Machine) -> dict[Order, Cost]:
    """Of every order the stage has."""
    return _forward(problem, rates) if stage == "forward" else _gradient(problem, stage, rates)


def _forward(n: Problem, rates: Machine) -> dict[Order, Cost]:
    s, flops = n.itemsize, 2 * n.rows * n.depth * n.outputs
    weights = s * n.depth * n.outputs
    base = weights / rates.memory + flops / rates.product
    copied = 2 * weights / rates.memory
    first, scaled = s * n.rows * n.width * n.outputs, s * n.rows * n.outputs
    tiles = -(-scaled // TILE_BYTES)
    made = s * n.codes * n.inputs * n.outputs
    generated = _generated(n, rates, 1)
    spilled = made / rates.memory if made > 4 * TILE_BYTES else made / rates.cache
    return {
        "outer": _outer(n, rates, s * n.rows * n.depth),
        "input_first": Cost(
            flops, first + weights, base + copied + 2 * first / rates.cache
            + 3 * rates.call * -(-first // TILE_BYTES) + n.rows * rates.call / 8,
        ),
        "scaled": Cost(
            flops, n.width * scaled + weights, base + copied
            + 3 * n.width * scaled / rates.cache + 2 * n.width * tiles * rates.call,
        ),
        "generate_tiles": generated,
        "generate": Cost(generated.flops, made, generated.seconds + 2 * spilled),
    }  # fmt: skip


def _gradient(n: Problem, stage: Stage, rates: Machine) -> dict[Order, Cost]:
    made = n.itemsize * n.rows * n.depth
    passes = 3 if stage == "inputs" else 1  # V is written once and read by both contractions
    generated = _generated(n, rates, 2 if stage == "inputs" else 1)
    if stage == "weight":  # every tile adds to the whole gradient
        sums = 2 * n.itemsize * n.depth * n.outputs * _generated_tiles(n)
        generated = Cost(generated.flops, generated.bytes, generated.seconds + sums / rates.memory)
    return {"outer": _outer(n, rates, passes * made), "generate_tiles": generated}


def _outer(n: Problem, rates: Machine, made: int) -> Cost:
    flops = 2 * n.rows * n.depth * n.outputs
    read = n.itemsize * n.depth * n.outputs / rates.memory
    if not rates.kernel:
        seconds = read + flops / rates.product + 3 * made / rates.cache
        return Cost(flops, made, seconds + 2 * rates.call * -(-made // TILE_BYTES))
    panels = -(-n.rows // rates.lanes)
    filled = 2 * panels * rates.lanes * n.depth * max(n.outputs, 12)
    return Cost(flops, 0, read + filled / rates.kernel + 3 * rates.call)


def _generated_tiles(n: Problem) -> int:
    return -(-n.codes // codes_of_a_tile(n))


def codes_of_a_tile(n: Problem) -> int:
    """How many codes' weights are generated together."""
    fitting = TILE_BYTES // max(1, n.itemsize * n.inputs * n.outputs)
    return max(1, min(n.codes, max(fitting, TILE_CODES)))


def _generated(n: Problem, rates: Machine, times: int) -> Cost:
    """``times`` products with codes and with rows, through generated weights in tiles."""
    size = n.inputs * n.outputs
    flops = 2 * times * (n.codes * n.width + n.rows) * size
    made = n.itemsize * n.codes * size
    # A tile that is larger than its cache is written to memory and read again.
    tile = made // max(1, _generated_tiles(n))
    through = rates.cache if tile <= 4 * TILE_BYTES else (rates.cache + rates.memory) / 2
    seconds = (
        n.itemsize * size * n.width / rates.memory
        + flops / rates.product
        + 2 * times * made / through
        + 2 * times * rates.call * _generated_tiles(n)
        + times * n.codes * rates.call / 8  # torch.bmm goes from matrix to matrix
    )
    return Cost(flops, made, seconds)
