"""Wide hypernetworks: kernels, Taylor terms, lazy dynamics, rotations, images.

Littwin, Galanti, Wolf, Yang, "On Infinite-Width Hypernetworks", NeurIPS 2020, arXiv 2003.12193.
The differences D1, D2, ... from the paper stand in docs/papers/littwin2020hyperkernel.md.
"""

from __future__ import annotations

from dlaccel.data.finding import find
from dlaccel.experiment import Trial

from .claims import CLAIMS
from .closed_forms import measure_closed_forms
from .completion import measure_completion
from .concentration import measure_concentration
from .config import PROFILES, SEEDS, Config
from .figures import FIGURES
from .lazy import measure_lazy
from .rates import measure_rates
from .rotation import measure_rotation

_COLUMNS = {
    "closed_form": "L H x_angle z_angle gp note_gp tangent note_tangent tangent_without_scale",
    "kernel_matrix": "backward_scale gp_least tangent_least gp_asymmetry tangent_asymmetry",
    "autograd_kernel": "mean standard_error theory without_scale",
    "kernel": "case width iqr prototype_iqr median mean variance log_variance theory",
    "gaussian": "n m excess_kurtosis prototype_kurtosis covariance standard_error theory",
    "slope": "network order slope theory prototype",
    "path_slope": "network at_step order cost cost_theory output beyond_linear output_theory",
    "lazy": "case width deviation prototype diverged cost linear_cost",
    "rotation": "data width depth rate epochs accuracy deviation prototype",
    "rotation_data": "data train test majority of",
    "rate_sweep": "data width rate epochs accuracy deviation",
    "regression": "data task images method error prototype residual condition",
    "term": "network width order size mean",
    "path_term": "network width at_step order cost_term output_term beyond_linear cost diverged",
}
TABLES = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""Measurements shown in the report, with their columns in order."""


def run(trial: Trial) -> None:
    """All experiments of one seed, E1 to E6; missing data are found before any of them.

    Raises:
        dlaccel.data.DataError: When data are missing or damaged.
    """
    for name in (*trial.config.rotation_data, trial.config.image_data):
        for split in ("train", "test"):
            find(name, split)
    measure_closed_forms(trial)
    measure_concentration(trial)
    measure_rates(trial)
    measure_lazy(trial)
    measure_rotation(trial)
    measure_completion(trial)


__all__ = ["CLAIMS", "FIGURES", "PROFILES", "SEEDS", "TABLES", "Config", "run"]
