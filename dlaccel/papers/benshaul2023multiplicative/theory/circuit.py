"""From a list of products of affine forms to a layered multiplicative network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .networks import Affine, MultiplicativeNetwork, ProductLayer


@dataclass(frozen=True)
class Form:
    """The affine form ``constant + sum of weight * value`` over pairs ``(value, weight)``."""

    terms: tuple[tuple[int, float], ...] = ()
    constant: float = 0.0

    def renamed(self, slots: dict[int, int]) -> Form:
        """The same form with each value replaced by its slot."""
        return Form(tuple((slots[value], weight) for value, weight in self.terms), self.constant)


class Circuit:
    """Products of affine forms of earlier values, and affine units.

    Values ``0 .. inputs - 1`` are the outputs of the input layer.
    """

    def __init__(self, inputs: int) -> None:
        """Starts with the values of the input layer."""
        self.inputs = inputs
        self.level = [0] * inputs
        self.factors: list[tuple[Form, ...]] = [()] * inputs

    def multiply(self, left: Form, right: Form) -> int:
        """Adds the neuron ``left * right`` in the earliest layer possible; returns its number."""
        return self._add(left, right)

    def carry(self, form: Form) -> int:
        """Adds a carried unit that holds ``form``, so that later forms stay short."""
        return self._add(form)

    def _add(self, *factors: Form) -> int:
        read = [self.level[value] for form in factors for value, _ in form.terms]
        self.factors.append(factors)
        self.level.append(1 + max(read, default=0))
        return len(self.level) - 1

    def network(self, input_layer: Affine, outputs: Sequence[Form]) -> MultiplicativeNetwork:
        """Lays the circuit out in layers, each reading only the one before.

        A value that a later layer needs is carried. When there are fewer outputs than values, each
        output is carried as one running sum; otherwise the values that it reads are carried.
        """
        depth = max(self.level)
        summed = len(outputs) < len(self.level)
        needed = self._last_use(() if summed else outputs)
        by_level: list[list[int]] = [[] for _ in range(depth + 1)]
        for value, level in enumerate(self.level):
            by_level[level].append(value)

        layers: list[ProductLayer] = []
        slots = {value: value for value in range(self.inputs)}  # value -> unit of the last layer
        sums = [Form() for _ in outputs]  # running sums, over units of the last layer
        width = self.inputs
        for level in range(1, depth + 1):
            if summed:
                sums = _add_fresh(sums, outputs, by_level[level - 1], slots)
            gates = [value for value in by_level[level] if len(self.factors[value]) == 2]
            units = [value for value in by_level[level] if len(self.factors[value]) == 1]
            kept = [value for value in slots if needed[value] > level]
            begun = [i for i, total in enumerate(sums) if total.terms]
            rows: dict[Form, int] = {}  # distinct forms, numbered as they appear
            pairs = [
                [rows.setdefault(form.renamed(slots), len(rows)) for form in self.factors[value]]
                for value in gates
            ]
            moved = [self.factors[value][0].renamed(slots) for value in units]
            moved += [Form(((slots[value], 1.0),)) for value in kept] + [sums[i] for i in begun]
            carry = [rows.setdefault(form, len(rows)) for form in moved]
            left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            forms = _affine(list(rows), width)
            layers.append(ProductLayer(forms, left, right, np.array(carry, dtype=np.int64)))

            slots = {value: unit for unit, value in enumerate([*gates, *units, *kept])}
            for unit, i in enumerate(begun, start=len(slots)):
                sums[i] = Form(((unit, 1.0),))
            width = len(slots) + len(begun)

        if summed:
            sums = _add_fresh(sums, outputs, by_level[depth], slots)
            final = [Form(t.terms, out.constant) for t, out in zip(sums, outputs, strict=True)]
        else:
            final = [form.renamed(slots) for form in outputs]
        return MultiplicativeNetwork(input_layer, tuple(layers), _affine(final, width))

    def _last_use(self, outputs: Sequence[Form]) -> list[int]:
        """The last level that reads each value; the output layer comes after every level."""
        last = [0] * len(self.level)
        for factors, level in zip(self.factors, self.level, strict=True):
            for read, _ in (term for form in factors for term in form.terms):
                last[read] = max(last[read], level)
        for read, _ in (term for form in outputs for term in form.terms):
            last[read] = max(self.level) + 1
        return last


def _add_fresh(
    sums: Sequence[Form], outputs: Sequence[Form], fresh: Sequence[int], slots: dict[int, int]
) -> list[Form]:
    """Adds to each running sum its output's terms over the values that appeared last."""
    new = set(fresh)
    return [
        Form(total.terms + tuple((slots[v], w) for v, w in out.terms if v in new))
        for total, out in zip(sums, outputs, strict=True)
    ]


def _affine(forms: Sequence[Form], width: int) -> Affine:
    row = [i for i, form in enumerate(forms) for _ in form.terms]
    column = [unit for form in forms for unit, _ in form.terms]
    weight = np.array([w for form in forms for _, w in form.terms], dtype=np.float64)
    matrix = sparse.coo_array((weight, (row, column)), shape=(len(forms), width))
    return Affine(sparse.csr_array(matrix), np.array([form.constant for form in forms]))
