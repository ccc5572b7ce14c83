"""Experiment E1: where the kernel of a finite hypernetwork stops being random, and h is normal."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Generator, Tensor

from dlaccel.experiment import Trial

from .networks import Architecture, forward_backward, outputs
from .published import GAUSSIAN, KERNEL
from .theory import Covariance, Kernels, hyperkernel

Numbers = dict[str, float | int | str | None]

LAYERS = 2
"""L and H of this experiment."""

NARROW = 8
"""Width of the network that is not wide."""

CASES = ("both", "f only", "g only")
"""Which of the networks are wide."""

PAIR = 0.7, 1.0
"""Angles between x and x' and between z and z'."""

OPPOSED = 2.6, 0.5
"""Angles at which the factor s of Theta_g matters most."""

OPPOSED_WIDTHS = 1024, 64
"""n and m there."""


def on_circle(angles: Tensor, length: float = math.sqrt(2)) -> Tensor:
    """Points ``[..., 2]`` at these angles; of the default length they have |x|^2 / d = 1."""
    return length * torch.stack([angles.cos(), angles.sin()], -1)


def kernels_at(
    x_angle: float, z_angle: float, meta_depth: int, primary_depth: int, backward_scale: bool = True
) -> Kernels:
    """Kernels of u = (x, z) at angles 0 and u' at these."""
    x, z = (
        on_circle(torch.tensor([0.0, angle], dtype=torch.float64)) for angle in (x_angle, z_angle)
    )
    s1, a0 = (Covariance.of(points[:1], points[1:]) for points in (x, z))
    return hyperkernel(s1, a0, meta_depth, primary_depth, backward_scale=backward_scale)


def generator_on(trial: Trial, *key: object) -> Generator:
    """A generator on the trial's device; weights of wide networks are drawn where they are used."""
    seed = trial.generator(*key).initial_seed()
    return torch.Generator(trial.device).manual_seed(seed)


