"""What the paper says (C), what its kernels are (K), and what its experiments show (E)."""

from __future__ import annotations

from dlaccel.experiment import Claim

from . import evidence

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "K1",
        "The closed forms of K_GP and K_h give the constants of the note to its five decimals.",
        "note, section 3; S1",
        evidence.constants,
    ),
    Claim(
        "K2",
        "K_GP and K_h are symmetric and positive semi-definite at 200 random inputs.",
        "abstract: kernels; S1",
        evidence.positive,
    ),
    Claim(
        "K3",
        "The mean tangent kernel of wide networks by automatic differentiation is within three "
        "standard errors of K_h, and more than six from the form without the factor s.",
        "note, section 3; S2",
        evidence.autograd,
    ),
    Claim(
        "C1a",
        "With g of two layers and fixed width the second Taylor term does not fall with the width "
        "of f, the third does: slopes above and below -.3.",
        "abstract: the first H terms stay; S4",
        evidence.second_term_stays,
    ),
    Claim(
        "C1b",
        "There the second term of the widest f is at least two thirds of that of the narrowest.",
        "abstract: the first H terms stay; S4",
        evidence.second_term_size,
    ),
    Claim(
        "C1c",
        "With g of three layers the third term does not fall, the fourth does: slopes above and "
        "below -.5.",
        "abstract: the first H terms stay",
        evidence.third_term_stays,
    ),
    Claim(
        "C1d",
        "So along SGD, at every recorded step, with g of two layers: the slopes of the cost's "
        "third term and of the second beyond linear are above -.5, of the fourth above -1.",
        "abstract: the cost's expansion",
        evidence.hyper_path,
    ),
    Claim(
        "C2a",
        "With both networks wide the spread of the kernel falls with width: slope of the "
        "inter-quartile range below -.35.",
        "abstract; figure of the kernel's convergence; S3",
        evidence.concentrates,
    ),
    Claim(
        "C2b",
        "With g alone wide it does not: slope above -.15.",
        "figure of the kernel's convergence; S3",
        evidence.stays_random,
    ),
    Claim(
        "C2c",
        "At the largest width the spread is smallest with both wide, then f alone, then g alone.",
        "figure of the kernel's convergence; S3",
        evidence.ordered,
    ),
    Claim(
        "C2d",
        "With both wide the second Taylor term falls against the first, and the third has a slope "
        "below -.5.",
        "abstract: convexity regained",
        evidence.both_wide_rates,
    ),
    Claim(
        "C2e",
        "Along SGD, at every recorded step, the second term beyond linear falls faster with both "
        "wide than with f alone.",
        "abstract: convexity regained",
        evidence.both_wide_path,
    ),
    Claim(
        "C2f",
        "With both wide training comes closer to that of the linearisation with every width.",
        "abstract: convexity regained",
        evidence.lazy,
    ),
    Claim(
        "C2g",
        "With f alone it does not: at the largest width the deviation is over half of that at the "
        "smallest, and over twice that with both wide.",
        "abstract: no convexity",
        evidence.not_lazy,
    ),
    Claim(
        "C3a",
        "h at the start is a Gaussian process where both are wide: excess kurtosis with a narrow "
        "network is more than twice that of the widest pair.",
        "abstract: Gaussian process",
        evidence.normal,
    ),
    Claim(
        "C3b",
        "The covariance of h at two inputs is within three standard errors of K_GP there.",
        "abstract: Gaussian process",
        evidence.covariance,
    ),
    Claim(
        "C4a",
        "A plain network's Taylor terms scale as n^(1-r): slopes of r = 1 .. 4 within .25.",
        "abstract of the first version; S4",
        evidence.plain_rates,
    ),
    Claim(
        "C4b",
        "So along SGD, at every recorded step: the slopes of the cost's third term and of the "
        "second beyond linear are below -.5, of the fourth below -1.",
        "abstract of the first version",
        evidence.plain_path,
    ),
    Claim(
        "E3a",
        "Rotation accuracy grows with the width of g, from the smallest to the next and to the "
        "largest, which beats the most frequent class.",
        "figure 4; S6",
        evidence.wider_is_better,
    ),
    Claim(
        "E3b",
        "The deepest g is worse than the shallowest of the same width.",
        "figure 4; S6",
        evidence.deeper_is_harder,
    ),
    Claim(
        "E3c",
        "Width helps a deeper g: at the second depth the widest beats the narrowest.",
        "figure 4; S6",
        evidence.width_rescues,
    ),
    Claim(
        "E4",
        "The wider g is better at every learning rate at which either beats the most frequent "
        "class.",
        "learning-rate sweep, recalled",
        evidence.wider_at_every_rate,
    ),
    Claim(
        "E5a",
        "Errors of hyperkernel and NNGP fall with every larger number of images, in both tasks.",
        "table 1; S5",
        evidence.more_images,
    ),
    Claim(
        "E5b",
        "Both beat the mean image with the most images.",
        "table 1; S5",
        evidence.beats_mean,
    ),
    Claim(
        "E5c",
        "The hyperkernel beats the trained hypernetwork.",
        "table 1; S5",
        evidence.beats_trained,
    ),
)
"""In this order; one that fails stays."""
