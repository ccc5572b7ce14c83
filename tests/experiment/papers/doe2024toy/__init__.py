"""An invented paper, small enough to be killed and resumed many times in a test."""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="doe2024toy",
    arxiv="2401.99999",
    title="Straight Lines Are Learned by Straight Lines",
    authors=("Jane Doe", "Richard Roe"),
    year=2024,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
