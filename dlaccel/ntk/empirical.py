r"""Empirical tangent kernels of any module, without its Jacobian.

For the parameters p of a network f and the rows x, x' of two inputs

.. math:: K_{n m o o'} = \sum_p \frac{\partial f_o(x_n)}{\partial p}
    \frac{\partial f_{o'}(x'_m)}{\partial p}.

One forward keeps the inputs of each layer, one backward for each output its cotangents; a layer's
share follows from both (``ntk.plan`` tells how). Source: Novak, Sohl-Dickstein, Schoenholz 2022,
arXiv 2206.08720.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import _check
from .._op import under_transform
from ._differentiable import contracted
from ._evaluation import evaluate, evaluation
from ._forms import Outputs
from ._network import State, constant, networks

OUTPUTS = ("full", "trace", "diagonal", "block_diagonal")
MEMORY = 1 << 31


def empirical(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    outputs: Outputs = "full",
    normalize: bool = False,
    precision: torch.dtype | str | None = None,
    parameters: str | Sequence[str] | None = None,
    ensemble: tuple[State, State] | None = None,
    create_graph: bool = False,
    memory: int = MEMORY,
) -> Tensor:
    """The tangent kernel of a module between the rows of ``x1`` and those of ``x2``.

    The module must treat each row alone: output row n depends on input row n only. That is tested
    on a few rows, and what couples samples (batch normalisation in training mode) or draws numbers
    (dropout in training mode) is refused; the mode is used as found, so call ``model.eval()``.
    Outputs (N, ...) are flattened to O numbers. The module, its gradients, buffers and hooks stay
    as they are.

    Args:
        model: Any module that takes one tensor and gives one.
        x1: Inputs (N, ...).
        x2: Inputs (M, ...); None: those of ``x1``, and the kernel is symmetric to the last bit.
        outputs: ``"full"`` (N, M, O, O); ``"trace"`` (N, M), the sum over o; ``"diagonal"``
            (N, M, O), o = o'; ``"block_diagonal"`` (O, N, M), the same for batched solves.
        normalize: Divides the trace by O, as neural-tangents does.
        precision: ``torch.float64`` or ``torch.float32`` (or its name), of all that is computed;
            None: the dtype of ``x1`` or, for ids, of the parameters (float32 for half types).
        parameters: Names or patterns (``*`` matches dots too); None: all that require a gradient.
        ensemble: Parameters and buffers with a leading axis E, as ``torch.func.stack_module_state``
            gives; the result then is (E, N, M, ...). They stand in for the module's own.
        create_graph: Plain torch, differentiable in x1, x2, the parameters and the ensemble's; it
            holds the Jacobians, N O and M O times the parameters. Without it the result is a
            constant to autograd. Calls inside ``torch.func`` transforms take this way by
            themselves.
        memory: Bytes that the factors of two sets of rows may take; larger sets go in tiles.

    Raises:
        TypeError: ``model`` is no module, or an input no tensor.
        ValueError: An argument is out of its rule, the model couples samples or is random, or an
            input requires a gradient without ``create_graph``.
    """
    op = "ntk.empirical"
    other = checked_inputs(op, x1, x2)
    checked_outputs(op, outputs, normalize)
    attached = create_graph or under_transform()
    if not attached:
        _refuse_gradients(x1, x2, ensemble)
    found = []
    for network in networks(op, model, x1, parameters, precision, ensemble, attached):
        if attached:
            kernel, count = contracted(network, x1, x2, outputs)
        else:
            with constant():
                tiles = evaluation(network, x1, max(len(x1), len(other)), outputs)
                kernel, count = evaluate(tiles, x1, x2, memory), tiles.count
        found.append(kernel / count if normalize else kernel)
    return found[0] if ensemble is None else torch.stack(found)


@dataclass(frozen=True)
class Entry:
    """How some parameters contribute.

    Attributes:
        parameters: Their names.
        rule: The functions that use them; ``"none"`` where there is no rule.
        form: ``"Gram-Hadamard"``, ``"read-out"`` (the last layer), ``"block sum"``, ``"panels"`` of
            per-sample gradients (never all at once), ``"gradients"`` (small ones, kept),
            ``"lookup"``, or ``"autograd"``, sample by sample: slower.
        reason: Why.
    """

    parameters: tuple[str, ...]
    rule: str
    form: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` found; ``print`` it.

    Attributes:
        entries: One for each weight, with its bias where that is folded in.
        outputs: O.
        bytes_per_sample: What is kept of each row while the kernel is computed.
    """

    entries: tuple[Entry, ...]
    outputs: int
    bytes_per_sample: int

    @property
    def without_rule(self) -> tuple[str, ...]:
        """Parameters that go through autograd."""
        return tuple(n for e in self.entries if e.form == "autograd" for n in e.parameters)

    def __str__(self) -> str:
        rows = [(" + ".join(e.parameters), e.rule, e.form, e.reason) for e in self.entries]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(
            "  ".join([*(w.ljust(n) for w, n in zip(row, widths, strict=False)), row[3]])
            for row in rows
        )


