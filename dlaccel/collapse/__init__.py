"""Class statistics: what labelled features look like, class by class, and what collapses."""

from .accuracy import FewShot
from .cutting import Comparison, Cut, compare, cut
from .depth import effective_depth
from .episodes import Episodes, draw_episodes, few_shot
from .geometry import ClassGeometry
from .layers import Layer, Layers
from .nearest_centre import NearestCentre, TwoBest
from .network import measure
from .pairs import PairStatistics
from .pairwise import CentreErrors, centre_errors, k_way_errors, pairwise_errors
from .projection import Disagreement, Projected, Projections, nc4
from .statistics import ClassStatistics
from .watching import Watch, watch

__all__ = [
    "CentreErrors",
    "ClassGeometry",
    "ClassStatistics",
    "Comparison",
    "Cut",
    "Disagreement",
    "Episodes",
    "FewShot",
    "Layer",
    "Layers",
    "NearestCentre",
    "PairStatistics",
    "Projected",
    "Projections",
    "TwoBest",
    "Watch",
    "centre_errors",
    "compare",
    "cut",
    "draw_episodes",
    "effective_depth",
    "few_shot",
    "k_way_errors",
    "measure",
    "nc4",
    "pairwise_errors",
    "watch",
]