def measure_concentration(trial: Trial) -> None:
    """Kernel at one pair, against width; against the angle of z'; moments of h; by autograd."""
    config = trial.config
    trial.measure("autograd_kernel", partial(_autograd, trial))
    for case in CASES:
        for width in config.kernel_widths:
            n, m = _widths(case, width)
            where = {"case": case, "width": width, "n": n, "m": m}
            trial.measure("kernel", partial(_kernel, trial, n, m), **where)
        curve = cache(partial(_curve, trial, *_widths(case, max(config.kernel_widths))))
        for place, angle in enumerate(_angles(config.kernel_angles).tolist()):
            compute = partial(_point, curve, place)
            trial.measure("kernel_curve", compute, case=case, angle=round(angle, 6))
    wide = config.gaussian_width
    for n, m in ((8, 8), (wide, 4), (4, wide), (wide // 4, wide // 4), (wide, wide)):
        trial.measure("gaussian", partial(_gaussian, trial, n, m), n=n, m=m)


def _widths(case: str, width: int) -> tuple[int, int]:
    return {"both": (width, width), "f only": (width, NARROW), "g only": (NARROW, width)}[case]


def _architecture(n: int, m: int) -> Architecture:
    return Architecture.of(2, n, LAYERS, m, LAYERS)


def _autograd(trial: Trial) -> Numbers:
    """<grad h(u), grad h(u')> by torch's own derivatives, beside both forms of the theory."""
    architecture = _architecture(*OPPOSED_WIDTHS)
    draws = generator_on(trial, "autograd kernel")
    x, z = (on_circle(torch.tensor([0.0, angle])).to(trial.device) for angle in OPPOSED)
    found = []
    for count in architecture.chunks(trial.config.autograd_initialisations):
        weights = architecture.draw(count, draws, trial.device)
        for weight in weights:
            weight.requires_grad_()
        values = outputs(architecture, weights, x, z).sum(0)
        first = torch.autograd.grad(values[0], weights, retain_graph=True)
        second = torch.autograd.grad(values[1], weights)
        pairs = zip(first, second, strict=True)
        found.append(sum((a * b).flatten(1).sum(1) for a, b in pairs))
    kernels = torch.cat(found).double()  # type: ignore[arg-type]
    return {
        "mean": kernels.mean().item(),
        "standard_error": (kernels.std() / math.sqrt(len(kernels))).item(),
        "theory": kernels_at(*OPPOSED, LAYERS, LAYERS).tangent.item(),
        "without_scale": kernels_at(*OPPOSED, LAYERS, LAYERS, False).tangent.item(),
    }


def _draw_kernels(trial: Trial, n: int, m: int, x: Tensor, z: Tensor, *key: object) -> Tensor:
    """Kernel of the first input with all, ``[S, B]``."""
    architecture, draws = _architecture(n, m), generator_on(trial, *key, n, m)
    x, z = x.to(trial.device), z.to(trial.device)
    found = []
    for count in architecture.chunks(trial.config.kernel_initialisations):
        weights = architecture.draw(count, draws, trial.device)
        found.append(forward_backward(architecture, weights, x, z).tangent_kernel()[:, 0])
    return torch.cat(found).double().cpu()


def _kernel(trial: Trial, n: int, m: int) -> Numbers:
    x, z = (on_circle(torch.tensor([0.0, angle])) for angle in PAIR)
    kernels = _draw_kernels(trial, n, m, x, z, "kernel")[:, 1]
    low, median, high = _quartiles(kernels).tolist()
    variance = kernels.var().item()
    return {
        "iqr": high - low,
        "prototype_iqr": KERNEL.get((n, m)),
        "median": median,
        "mean": kernels.mean().item(),
        "variance": variance,
        "log_variance": math.log(variance),
        "theory": kernels_at(*PAIR, LAYERS, LAYERS).tangent.item(),
    }


def _angles(count: int) -> Tensor:
    return torch.linspace(-math.pi / 2, math.pi / 2, count, dtype=torch.float64)


def _curve(trial: Trial, n: int, m: int) -> list[Numbers]:
    """Quartiles for x = x' = (1, 0), z = (1, 0), z' = (cos t, sin t)."""
    turned = torch.cat([torch.zeros(1).double(), _angles(trial.config.kernel_angles)])
    x, z = on_circle(torch.zeros(len(turned)).double(), 1.0), on_circle(turned, 1.0)
    quartiles = _quartiles(_draw_kernels(trial, n, m, x.float(), z.float(), "kernel curve")[:, 1:])
    s1, a0 = (Covariance.of(points[:1], points[1:]) for points in (x, z))
    theory = hyperkernel(s1, a0, LAYERS, LAYERS).tangent[0]
    return [
        {"low": low, "median": median, "high": high, "theory": exact}
        for (low, median, high), exact in zip(quartiles.T.tolist(), theory.tolist(), strict=True)
    ]


def _point(curve: Callable[[], list[Numbers]], place: int) -> Numbers:
    return curve()[place]


def _gaussian(trial: Trial, n: int, m: int) -> Numbers:
    """Moments of h at a pair over initialisations; excess kurtosis is 0 for a normal h."""
    architecture, draws = _architecture(n, m), generator_on(trial, "gaussian", n, m)
    x, z = (on_circle(torch.tensor([0.0, angle])).to(trial.device) for angle in PAIR)
    found = [
        outputs(architecture, architecture.draw(count, draws, trial.device), x, z)
        for count in architecture.chunks(trial.config.gaussian_initialisations)
    ]
    h = torch.cat(found).double().cpu()
    products = h[:, 0] * h[:, 1]
    second, fourth = h[:, 0].square().mean(), h[:, 0].pow(4).mean()
    return {
        "excess_kurtosis": (fourth / second.square()).item() - 3,
        "prototype_kurtosis": GAUSSIAN.get((n, m)),
        "variance": second.item(),
        "covariance": products.mean().item(),
        "standard_error": (products.std() / math.sqrt(len(h))).item(),
        "theory": kernels_at(*PAIR, LAYERS, LAYERS).gp.item(),
    }


def _quartiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]).double(), dim=0)
