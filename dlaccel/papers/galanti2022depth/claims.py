"""What the paper says and what runs of this size can show of it."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Claim

from . import evidence

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "Within a trained network the nearest-centre training accuracy does not fall from a layer "
        "to the next, by more than .01.",
        "abstract: collapse strengthens with depth",
        evidence.rising_accuracy,
    ),
    Claim(
        "C1b",
        "Within a trained network the training CDNV falls from layer to layer; no layer has more "
        "than 1.05 times that of the one below.",
        "abstract: collapse strengthens with depth",
        evidence.falling_cdnv,
    ),
    Claim(
        "C1c",
        "The training CDNV of the last layer is smaller the deeper the network.",
        "abstract: collapse strengthens with depth",
        evidence.deeper_collapse,
    ),
    Claim(
        "C2a",
        "The effective depth at .05 does not grow with L: all networks at least as deep as L0, the "
        "effective depth of the deepest, have the same.",
        "abstract: minimal depth",
        partial(evidence.same_depth, 0.05, 0.5),
    ),
    Claim(
        "C2b",
        "The effective depths at .01 of all networks at least as deep as L0, that of the deepest, "
        "differ by at most one layer.",
        "abstract: minimal depth",
        partial(evidence.same_depth, 0.01, evidence.ONE_LAYER),
    ),
    Claim(
        "C2c",
        "The lower layers do not depend on L: the nearest-centre training accuracies of the first "
        "and of the second layer differ by less than .05 over all L.",
        "figure of the accuracies by layer",
        evidence.lower_layers,
    ),
    Claim(
        "C3a",
        "The more labels are random, the lower the nearest-centre training accuracy, in every "
        "layer.",
        "abstract: random labels",
        evidence.noise_accuracy,
    ),
    Claim(
        "C3b",
        "The more labels are random, the larger the training CDNV, in every layer.",
        "abstract: random labels",
        evidence.noise_cdnv,
    ),
    Claim(
        "C3c",
        "The effective depth at .05 does not fall as more labels are random; L + 1 where no layer "
        "reaches it.",
        "abstract: random labels",
        evidence.noise_depth,
    ),
    Claim(
        "C3d",
        "The training accuracy is .97 or more at every share of random labels, while the test "
        "accuracy falls.",
        "abstract: random labels",
        evidence.noise_fit,
    ),
    Claim(
        "C4a",
        "The estimate of the bound is not below the measured test error, at every L.",
        "abstract: test-error estimates",
        evidence.bounded,
    ),
    Claim(
        "C4b",
        "The estimate does not depend on L: the best p is the same, or next to it in the grid.",
        "abstract: test-error estimates",
        evidence.same_estimate,
    ),
)
