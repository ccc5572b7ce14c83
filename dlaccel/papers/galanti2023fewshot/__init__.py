"""Generalisation of few-shot error from a source sample to new classes.

The paper bounds the few-shot error of the nearest class centre on classes never seen: by the
collapse of the source training sample, plus what it costs to pass from samples to source classes
and from source classes to new ones. Its terms hide constants, so the bound is taken apart here:
the observables are logged, the inequalities with constants are checked at every checkpoint, and the
rates are measured over samples, classes and shots.
"""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="galanti2023fewshot",
    arxiv="2212.12532",
    title="Generalization Bounds for Few-Shot Transfer Learning with Pretrained Classifiers",
    authors=("Tomer Galanti", "András György", "Marcus Hutter"),
    year=2023,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
