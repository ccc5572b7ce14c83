"""What the paper says: its inequalities (T), its experiments (X); S are known distributions."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Claim

from . import evidence
from .theory import pairwise_bound

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "T2a",
        "k-way error is at most (k - 1) times the average pairwise error of the same draws, at "
        "every checkpoint, for every k and number of shots.",
        "T2",
        evidence.union,
    ),
    Claim("T2b", "For k = 2 the two are equal.", "T2", evidence.union_equal),
    Claim(
        "T4a",
        "Average pairwise error is at most 16 (1 + 2/n) Avg V, on source train, source test and "
        "target, at every checkpoint.",
        "T4",
        partial(evidence.bounded, pairwise_bound),
    ),
    Claim(
        "T4b",
        "It is at most 4 (1 + n^(-1/2))^2 Avg V there.",
        "T4, re-derived",
        partial(evidence.bounded, evidence.rederived),
    ),
    Claim(
        "T4c",
        "k-way error on the target is at most (k - 1) 16 (1 + 2/n) Avg V.",
        "T2 and T4",
        evidence.whole,
    ),
    Claim(
        "X1a",
        "CDNV of the source training samples falls during training, for every number of source "
        "classes.",
        "X1",
        partial(evidence.collapses, "cdnv_train"),
    ),
    Claim(
        "X1b",
        "So does CDNV of other samples of the source classes.",
        "X1",
        partial(evidence.collapses, "cdnv_test"),
    ),
    Claim(
        "X2a",
        "From the fewest source classes to the most the target's pairwise error falls at every "
        "number of shots, and so does target CDNV (not asked of the digits, where the latter does "
        "not fall reliably).",
        "X1, X2",
        evidence.target_falls,
        statistical=True,
    ),
    Claim(
        "X2b",
        "The gap between target and source test pairwise error, one shot, falls from the fewest "
        "source classes to the most.",
        "X2; the term l^(-1/2) of T1",
        evidence.gap_falls,
        statistical=True,
    ),
    Claim(
        "X3",
        "The least distance of source class means stays above half of their mean distance, for "
        "every number of source classes.",
        "X3",
        evidence.apart,
        statistical=True,
    ),
    Claim(
        "X4a",
        "The target's pairwise error falls with every step in the number of shots, for every "
        "number of source classes.",
        "X4",
        evidence.more_shots,
        statistical=True,
    ),
    Claim(
        "X4b",
        "The gap between source train and source test CDNV, equally many samples of each class, "
        "falls from the fewest training samples of a class to the most.",
        "X4; the term m^(-1/2) of T1",
        evidence.samples_help,
        statistical=True,
    ),
    Claim(
        "X4c",
        "It falls with an exponent between -0.9 and -0.2 in m.",
        "X4; the term m^(-1/2) of T1",
        evidence.samples_exponent,
        statistical=True,
    ),
    Claim(
        "X5",
        "The first term of T1, (k - 1) Avg V of the source training sample, is below 1 for k = 5 "
        "at the fewest source classes.",
        "X5",
        evidence.first_term,
        statistical=True,
    ),
    Claim(
        "S1",
        "The error of Gaussian classes is at most 16 (1 + 2/n) V.",
        "T4",
        partial(evidence.gaussian_bounded, "t4"),
    ),
    Claim(
        "S2",
        "It is at most 16 (1/p + 1/n) V, as for all spherically symmetric classes.",
        "T4",
        partial(evidence.gaussian_bounded, "t4_spherical"),
    ),
    Claim(
        "S3",
        "At the same CDNV and shots it is less in the most dimensions than in the fewest.",
        "T4",
        evidence.dimensions_help,
    ),
    Claim(
        "S4",
        "The mean squared margin of Gaussian classes is d^2 + (Var_j - Var_i) / n, within 4.5 "
        "standard errors.",
        "T5, re-derived",
        evidence.squared_margins,
    ),
    Claim(
        "S5",
        "The average CDNV of l random classes tends to that of the population with an exponent "
        "between -0.65 and -0.35.",
        "the rate l^(-1/2) of T1",
        evidence.rate,
        statistical=True,
    ),
)
"""In this order; one that fails stays."""
