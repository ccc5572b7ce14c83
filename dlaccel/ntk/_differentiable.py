"""The same kernel in plain torch from whole Jacobians: for autograd and ``torch.func``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from ._forms import Outputs
from ._network import Network, State

SUMS = {
    "full": "nop,mqp->nmoq",
    "trace": "nop,mop->nm",
    "diagonal": "nop,mop->nmo",
    "block_diagonal": "nop,mop->onm",
}


def contracted(
    network: Network, x1: Tensor, x2: Tensor | None, outputs: Outputs
) -> tuple[Tensor, int]:
    """The kernel, differentiable in the inputs and in the network's tensors, and O."""
    first = _jacobians(network, x1)
    second = first if x2 is None else _jacobians(network, x2)
    parts = [torch.einsum(SUMS[outputs], a, second[name]) for name, a in first.items()]
    return torch.stack(parts).sum(0), next(iter(first.values())).shape[1]


def _jacobians(network: Network, x: Tensor) -> State:
    """(N, O, p) of each parameter."""
    x = x.to(network.dtype) if x.is_floating_point() else x

    def one(leaves: State, row: Tensor) -> Tensor:
        return network(row[None], leaves)[0]

    found = vmap(jacrev(one), in_dims=(None, 0))(network.leaves, x)
    return {k: value.reshape(*value.shape[:2], -1) for k, value in found.items()}