def plan(
    model: nn.Module,
    x1: Tensor,
    *,
    outputs: Outputs = "full",
    precision: torch.dtype | str | None = None,
    parameters: str | Sequence[str] | None = None,
) -> Plan:
    """Which form each parameter's share of the kernel of ``x1`` takes, and why.

    A few rows are run. Arguments and errors are those of :func:`empirical`.
    """
    checked_inputs("ntk.plan", x1, None)
    checked_outputs("ntk.plan", outputs, False)
    (network,) = networks("ntk.plan", model, x1, parameters, precision, None)
    with constant():
        found = evaluation(network, x1, len(x1), outputs)
    entries = (Entry(b.names, b.rule, b.form, b.reason) for b in found.blocks)
    return Plan(tuple(entries), found.count, found.row)


def checked_inputs(op: str, x1: object, x2: object) -> Tensor:
    """The second input; ``x1`` for None."""
    other = x1 if x2 is None else x2
    _check.tensors(op, {"x1": x1, "x2": other})
    assert isinstance(x1, Tensor)
    assert isinstance(other, Tensor)
    for name, value in {"x1": x1, "x2": other}.items():
        if value.ndim == 0 or len(value) == 0:
            _check.refuse(op, name, "have at least one row", tuple(value.shape), ValueError)
    if other.shape[1:] != x1.shape[1:]:
        rule = f"have rows of shape {tuple(x1.shape[1:])}, as x1 has"
        _check.refuse(op, "x2", rule, tuple(other.shape[1:]), ValueError)
    if other.dtype != x1.dtype or other.device != x1.device:
        rule = f"have dtype and device of x1, {x1.dtype} on {x1.device}"
        _check.refuse(op, "x2", rule, f"{other.dtype} on {other.device}", ValueError)
    return other


def checked_outputs(op: str, outputs: str, normalize: bool) -> None:
    """Refuses an unknown word, and a mean that is none."""
    _check.choice(op, "outputs", outputs, OUTPUTS)
    if normalize and outputs != "trace":
        _check.refuse(op, "normalize", "be False but for the trace", repr(outputs), ValueError)


def _refuse_gradients(x1: Tensor, x2: Tensor | None, ensemble: tuple[State, State] | None) -> None:
    if not torch.is_grad_enabled():
        return
    given = {"x1": x1, "x2": x2}
    if ensemble is not None:  # leaves may require a gradient as any model's parameters do
        given |= {f"ensemble {k}": v for k, v in ensemble[0].items() if not v.is_leaf}
    for name, value in given.items():
        if value is not None and value.requires_grad:
            rule = "require no gradient unless create_graph=True"
            _check.refuse("ntk.empirical", name, rule, "one that does", ValueError)
