"""Products of neurons against ReLUs: sizes and errors of networks built by hand, and training.

Ben-Shaul, Galanti, Dekel, "Exploring the Approximation Capabilities of Multiplicative Neural
Networks for Smooth Functions", TMLR 2023, arXiv 2301.04605. The differences D1 .. D9 from the paper
stand in docs/papers/benshaul2023multiplicative.md.
"""

from __future__ import annotations

from dlaccel.experiment import Trial

from .balls import measure_balls, measure_index_sets, measure_rates, measure_truncation
from .bandlimited import measure_bandlimited, measure_maurey
from .claims import CLAIMS
from .config import PROFILES, SEEDS, Config
from .figures import FIGURES
from .fit import measure_fit
from .laws import measure_laws
from .training import measure_training
from .univariate import measure_degrees, measure_functions, measure_gates, measure_tables

_COLUMNS = {
    "network": "kind target d epsilon family degree terms m layers neurons carried promised error "
    "relu_at_least",
    "law": "kind target d family neurons_per_term layers",
    "product_gate": "gate m family error scaled layers neurons carried",
    "chebyshev_table": "scheme n m error layers neurons carried",
    "degree": "function epsilon degree",
    "maurey": "d terms error bound",
    "index_set": "d index_set n terms layers neurons carried",
    "rate": "d smoothness slope",
    "truncation": "weighting d index_set n terms monte_carlo parseval worst",
    "signal_fit": "index_set n terms psnr",
    "signal_network": "n m terms layers neurons difference relative psnr",
    "training": "network rate width parameters step psnr psnr_held_out seconds",
}
TABLES = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""Measurements shown in the report, with their columns in order."""


def run(trial: Trial) -> None:
    """All experiments of one seed, E1 to E7."""
    measure_gates(trial)
    measure_tables(trial)
    measure_degrees(trial)
    rows = measure_functions(trial)
    measure_maurey(trial)
    rows += measure_bandlimited(trial)
    measure_index_sets(trial)
    measure_rates(trial)
    measure_truncation(trial)
    rows += measure_balls(trial)
    measure_laws(trial, rows)
    measure_fit(trial)
    measure_training(trial)


__all__ = ["CLAIMS", "FIGURES", "PROFILES", "SEEDS", "TABLES", "Config", "run"]
