"""Lazy dynamics: a hypernetwork trained beside its linearisation at the start."""

from __future__ import annotations

from functools import partial

import torch

from dlaccel.experiment import Trial

from .concentration import Numbers, generator_on, on_circle
from .networks import Architecture, forward_backward
from .published import LAZY

SAMPLES = 8
"""N samples, x and z on the circle at random angles, standard normal targets."""

LAYERS = 2
"""L and H."""

FIXED_PRIMARY = 4
"""m where f alone is wide."""

CASES = ("both", "f only")


def measure_lazy(trial: Trial) -> None:
    """Largest deviation over training, against width, with both networks wide and with f alone."""
    for case in CASES:
        for width in trial.config.lazy_widths:
            m = width if case == "both" else FIXED_PRIMARY
            compute = partial(_lazy, trial, width, m, LAZY.get((case, width)))
            trial.measure("lazy", compute, case=case, width=width, m=m)


def _lazy(trial: Trial, n: int, m: int, prototype: float | None) -> Numbers:
    """Full-batch gradient descent on sum (h - y)^2 / 2 with rate 1 / lambda_max(K_0) of each.

    The linearisation h + grad h (w - w_0), trained alike, has h_(t+1) = h_t - rate K_0 (h_t - y)
    at the samples. The deviation is the root mean square of their difference over the samples,
    its largest value over the steps, and of that the median over initialisations.
    """
    architecture = Architecture.of(2, n, LAYERS, m, LAYERS)
    draws = generator_on(trial, "lazy", n, m)
    # Inputs and targets are the same for every width.
    data, targets = (generator_on(trial, "lazy", part) for part in ("data", "targets"))
    device, steps = trial.device, trial.config.lazy_steps
    deviations, costs, linear_costs = [], [], []
    for count in architecture.chunks(trial.config.lazy_initialisations):
        angles = 2 * torch.pi * torch.rand(count, 2, SAMPLES, generator=data, device=device)
        x, z = map(on_circle, angles.unbind(1))
        y = torch.randn(count, SAMPLES, generator=targets, device=device)
        weights = architecture.draw(count, draws, device)
        at = forward_backward(architecture, weights, x, z)
        kernel, linear = at.tangent_kernel(), at.outputs
        rate = 1 / torch.linalg.eigvalsh(kernel)[:, -1:]
        largest = torch.zeros(count, device=device)
        for _ in range(steps):
            at.step(weights, rate * (y - at.outputs))
            linear = linear + rate * ((y - linear)[:, None] @ kernel)[:, 0]
            at = forward_backward(architecture, weights, x, z)
            apart = (at.outputs - linear).square().mean(1).sqrt().nan_to_num(nan=torch.inf)
            largest = torch.maximum(largest, apart)
        deviations.append(largest)
        costs.append((at.outputs - y).square().mean(1) / 2)
        linear_costs.append((linear - y).square().mean(1) / 2)
    deviation = torch.cat(deviations)
    return {
        "deviation": deviation.median().item(),
        "prototype": prototype,
        "diverged": int((~deviation.isfinite()).sum()),
        "cost": torch.cat(costs).nan_to_num(nan=torch.inf).median().item(),
        "linear_cost": torch.cat(linear_costs).median().item(),
    }
