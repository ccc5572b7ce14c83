"""What the paper says: collapse (C), its propositions (P), its experiments (E)."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Claim

from . import evidence
from .theory import few_shot_bound, rederived_bound

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "CDNV of the source training samples falls during training, for every number of source "
        "classes.",
        "abstract; section 5, dynamics",
        partial(evidence.falls, "cdnv_train"),
    ),
    Claim(
        "C2",
        "So does CDNV of other samples of the source classes.",
        "abstract; section 5, dynamics",
        partial(evidence.falls, "cdnv_test"),
    ),
    Claim(
        "C3",
        "At the end CDNV is less on source training samples than on source test samples, and less "
        "there than on target classes, for every number of source classes; of equally many samples "
        "of each class.",
        "section 5, dynamics",
        partial(evidence.order, False),
        statistical=True,
    ),
    Claim(
        "C4",
        "Collapse carries over to new classes, the more so the more source classes: from the "
        "fewest to the most of them 5-shot error falls, and so does target CDNV (not asked of the "
        "digits, where the latter does not fall reliably).",
        "abstract; section 5",
        evidence.carries_over,
        statistical=True,
    ),
    Claim(
        "C5",
        "5-shot accuracy rises from each number of source classes to the next.",
        "section 5",
        partial(evidence.gains, "ncc_5", True),
        statistical=True,
    ),
    Claim(
        "C6",
        "1-shot accuracy rises from the fewest source classes to the most.",
        "section 5",
        partial(evidence.gains, "ncc_1", False),
        statistical=True,
    ),
    Claim(
        "C7",
        "Target CDNV and 5-shot error move together: Spearman's correlation over all checkpoints "
        "of all numbers of source classes is above 0.8.",
        "abstract",
        evidence.correlation,
        statistical=True,
    ),
    Claim(
        "P1",
        "Proposition 1 with its own A and B holds for every pair of source classes at every "
        "checkpoint.",
        "section 4, re-derived",
        evidence.new_samples,
    ),
    Claim(
        "P2",
        "The gap between CDNV of target classes and of fresh samples of source classes, equally "
        "many of each class, falls from the fewest source classes to the most.",
        "section 4, Proposition 2",
        evidence.new_classes,
        statistical=True,
    ),
    Claim(
        "P3",
        "Few-shot error is at most 16 (k - 1) (1/n + 1) times target CDNV at every checkpoint.",
        "section 4, Proposition 3",
        partial(evidence.bounded, few_shot_bound),
    ),
    Claim(
        "P3a",
        "It is at most 4 (k - 1) (1 + n^(-1/2))^2 times target CDNV at every checkpoint.",
        "section 4, re-derived",
        partial(evidence.bounded, rederived_bound),
    ),
    Claim(
        "E1a",
        "With the most source classes trained features beat untrained ones, 5 shots, nearest class "
        "centre.",
        "section 5, ours",
        partial(evidence.beats, "untrained"),
        statistical=True,
    ),
    Claim(
        "E1b",
        "With the most source classes trained features beat raw pixels, 5 shots, nearest class "
        "centre.",
        "section 5, ours",
        partial(evidence.beats, "pixels"),
        statistical=True,
    ),
    Claim(
        "E1c",
        "Five shots beat one at every checkpoint.",
        "section 5",
        evidence.more_shots,
        statistical=True,
    ),
    Claim(
        "E2",
        "NC1 of the source training samples falls during training, for every number of source "
        "classes.",
        "section 3",
        partial(evidence.falls, "nc1"),
    ),
    Claim(
        "E3",
        "The order of C3 holds for every other learning rate and network too.",
        "appendix",
        partial(evidence.order, True),
        statistical=True,
    ),
)
"""In this order; one that fails stays."""
