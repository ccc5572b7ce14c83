"""Per-sample gradients of parameters without a rule: slower, and right."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from ._network import Network, State, graph


def jacobians(network: Network, names: Sequence[str], x: Tensor) -> list[Tensor]:
    """For each parameter (N, O, p), sample by sample.

    ``torch.func`` takes all samples at once; a model that it cannot take (recurrent layers, writes
    in place, branches on values) is differentiated row by row.
    """
    leaves = {name: network.leaves[name].detach() for name in names}
    fixed = {k: v.detach() for k, v in network.leaves.items() if k not in leaves}

    def outputs(some: State, row: Tensor) -> Tensor:
        return network(row[None], {**fixed, **some})[0]

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(jacrev(outputs), in_dims=(None, 0))(leaves, x)
        values = (found[name].detach() for name in names)
        return [value.reshape(*value.shape[:2], -1) for value in values]
    except (RuntimeError, NotImplementedError):
        rows = [_row(network, names, row[None]) for row in x]
        return [torch.stack(each) for each in zip(*rows, strict=True)]


def _row(network: Network, names: Sequence[str], row: Tensor) -> list[Tensor]:
    """For each parameter (O, p) of one sample."""
    leaves = [network.leaves[name] for name in names]
    with graph():
        out = network(row)
    found = [
        torch.autograd.grad(out, leaves, seed[None], retain_graph=True, materialize_grads=True)
        for seed in torch.eye(out.shape[1], dtype=out.dtype, device=out.device)
    ]
    return [torch.stack([g.flatten() for g in each]) for each in zip(*found, strict=True)]
