"""``torch.nn.Bilinear`` without its loop over the outputs."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops import Plan, hyper_linear, hyper_linear_plan
from ..ops.hyper_linear import Order


class Bilinear(nn.Bilinear):
    r"""A drop-in for ``torch.nn.Bilinear``: :math:`y_o = x_1^\top W_o x_2 + b_o`.

    Parameters, state dict, initialisation, results and errors are torch's; so are the arguments
    (in1_features, in2_features, out_features, bias, device, dtype). :func:`ops.hyper_linear`
    computes it, x1 being its x and x2 its code z; only the arguments are saved for the backward
    pass, and no outer products or (rows, in1_features, out_features) tensor stay in memory.

    Attributes:
        order: How it is evaluated; see :func:`ops.hyper_linear`.
    """

    order: Order = "auto"

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """The form's value (..., out_features) at (..., in1_features) and (..., in2_features)."""
        if not self._fits(input1, input2):  # torch has its own sentence, or its own way, for these
            return super().forward(input1, input2)
        return hyper_linear(input1, input2, self.weight, self.bias, order=self.order)

    def plan(self, input1: Tensor, input2: Tensor) -> tuple[Plan, ...]:
        """How the forward pass and the two gradients go, what they cost, and why."""
        return hyper_linear_plan(input1, input2, self.weight, order=self.order)

    def _fits(self, input1: object, input2: object) -> bool:
        weight = self.weight
        return (
            isinstance(input1, Tensor)
            and isinstance(input2, Tensor)
            and input1.ndim > 0
            and input1.shape[:-1] == input2.shape[:-1]
            and (weight.shape[1], weight.shape[2]) == (input1.shape[-1], input2.shape[-1])
            and input1.dtype == input2.dtype == weight.dtype
            and input1.device == input2.device == weight.device
            and weight.is_floating_point()
            and not (input1.is_sparse or input2.is_sparse)
        )
