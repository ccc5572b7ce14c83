"""What arXiv 2112.15121 and 2212.12532 share: source classifiers, and what a checkpoint shows.

Classes are drawn once into source and target; a network is trained on some of the source classes;
at a checkpoint its features of source training samples, source test samples and target samples are
kept, and every number of the papers is computed from them.
"""

from .checkpoint import (
    Embedded,
    Probe,
    embed,
    geometry_of,
    pixels_of,
    probe_of,
    set_numbers,
    take_checkpoint,
)
from .config import NETWORK_RULE, SourceConfig, between, check_fields, each, is_network, positive
from .heads import accuracy, measure_heads
from .network import make_network, spectral_norms
from .tasks import (
    SETS,
    Source,
    Task,
    draw_source,
    load_task,
    load_tasks,
    measure_split,
    resolved_classes,
)
from .training import Numbers, Recipe, SourceNetwork, start, train_source

__all__ = [
    "NETWORK_RULE",
    "SETS",
    "Embedded",
    "Numbers",
    "Probe",
    "Recipe",
    "Source",
    "SourceConfig",
    "SourceNetwork",
    "Task",
    "accuracy",
    "between",
    "check_fields",
    "draw_source",
    "each",
    "embed",
    "geometry_of",
    "is_network",
    "load_task",
    "load_tasks",
    "make_network",
    "measure_heads",
    "measure_split",
    "pixels_of",
    "positive",
    "probe_of",
    "resolved_classes",
    "set_numbers",
    "spectral_norms",
    "start",
    "take_checkpoint",
    "train_source",
]
