"""Hypernetworks of infinite width, and their tangent kernel.

A hypernetwork lets a network f of an input x generate the weights of a network g of a second input
z. The paper says that width of f alone does not make training linear: with g of H layers the first
H terms of the Taylor expansion stay. Where both are wide, training is that of a kernel, the product
of a kernel of f and one of g: the hyperkernel. Here its concentration, the sizes of the Taylor
terms and the distance from linearised training are measured, hypernetworks of growing g are trained
to tell rotations, and images are represented and completed by kernel regression.
"""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="littwin2020hyperkernel",
    arxiv="2003.12193",
    title="On Infinite-Width Hypernetworks",
    authors=("Etai Littwin", "Tomer Galanti", "Lior Wolf", "Greg Yang"),
    year=2020,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
