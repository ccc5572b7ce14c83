"""Networks whose neurons multiply, as approximators of smooth functions.

The paper proves that networks with product neurons (self-attention and hypernetworks have them)
approximate generalised bandlimited functions and balls of a Sobolev type with fewer layers and
neurons than ReLU networks. Here both kinds are built with explicit weights, counted and measured,
and networks of equal size are trained on a photograph.
"""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="benshaul2023multiplicative",
    arxiv="2301.04605",
    title="Exploring the Approximation Capabilities of Multiplicative Neural Networks for Smooth "
    "Functions",
    authors=("Ido Ben-Shaul", "Tomer Galanti", "Shai Dekel"),
    year=2023,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
