"""Experiment E2: how Taylor terms shrink with width, at the start and along the path of SGD."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from dlaccel.experiment import Records, Trial

from .concentration import Numbers, generator_on
from .jets import cost_jet, output_jet
from .networks import Architecture, Pass, forward_backward
from .published import SLOPES
from .theory import cost_exponent, term_exponent

ORDER = 5
"""The highest derivative at the start."""

COST_ORDER = 4
"""The highest derivative along the path."""

INPUTS = 10
"""d and m_0."""

SAMPLES = 16
"""N samples of the path: more than 100 steps fit, so that residuals stay of order one."""

RATE = 0.05
"""Learning rate of the path, in the parametrisation of the paper."""


@dataclass(frozen=True)
class Family:
    """Networks of one form and any width.

    Attributes:
        name: As the records have it.
        meta_depth: L.
        primary_depth: H; 0 is a plain network.
        n: Width of f; None where it is the swept one.
        m: Width of g; None likewise.
    """

    name: str
    meta_depth: int
    primary_depth: int
    n: int | None
    m: int | None

    def at(self, width: int) -> Architecture:
        """The architecture of this width."""
        n, m = self.n or width, self.m or width
        return Architecture.of(INPUTS, n, self.meta_depth, m, self.primary_depth)

    @property
    def grows(self) -> bool:
        """Whether the number of weights grows faster than the square of the width."""
        return self.m is None and self.primary_depth > 0


def families(plain_depths: tuple[int, ...]) -> list[Family]:
    """Of the terms at the start."""
    return [
        *(Family(f"plain, L = {depth}", depth, 0, None, None) for depth in plain_depths),
        Family("f wide, H = 2", 3, 2, None, 4),
        Family("f wide, H = 3", 3, 3, None, 4),
        Family("both wide, H = 3", 3, 3, None, None),
        Family("g wide, H = 3", 3, 3, 16, None),
    ]


PATHS = (
    Family("plain, L = 4", 4, 0, None, None),
    Family("f wide, H = 2", 3, 2, None, 4),
    Family("both wide, H = 2", 3, 2, None, None),
)
"""Of the terms along the path."""


def measure_rates(trial: Trial) -> None:
    """Medians of |K^(r)| over initialisations, and of the terms of the cost along SGD."""
    config = trial.config
    for family in families(config.plain_depths):
        rows = []
        for width in config.square_widths if family.grows else config.rate_widths:
            terms = cache(partial(_terms, trial, family, width))
            for order in range(1, ORDER + 1):
                compute, where = partial(_term, terms, order), _where(family, width, order)
                rows.append(trial.measure("term", compute, **where))
        for order in range(1, ORDER + 1):
            compute = partial(_slope, Records(rows).select("term", order=order), family)
            trial.measure("slope", compute, network=family.name, order=order)
    for family in PATHS:
        rows = []
        for width in config.path_square_widths if family.grows else config.path_widths:
            path = cache(partial(_path, trial, family, width))
            for step, order in product(config.path_steps, range(1, COST_ORDER + 1)):
                compute, where = (
                    partial(_path_term, path, step, order),
                    _where(family, width, order),
                )
                rows.append(trial.measure("path_term", compute, **where, at_step=step))
        for step, order in product(config.path_steps, range(1, COST_ORDER + 1)):
            of_order = Records(rows).select("path_term", order=order, at_step=step)
            compute = partial(_path_slope, of_order, family)
            trial.measure("path_slope", compute, network=family.name, at_step=step, order=order)


def _where(family: Family, width: int, order: int) -> dict[str, Any]:
    return {"network": family.name, "width": width, "order": order}


def log_slope(rows: Records, column: str) -> float | None:
    """Least squares slope of log column in log width; None where a value is 0 or infinite."""
    sizes = torch.tensor(rows.column(column), dtype=torch.float64).log()
    width = torch.tensor(rows.column("width"), dtype=torch.float64).log()
    width -= width.mean()
    slope = (width @ sizes / width.square().sum()).item()
    return slope if math.isfinite(slope) else None


def _slope(rows: Records, family: Family) -> Numbers:
    (order,) = set(rows.column("order"))
    exponent = None
    if family.n is None:
        exponent = term_exponent(order, family.primary_depth, family.m is None)
    return {
        "slope": log_slope(rows, "size"),
        "theory": exponent,
        "prototype": SLOPES.get(family.name, (None,) * ORDER)[order - 1],
    }


def _path_slope(rows: Records, family: Family) -> Numbers:
    (order,) = set(rows.column("order"))
    depth, wide = family.primary_depth, family.m is None
    return {
        "cost": log_slope(rows, "cost_term"),
        "cost_theory": cost_exponent(order, depth, wide),
        "output": log_slope(rows, "output_term"),
        "beyond_linear": log_slope(rows, "beyond_linear"),
        "output_theory": term_exponent(order, depth, wide),
    }


def _term(terms: Callable[[], Tensor], order: int) -> Numbers:
    values = terms()[:, order]
    return {"size": values.median().item(), "mean": values.mean().item()}


def _terms(trial: Trial, family: Family, width: int) -> Tensor:
    """|K^(r)| at one input of unit variance, ``[S, R + 1]``."""
    architecture = family.at(width)
    draws = generator_on(trial, "terms", family.name, width)
    u = torch.ones(1, INPUTS, dtype=torch.float64, device=trial.device)
    found = []
    for count in architecture.chunks(trial.config.rate_initialisations):
        weights = architecture.draw(count, draws, trial.device, torch.float64)
        at = forward_backward(architecture, weights, u, u)
        found.append(output_jet(architecture, weights, at, u, u.new_ones(count, 1), ORDER))
    return torch.cat(found)[..., 0].abs().cpu()


def _path_term(
    path: Callable[[], Mapping[int, dict[str, Tensor]]], step: int, order: int
) -> Numbers:
    found = path()[step]
    return {
        "cost_term": _median(found["cost"][:, order]),
        "output_term": _median(found["output"][:, order]),
        "beyond_linear": _median(found["beyond_linear"][:, order]),
        "cost": _median(found["cost"][:, 0]),
        "diverged": int((~found["cost"][:, 0].isfinite()).sum()),
    }


def _path(trial: Trial, family: Family, width: int) -> dict[int, dict[str, Tensor]]:
    """Terms of the cost at the recorded steps, each ``[S, R + 1]``."""
    architecture = family.at(width)
    draws = generator_on(trial, "path", family.name, width)
    found: dict[int, list[dict[str, Tensor]]] = {step: [] for step in trial.config.path_steps}
    data = generator_on(trial, "path data")  # the same for every network and width
    for count in architecture.chunks(trial.config.path_initialisations):
        x, z, y = _samples(count, data, trial.device)
        weights = architecture.draw(count, draws, trial.device)
        for step in range(max(found) + 1):
            at = forward_backward(architecture, weights, x, z)
            drawn = torch.randint(SAMPLES, (count,), generator=draws, device=trial.device)
            chosen = one_hot(drawn, SAMPLES).to(y.dtype)
            if step in found:
                found[step].append(_cost_terms(architecture, weights, at, z, y, chosen))
            at.step(weights, RATE * chosen * (y - at.outputs))
    return {
        step: {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
        for step, parts in found.items()
    }


def _cost_terms(
    architecture: Architecture,
    weights: list[Tensor],
    at: Pass,
    z: Tensor,
    y: Tensor,
    chosen: Tensor,
) -> dict[str, Tensor]:
    """Derivatives along grad h(u_j), where SGD goes; its factor, a power of h - y, is left out.

    ``beyond_linear`` is the mean of (h - y) h^(r) over the samples: the part of the cost's r-th
    term that is 0 for the linearised network.
    """
    jet = output_jet(architecture, weights, at, z, chosen, COST_ORDER)
    return {
        "cost": cost_jet(jet, y).abs(),
        "output": jet.square().mean(-1).sqrt(),
        "beyond_linear": ((at.outputs - y)[:, None] * jet).mean(-1).abs(),
    }


def _samples(count: int, draws: Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Own samples of each network, one network after the other, so that chunks do not matter.

    x and z in random directions with |x|^2 = d, ``[S, N, d]``; standard normal y, ``[S, N]``.
    """
    shape = count, SAMPLES, 2 * INPUTS + 1
    drawn = torch.randn(shape, generator=draws, device=device)
    x, z, y = torch.split(drawn, [INPUTS, INPUTS, 1], -1)
    return _on_sphere(x), _on_sphere(z), y[..., 0]


def _on_sphere(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * (math.sqrt(INPUTS) / norms)


def _median(values: Tensor) -> float:
    """Median where a training that diverged counts as infinite."""
    return values.nan_to_num(nan=math.inf).median().item()
