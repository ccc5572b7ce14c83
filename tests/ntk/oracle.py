"""The tangent kernel from whole Jacobians of torch.func, in float64, and the limit on our error."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from dlaccel.ntk.empirical import Outputs

SUMS = {
    "full": "nop,mqp->nmoq",
    "trace": "nop,mop->nm",
    "diagonal": "nop,mop->nmo",
    "block_diagonal": "nop,mop->onm",
}


def jacobian(model: nn.Module, x: Tensor, names: list[str] | None = None) -> Tensor:
    """(N, O, P) of the named parameters."""
    every = {k: v.detach().double() for k, v in model.named_parameters()}
    buffers = {k: v.double() if v.is_floating_point() else v for k, v in model.named_buffers()}

    def outputs(some: dict[str, Tensor], row: Tensor) -> Tensor:
        state = {**every, **buffers, **some}
        return functional_call(model, state, (row[None].clone(),))[0].flatten()

    some = {name: every[name] for name in names or every}
    found = vmap(jacrev(outputs), in_dims=(None, 0))(some, x)
    return torch.cat([value.reshape(*value.shape[:2], -1) for value in found.values()], 2)


def kernel(first: Tensor, second: Tensor, outputs: Outputs) -> Tensor:
    return torch.einsum(SUMS[outputs], first, second)


def error(result: Tensor, first: Tensor, second: Tensor, outputs: Outputs) -> float:
    """The largest entry of the error, in units of |J_n| |J_m| eps of the result's dtype.

    An entry is a sum of P products of gradients: summing rounds up to P times, and each gradient is
    itself a sum with fewer than P terms on either side of the layer. So 4 P is a limit, where P
    counts the parameters (two vectors of gradients, forward and backward).
    """
    sizes = [j.square().sum((1, 2)).sqrt() for j in (first, second)]
    scale = sizes[0][:, None] * sizes[1]
    if outputs in ("full", "diagonal"):
        scale = scale.reshape(*scale.shape, *(1,) * (result.ndim - 2))
    difference = (result.double() - kernel(first, second, outputs)).abs()
    return float((difference / scale).max()) / torch.finfo(result.dtype).eps
