"""Effective depth of deep classifiers, with clean and with wrong labels, and the bound from it.

Galanti, Galanti, Ben-Shaul, "On the Implicit Bias Towards Minimal Depth of Deep Neural Networks",
2022; as "Comparative Generalization Bounds for Deep Neural Networks", TMLR 2023; arXiv 2202.09028.
The differences D1 .. from the paper stand in docs/papers/galanti2022depth.md.
"""

from __future__ import annotations

from dlaccel.experiment import Trial

from .bound import measure_bound
from .claims import CLAIMS
from .config import PROFILES, SEEDS, Config
from .figures import FIGURES
from .following import reader
from .sweep import measure_depths, measure_noise, measure_pixels
from .top import measure_top

_NETWORK = "accuracy_train accuracy_test cdnv_first cdnv_last d_005 d_01 d_03 d_05"
_LAYER = "ncc_train ncc_test cdnv_train cdnv_test"
_COLUMNS = {
    "depth": f"network data depth epoch {_NETWORK} seconds",
    "noise": f"network data depth q epoch {_NETWORK}",
    "bound": "network data depth error_test error_worst estimate p epsilon chance frobenius "
    "spectral",
    "bound_at": "network data depth p effective minimal error_train probability estimate delta_2",
    "mistakes": "network data depth draw mistakes labels labels_uniform overlap",
    "top": f"network data top_depth epoch {_NETWORK}",
    "probe": "network data top_depth layer module accuracy_test",
    "pixels": f"data {_LAYER}",
    "depth_layer": f"network data depth epoch layer {_LAYER} theirs",
    "noise_layer": f"network data depth q epoch layer {_LAYER}",
    "top_layer": f"network data top_depth epoch layer {_LAYER}",
}
TABLES = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""Measurements shown in the report, with their columns in order."""


def run(trial: Trial) -> None:
    """All experiments of one seed, G1 to G7."""
    data = reader(trial.config, trial.device)
    measure_pixels(trial, data)
    measure_depths(trial, data)
    measure_noise(trial, data)
    measure_bound(trial, data)
    measure_top(trial, data)


__all__ = ["CLAIMS", "FIGURES", "PROFILES", "SEEDS", "TABLES", "Config", "run"]
