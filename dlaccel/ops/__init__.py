"""The operators: functions on torch tensors, each with a reference in plain torch."""

from . import cdnv_pairs as _cdnv_pairs
from . import class_moments as _class_moments
from . import class_scatter as _class_scatter
from . import draw_episodes as _draw_episodes
from . import episode_hits as _episode_hits
from . import hyperkernel_recursion as _hyperkernel_recursion
from . import mixed_product as _mixed_product
from . import ntk_recursion as _ntk_recursion
from . import projected_squares as _projected_squares
from . import top_two as _top_two
from ._glu_family import ACTIVATIONS, Activation
from .glu import SPECS as _GLU_SPECS
from .glu import glu, glu_packed
from .hyper_linear import Plan, hyper_linear, hyper_linear_plan, log_paths
from .ntk_hadamard import SPEC as _NTK_HADAMARD
from .ntk_hadamard import ntk_hadamard

SPECS = (*_GLU_SPECS,)
PROCEDURES = (
    *_top_two.SPECS,
    *_projected_squares.SPECS,
    _class_moments.SPEC,
    _class_scatter.SPEC,
    _cdnv_pairs.SPEC,
    _mixed_product.SPEC,
    _draw_episodes.SPEC,
    _episode_hits.SPEC,
    _NTK_HADAMARD,
    *_ntk_recursion.SPECS,
    *_hyperkernel_recursion.SPECS,
)

__all__ = [
    "ACTIVATIONS",
    "PROCEDURES",
    "SPECS",
    "Activation",
    "Plan",
    "glu",
    "glu_packed",
    "hyper_linear",
    "hyper_linear_plan",
    "log_paths",
    "ntk_hadamard",
]
