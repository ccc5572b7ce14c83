"""What the paper says (C), what is re-derived (P, E), what the trained networks show (T)."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Claim

from . import evidence

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "Multiplicative networks need fewer layers than ReLU networks of the same construction, at "
        "the least epsilon of every target and d.",
        "abstract",
        partial(evidence.fewer, "layers", evidence.SAME, True),
    ),
    Claim(
        "C1b",
        "They need fewer neurons than ReLU networks of the same construction, at the least epsilon "
        "of every target and d.",
        "abstract",
        partial(evidence.fewer, "neurons", evidence.SAME, True),
    ),
    Claim(
        "C1c",
        "They need fewer layers than ReLU networks of the same construction at every epsilon, "
        "coarse ones included.",
        "abstract, taken at its word",
        partial(evidence.fewer, "layers", evidence.SAME, False),
    ),
    Claim(
        "C1d",
        "They need fewer neurons than every ReLU network built, those of one hidden layer "
        "included, at every epsilon.",
        "abstract, taken at its word",
        partial(evidence.fewer, "neurons", evidence.ANY_RELU, False),
    ),
    Claim(
        "C2",
        "Multiplicative networks approximate generalised bandlimited functions and balls of "
        "coefficients within every epsilon asked for.",
        "abstract",
        partial(evidence.reached, classes=evidence.CLASSES, family="multiplicative"),
    ),
    Claim(
        "C3",
        "Multiplicative gates can beat plain feed-forward layers: at the least epsilon they need "
        "fewer neurons than every ReLU network built, those of one hidden layer included.",
        "abstract",
        partial(evidence.fewer, "neurons", evidence.ANY_RELU, True),
    ),
    Claim(
        "P1a",
        "Doubling and recurrence compute T_0 .. T_n exactly: within 1e-12 in float64.",
        "P1, re-derived",
        evidence.table_error,
    ),
    Claim(
        "P1b",
        "The Chebyshev table takes n - 1 products and 2 + ceil(log2 n) layers by doubling, n + 1 "
        "by recurrence.",
        "P1, re-derived",
        evidence.table_counts,
    ),
    Claim(
        "P2",
        "The degree for 1/(1+25t^2) grows by 1 / log10(rho) = 11.6 per decade of epsilon, give or "
        "take 1.",
        "P2, re-derived",
        evidence.runge,
    ),
    Claim(
        "P3a",
        "The L2 error of N ridge terms falls with a slope between -0.6 and -0.42 in log N, in "
        "every d.",
        "P3, re-derived",
        evidence.maurey_slope,
        statistical=True,
    ),
    Claim(
        "P3b",
        "The L2 error of N ridge terms is at most C_F C_K / sqrt(N), in every d.",
        "P3, re-derived",
        evidence.maurey_bound,
        statistical=True,
    ),
    Claim(
        "P4",
        "Class A takes 2 + ceil(log2 n) layers and N (n - 1) products.",
        "P4, re-derived",
        evidence.ridge_counts,
    ),
    Claim(
        "P5a",
        "The sup error of the ReLU square with m sawtooth steps is 4^-(m+1), within 1 %.",
        "P5, re-derived",
        evidence.square_gate,
    ),
    Claim(
        "P5b",
        "The sup error of the ReLU product falls like 4^-m, the slope within 1 %.",
        "P5, re-derived",
        evidence.product_gate,
    ),
    Claim(
        "P5c", "The product gate is exact with one neuron.", "P5, re-derived", evidence.exact_gate
    ),
    Claim(
        "P5d",
        "No ReLU network built has fewer neurons than the lower bound for its target.",
        "P5, re-derived",
        evidence.lower_bound,
    ),
    Claim(
        "P6a",
        "Every ReLU network built reaches its epsilon.",
        "P6, re-derived",
        partial(evidence.reached, classes=("one variable", *evidence.CLASSES), family="ReLU"),
    ),
    Claim(
        "P6b",
        "The ratio of ReLU neurons to products, same construction, grows as epsilon falls.",
        "P6, re-derived",
        evidence.growing_ratio,
    ),
    Claim(
        "P6c",
        "Neurons grow with a larger power of log(1/epsilon) with ReLU than with products.",
        "P6, re-derived",
        evidence.growing_exponent,
    ),
    Claim(
        "P6d",
        "For functions of one variable, layers and neurons are fewer than with ReLU, same "
        "construction, at every epsilon.",
        "P6, re-derived",
        evidence.fewer_everywhere,
    ),
    Claim(
        "P6e",
        "Networks of one variable and of class B stay within the error proved for them.",
        "P2, P6, P8, re-derived",
        evidence.promise_kept,
    ),
    Claim(
        "P7a",
        "Class B takes one product a term: |Lambda| - d - 1 in all.",
        "P7, re-derived",
        evidence.tree_counts,
    ),
    Claim(
        "P7b",
        "Class B takes at most 2 + ceil(log2 n) + ceil(log2 d) layers, as many for the tensor set.",
        "P7, re-derived",
        evidence.tree_depth,
    ),
    Claim(
        "P8a",
        "The Monte Carlo error of a cut random element is within 2 % of Parseval's.",
        "P8, re-derived",
        evidence.parseval,
        statistical=True,
    ),
    Claim(
        "P8b",
        "The error of a cut random element is at most the worst of its ball.",
        "P8, re-derived",
        evidence.truncation,
    ),
    Claim(
        "P8c",
        "The worst error of the isotropic ball falls with slope -r in log n over total degrees, "
        "within 5 %.",
        "P8, re-derived",
        evidence.rate,
    ),
    Claim(
        "E7a",
        "The multiplicative network of a fitted polynomial is the polynomial, within 1e-12.",
        "E7, ours",
        evidence.signal_exact,
    ),
    Claim(
        "E7b",
        "The ReLU emulation of a fitted polynomial is off by an error that falls like 4^-m, the "
        "slope within 10 %.",
        "E7, ours",
        evidence.signal_emulated,
    ),
    *(
        Claim(
            f"T{number}",
            "Trained on the photograph at equal size, the multiplicative network ends with a "
            f"higher PSNR than the {other} network.",
            "ours (E6), not the paper's",
            partial(evidence.trained, other),
            statistical=True,
        )
        for number, other in enumerate(("ReLU", "sine", "Fourier filters", "Gabor filters"), 1)
    ),
)
