"""The closed forms beside the values that a note on the paper has for them."""

from __future__ import annotations

from functools import partial

import torch

from dlaccel.experiment import Trial

from .concentration import Numbers, kernels_at
from .published import CONSTANTS
from .theory import Covariance, hyperkernel

INPUTS = 200
"""Random u whose kernel matrices are to be positive semi-definite."""

INPUT_LENGTH = 5
"""d and m_0 of those."""


def measure_closed_forms(trial: Trial) -> None:
    """Values at pairs of angles; symmetry and least eigenvalue at random inputs."""
    for (meta, primary, x, z), (gp, tangent) in CONSTANTS.items():
        where = {"L": meta, "H": primary, "x_angle": x, "z_angle": z}
        compute = partial(_values, meta, primary, x, z, gp, tangent)
        trial.measure("closed_form", compute, once=True, **where)
    for backward_scale in (True, False):
        compute = partial(_matrix, trial, backward_scale)
        trial.measure("kernel_matrix", compute, backward_scale=backward_scale)


def _values(
    meta: int, primary: int, x: float, z: float, gp: float | None, tangent: float
) -> Numbers:
    found = kernels_at(x, z, meta, primary)
    return {
        "gp": found.gp.item(),
        "note_gp": gp,
        "tangent": found.tangent.item(),
        "note_tangent": tangent,
        "tangent_without_scale": kernels_at(x, z, meta, primary, False).tangent.item(),
    }


def _matrix(trial: Trial, backward_scale: bool) -> Numbers:
    draws = trial.generator("kernel matrix")
    x, z = torch.randn(2, INPUTS, INPUT_LENGTH, generator=draws, dtype=torch.float64)
    found = hyperkernel(
        Covariance.of(x, x), Covariance.of(z, z), 3, 3, backward_scale=backward_scale
    )
    numbers: Numbers = {}
    for name, kernel in (("gp", found.gp), ("tangent", found.tangent)):
        values = torch.linalg.eigvalsh(kernel)
        numbers[f"{name}_asymmetry"] = ((kernel - kernel.T).abs().max() / values[-1]).item()
        numbers[f"{name}_least"] = (values[0] / values[-1]).item()
    return numbers
