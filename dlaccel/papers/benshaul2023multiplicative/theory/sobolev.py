"""Class B, balls of coefficients in a tensor basis, by shared product trees (E4; P7, P8).

The paper's own class B could not be read; ``CoefficientBall`` takes the weight as a parameter and
so covers the candidates B1 to B3 (difference D3 in the docs page).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from numpy.polynomial import Chebyshev, Legendre, chebyshev
from torch import Tensor

from .bounds import POINTS
from .chebyshev import chebyshev_table, combination
from .circuit import Circuit, Form
from .networks import Affine, MultiplicativeNetwork

# Index sets: how the degrees of the coordinates add up to one number, and the largest admitted.
_SETS: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor], Callable[[int], int]]] = {
    "tensor": (0, torch.maximum, lambda n: n),
    "total degree": (0, torch.add, lambda n: n),
    "hyperbolic cross": (1, lambda used, k: used * (1 + k), lambda n: n + 1),
}
INDEX_SETS = tuple(_SETS)


def is_in(kind: str, n: int, indices: Tensor) -> Tensor:
    """Whether each index of ``[terms, d]`` belongs to ``index_set(kind, d, n)``, ``[terms]``."""
    start, spend, limit = _SETS[kind]
    used = torch.full((len(indices),), start)
    for degree in indices.T:
        used = spend(used, degree)
    return used <= limit(n)


def index_set(kind: str, dimension: int, n: int) -> Tensor:
    """All indices k >= 0 of a downward closed set, int64 ``[terms, d]``.

    ``tensor``: max k_j <= n. ``total degree``: sum k_j <= n. ``hyperbolic cross``:
    prod (1 + k_j) <= n + 1.
    """
    start, spend, limit = _SETS[kind]
    indices = torch.zeros(1, 0, dtype=torch.int64)
    used = torch.full((1,), start, dtype=torch.int64)
    degrees = torch.arange(n + 1)
    for _ in range(dimension):
        total = spend(used[:, None].expand(-1, n + 1), degrees.expand(len(used), -1))
        row, degree = torch.nonzero(total <= limit(n), as_tuple=True)
        indices = torch.cat([indices[row], degree[:, None]], dim=1)
        used = total[row, degree]
    return indices


def total_degree_error(d: int, n: int, r: float) -> float:
    """Worst error of the isotropic ball cut to total degree n, exactly (P8).

    The index left out with the least norm spreads ``n + 1`` evenly over the coordinates, so that
    ``|k|^2 >= (n + 1)^2 / d`` and the error is at most ``(1 + (n + 1)^2 / d) ** (-r / 2)``.
    """
    even, more = divmod(n + 1, d)
    return float((1 + (d - more) * even**2 + more * (even + 1) ** 2) ** (-r / 2))


def hyperbolic_cross_bound(d: int, n: int, r: float) -> float:
    """Bound of the worst error of the mixed ball cut to the hyperbolic cross n (P8).

    ``prod (1 + k_j) >= n + 2`` outside, and ``1 + k^2 >= (1 + k)^2 / 2``.
    """
    return float(2 ** (d * r / 2) * (n + 2) ** -r)


@dataclass(frozen=True)
class Basis:
    """Polynomials p_k with |p_k| <= 1, orthogonal for a probability measure on [-1, 1].

    Attributes:
        in_chebyshev: k -> coefficients of p_k in T_0 .. T_k.
        norm: p_k's L2 norms for degrees ``[...]``.
        eigenvalue: Eigenvalues of the differential operator whose eigenfunctions p_k are (B3).
        sample: Points ``[P, d]`` of the product measure.
        density: A lower bound of the measure's density.
    """

    in_chebyshev: Callable[[int], Sequence[float]]
    norm: Callable[[Tensor], Tensor]
    eigenvalue: Callable[[Tensor], Tensor]
    sample: Callable[[int, int, torch.Generator], Tensor]
    density: float


def _uniform(points: int, dimension: int, generator: torch.Generator) -> Tensor:
    return torch.rand(points, dimension, generator=generator, dtype=torch.float64)


BASES = {
    "chebyshev": Basis(
        in_chebyshev=lambda k: Chebyshev.basis(k).coef.tolist(),
        norm=lambda k: torch.where(k == 0, 1.0, 0.5).double().sqrt(),
        eigenvalue=lambda k: k.double() ** 2,
        sample=lambda *size: torch.cos(torch.pi * _uniform(*size)),
        density=1 / torch.pi,  # 1 / (pi sqrt(1 - x^2))
    ),
    "legendre": Basis(
        in_chebyshev=lambda k: Legendre.basis(k).convert(kind=Chebyshev).coef.tolist(),
        norm=lambda k: (2 * k.double() + 1).rsqrt(),
        eigenvalue=lambda k: k.double() * (k + 1),
        sample=lambda *size: 2 * _uniform(*size) - 1,
        density=0.5,
    ),
}

WEIGHTS: dict[str, Callable[[Basis, Tensor], Tensor]] = {
    "mixed": lambda basis, k: (1 + k.double() ** 2).prod(-1),  # B1
    "isotropic": lambda basis, k: 1 + (k.double() ** 2).sum(-1),  # B2
    "operator": lambda basis, k: 1 + basis.eigenvalue(k).sum(-1),  # B3
}


@dataclass(frozen=True)
class CoefficientBall:
    """``{sum_k c_k p_k / |p_k| : sum_k weight(k) c_k^2 <= 1}``, embedded in a Sobolev space.

    ``weight(k) = w(k) ** r`` with w of ``WEIGHTS``: mixed (B1), isotropic (B2), operator (B3).
    """

    dimension: int
    smoothness: float = 3.0
    weighting: str = "isotropic"
    basis: str = "chebyshev"

    def weight(self, indices: Tensor) -> Tensor:
        """``w(k) ** r`` for indices ``[terms, d]``, float64 ``[terms]``."""
        weight: Tensor = WEIGHTS[self.weighting](BASES[self.basis], indices) ** self.smoothness
        return weight

    def element(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A random point of the sphere: orthonormal coefficients c ``[terms]``, weighted norm 1."""
        direction = torch.randn(len(indices), generator=generator, dtype=torch.float64)
        element: Tensor = direction / direction.norm() / self.weight(indices).sqrt()
        return element

    def worst_error(self, indices: Tensor) -> float:
        """Largest L2 error over the ball when the series is cut to a downward closed set (P8).

        ``max over k outside of weight(k) ** -1/2``, attained by that k alone. Weights grow with
        each degree, so that the maximum is among the neighbours ``k + e_j`` of the set.
        """
        steps = torch.eye(self.dimension, dtype=torch.int64)
        near = (indices[:, None] + steps).reshape(-1, self.dimension)
        outside = set(map(tuple, near.tolist())) - set(map(tuple, indices.tolist()))
        return float(self.weight(torch.tensor(sorted(outside))).min() ** -0.5)

    def values(self, indices: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
        """``sum_k c_k p_k(x) / |p_k|``, evaluated directly.

        Args:
            indices: int64 ``[terms, d]``.
            coefficients: ``[terms, q]``, q functions at once.
            x: Points ``[P, d]``.

        Returns:
            ``[P, q]``.
        """
        scaled = coefficients / self.norm(indices)[:, None]
        change = self._to_chebyshev(int(indices.max())).to(x)
        parts = x.chunk(math.ceil(len(x) * len(indices) / 2**22))
        return torch.cat([self._part(indices, scaled, change, part) for part in parts])

    def _part(self, indices: Tensor, scaled: Tensor, change: Tensor, x: Tensor) -> Tensor:
        polynomials = self._polynomials(change, x)
        product = polynomials[0][indices[:, 0]]
        for j in range(1, self.dimension):
            product = product * polynomials[j][indices[:, j]]
        summed: Tensor = product.T @ scaled
        return summed

    def curvature(self, indices: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
        """Second derivative along the first axis, at ``POINTS`` points of each line.

        Args:
            indices: int64 ``[terms, d]``.
            coefficients: Orthonormal coefficients ``[terms]`` of one function.
            x: A point of each line, ``[lines, d]``; its first coordinate is not used.

        Returns:
            ``[lines, POINTS]``, for ``l2_neurons``.
        """
        change = self._to_chebyshev(int(indices.max()))
        weights = (coefficients / self.norm(indices))[:, None].expand(-1, len(x))
        values = self._polynomials(change, x)
        for j in range(1, self.dimension):
            weights = weights * values[j][indices[:, j]]
        along = torch.zeros(len(change), len(x), dtype=torch.float64)
        along.index_add_(0, indices[:, 0], weights)
        second = chebyshev.chebder((change.T @ along).numpy(), 2)
        t = torch.linspace(-1, 1, POINTS, dtype=torch.float64)
        return torch.from_numpy(chebyshev.chebval(t.numpy(), second))

    @staticmethod
    def _polynomials(change: Tensor, x: Tensor) -> Tensor:
        """p_k(x_j) at points ``[P, d]``: ``[d, k, P]``."""
        table = [torch.ones_like(x), x]
        for _ in range(2, len(change)):
            table.append(2 * x * table[-1] - table[-2])
        return torch.einsum("kt,tpd->dkp", change, torch.stack(table)[: len(change)])

    def norm(self, indices: Tensor) -> Tensor:
        """L2 norms of the products of p_k, ``[terms]``."""
        return BASES[self.basis].norm(indices).prod(-1)

    def network(self, indices: Tensor, coefficients: Tensor) -> MultiplicativeNetwork:
        """The multiplicative network of ``sum_k c_k p_k / |p_k|``, ``[P, d] -> [P, q]`` (P7).

        Tables of T by doubling in each coordinate, then products of halves: an index with s > 1
        degrees that are not zero is the product of its first and its last halves, which stand in a
        downward closed set already. One product a term, in ``ceil(log2 s)`` further layers.

        Raises:
            ValueError: ``coefficients`` is not ``[terms, q]``.
        """
        if coefficients.shape[:1] != indices.shape[:1] or coefficients.ndim != 2:
            raise ValueError(
                "dlaccel.benshaul2023multiplicative: coefficients must have the shape "
                f"({len(indices)}, q), got {tuple(coefficients.shape)}."
            )
        circuit = Circuit(self.dimension)
        tables = []
        for j in range(self.dimension):
            n = int(indices[:, j].max())
            table = chebyshev_table(circuit, j, n)
            rows = [BASES[self.basis].in_chebyshev(k) for k in range(n + 1)]
            tables.append([combination(table[: len(row)], row) for row in rows])
        known: dict[tuple[tuple[int, int], ...], Form] = {(): Form(constant=1.0)}

        def product(factors: tuple[tuple[int, int], ...]) -> Form:
            if factors not in known:
                if len(factors) == 1:
                    ((j, degree),) = factors
                    known[factors] = tables[j][degree]
                else:
                    half = len(factors) // 2
                    gate = circuit.multiply(product(factors[:half]), product(factors[half:]))
                    known[factors] = Form(((gate, 1.0),))
            return known[factors]

        support = [tuple((j, k) for j, k in enumerate(index) if k) for index in indices.tolist()]
        forms = [product(factors) for factors in support]
        weights = (coefficients / self.norm(indices)[:, None]).T.tolist()
        outputs = [combination(forms, column) for column in weights]
        return circuit.network(Affine.identity(self.dimension), outputs)

    def _to_chebyshev(self, n: int) -> Tensor:
        change = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        for k in range(n + 1):
            row = BASES[self.basis].in_chebyshev(k)
            change[k, : len(row)] = torch.tensor(row, dtype=torch.float64)
        return change


def least_squares(indices: Tensor, x: Tensor, values: Tensor) -> Tensor:
    """Orthonormal Chebyshev coefficients ``[terms]`` of the best fit to values ``[P]``.

    ``x`` holds the points ``[P, d]``.
    """
    ball = CoefficientBall(x.shape[1])
    features = ball.values(indices, torch.eye(len(indices), dtype=torch.float64), x)
    solution: Tensor = torch.linalg.lstsq(features, values[:, None], driver="gelsd").solution
    return solution[:, 0]
