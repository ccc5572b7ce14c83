"""How the weights of a gate and its partner lie in memory, and in others' state dicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("weight", "bias")


@dataclass(frozen=True)
class Arrangement:
    """One or two projections that hold the rows of gate and value.

    Attributes:
        layout: ``separate`` matrices, one ``packed`` (all rows of one, then of the other), or one
            ``interleaved`` (row by row in turn).
        gate_first: Which of the two comes first.
        projections: Names of the projections, in the order of ``gate_first`` where there are two.
        down: Name of the projection back.
    """

    layout: str
    gate_first: bool
    projections: tuple[str, ...]
    down: str

    @property
    def names(self) -> tuple[str, ...]:
        """Every projection."""
        return (*self.projections, self.down)

    def rows(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Views of gate and value rows (axis 0) in weights, biases or what is shaped like them."""
        if self.layout == "separate":
            first, second = tensors
        elif self.layout == "packed":
            half = tensors[0].shape[0] // 2
            first, second = tensors[0][:half], tensors[0][half:]
        else:
            first, second = tensors[0][0::2], tensors[0][1::2]
        return (first, second) if self.gate_first else (second, first)

    def join(self, gate: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """The tensors whose :meth:`rows` are these."""
        first, second = (gate, value) if self.gate_first else (value, gate)
        if self.layout == "separate":
            return first, second
        if self.layout == "packed":
            return (torch.cat((first, second)),)
        return (torch.stack((first, second), 1).flatten(0, 1),)


OWN = {
    ("separate", True): Arrangement("separate", True, ("gate_proj", "up_proj"), "down_proj"),
    ("separate", False): Arrangement("separate", True, ("gate_proj", "up_proj"), "down_proj"),
    ("packed", True): Arrangement("packed", True, ("gate_up_proj",), "down_proj"),
    ("packed", False): Arrangement("packed", False, ("up_gate_proj",), "down_proj"),
    ("interleaved", True): Arrangement("interleaved", True, ("gate_up_rows",), "down_proj"),
    ("interleaved", False): Arrangement("interleaved", False, ("up_gate_rows",), "down_proj"),
}
"""Ours, by layout and whether the gate is first: no two share their names."""

KNOWN = (
    *dict.fromkeys(OWN.values()),  # the first is Hugging Face's Llama, the second its Phi-3
    Arrangement("separate", True, ("fc1_g", "fc1_x"), "fc2"),  # timm's SwiGLU
    Arrangement("packed", False, ("fc1",), "fc2"),  # timm's GluMlp, gate_last=True
    Arrangement("packed", True, ("linear_fc1",), "linear_fc2"),  # Megatron
    Arrangement("separate", True, ("w1", "w3"), "w2"),  # Meta's Llama
    Arrangement("packed", True, ("w12",), "w3"),  # xformers, DINOv2
)


def recognised(keys: Collection[str]) -> Arrangement | None:
    """The arrangement with these parameter names, or None."""
    for arrangement in KNOWN:
        if {f"{name}.weight" for name in arrangement.names} <= set(keys):
            return arrangement
    return None


def rearranged(
    state: Mapping[str, Tensor], source: Arrangement, target: Arrangement
) -> dict[str, Tensor]:
    """The weights and biases of ``source`` under the names and in the order of ``target``.

    Raises:
        ValueError: Rows that should come in pairs do not.
    """
    result: dict[str, Tensor] = {}
    for kind in KINDS:
        tensors = [state[k] for n in source.projections if (k := f"{n}.{kind}") in state]
        if tensors:
            if len(tensors) < len(source.projections):
                raise ValueError(
                    f"dlaccel.GatedMLP: {kind} must be there for all of "
                    f"{', '.join(source.projections)} or for none, got {len(tensors)}."
                )
            if len(tensors) == 1 and (tensors[0].ndim == 0 or tensors[0].shape[0] % 2):
                raise ValueError(
                    f"dlaccel.GatedMLP: {source.projections[0]}.{kind} must have an even number "
                    f"of rows, got shape {tuple(tensors[0].shape)}."
                )
            joined = target.join(*source.rows(*tensors))
            result |= {f"{n}.{kind}": t for n, t in zip(target.projections, joined, strict=True)}
        if f"{source.down}.{kind}" in state:
            result[f"{target.down}.{kind}"] = state[f"{source.down}.{kind}"]
    return result
