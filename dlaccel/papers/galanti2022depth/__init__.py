"""Where in a deep network the classes separate, and what that depth says about the test error.

The paper finds that from some depth on a deeper classifier does not separate its classes later: the
effective depth, the first layer whose nearest class centre calls the training samples, stays where
it is, and grows with the share of wrong labels. A bound turns that into an estimate of the test
error. Here networks of many depths are trained on clean and on wrong labels and measured layer by
layer, and the bound is estimated beside what others say of the same networks.
"""

from dlaccel.experiment import Paper

from . import experiment

PAPER = Paper(
    key="galanti2022depth",
    arxiv="2202.09028",
    title="On the Implicit Bias Towards Minimal Depth of Deep Neural Networks",
    authors=("Tomer Galanti", "Liane Galanti", "Ido Ben-Shaul"),
    year=2022,
    experiment=experiment,
)
run, load = PAPER.run, PAPER.load
