"""Neural collapse and transfer to new classes.

The paper says why a plain classifier, trained on many source classes, gives features that solve
few-shot problems of unseen classes: within-class variance collapses against the distance of class
means; the collapse carries over from source training samples to source test samples and from source
classes to new classes; and where it is strong the few-shot error is small. Here classifiers are
trained on growing numbers of source classes, each step of that argument is measured on the way, and
its inequalities are checked at every checkpoint.
"""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="galanti2022transfer",
    arxiv="2112.15121",
    title="On the Role of Neural Collapse in Transfer Learning",
    authors=("Tomer Galanti", "András György", "Marcus Hutter"),
    year=2022,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
