"""Solves against exact inverses, SciPy and scikit-learn, at condition numbers up to 1e16."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from samples import maker, relative_error
from scipy import linalg
from sklearn.linear_model import Ridge
from torch import Tensor

from dlaccel import solve

EPSILON = torch.finfo(torch.float64).eps
make = maker(torch.float64, "cpu")


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order() -> None:
    global make
    make = maker(torch.float64, "cpu")


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def gram(size: int, *batch: int, rank: int | None = None) -> Tensor:
    rows = make(*batch, size, rank or 2 * size)
    return rows @ rows.mT


def hilbert(size: int) -> Tensor:
    return torch.from_numpy(linalg.hilbert(size))


def exact(size: int) -> Tensor:
    """The inverse of a Hilbert matrix, whose entries are integers."""
    return torch.from_numpy(linalg.invhilbert(size, exact=True).astype(float))


def backward_error(A: Tensor, x: Tensor, b: Tensor) -> float:
    """Rigal and Gaches' normwise one, of the worst column, in the 2-norm."""
    size = torch.linalg.matrix_norm(A, 2) * x.norm(dim=0) + b.norm(dim=0)
    return ((b - A @ x).norm(dim=0) / size).max().item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_factor_solves(precision: Any, dtype: torch.dtype, device: str) -> None:
    K = gram(30).to(device, dtype)
    K = (K + K.mT) / 2
    A = K.double() + 0.7 * eye(30).to(device)
    b = make(30, 4).to(device)
    factor = solve.cholesky(K, 0.7, precision=precision)
    x = factor.solve(b)
    assert x.dtype == torch.float64
    assert backward_error(A.cpu(), x.cpu(), b.cpu()) < 30 * EPSILON
    condition = torch.linalg.cond(A).item()
    assert relative_error(x, torch.linalg.solve(A, b)) < 60 * condition * EPSILON
    assert torch.equal(factor.solve(b[:, 0]), factor.solve(b[:, :1])[:, 0])
    assert relative_error(factor @ x, b) < 30 * condition * EPSILON
    logarithm = torch.linalg.slogdet(A).logabsdet.item()
    rounding = 30 * torch.finfo(getattr(torch, precision)).eps * condition
    assert factor.log_determinant().item() == pytest.approx(logarithm, abs=rounding)


def test_matrices_in_a_batch_are_solved_one_by_one() -> None:
    K, b = gram(6, 2, 3), make(2, 3, 6, 5)
    for precision in ("float64", "float32"):
        factor = solve.cholesky(K, 0.1, ridge_scale="mean", precision=precision)  # type: ignore[arg-type]
        x = factor.solve(b)
        assert factor.condition.shape == factor.least_eigenvalue().shape == (2, 3)
        assert factor.relative_residual(x, b).shape == (2, 3, 5)
        for i in range(2):
            for j in range(3):
                one = solve.cholesky(K[i, j], 0.1, ridge_scale="mean", precision=precision)  # type: ignore[arg-type]
                condition = one.condition.item()
                assert relative_error(x[i, j], one.solve(b[i, j])) < 6 * condition * EPSILON
                assert factor.condition[i, j].item() == pytest.approx(condition, rel=1e-10)


def test_what_a_ridge_of_one_adds() -> None:
    K = gram(5)
    diagonal = K.diagonal()
    for scale, added in (
        ("absolute", torch.ones(5)),
        ("mean", diagonal.mean().expand(5)),
        ("diagonal", diagonal),
    ):
        factor = solve.cholesky(K, 0.25, ridge_scale=scale)  # type: ignore[arg-type]
        assert torch.equal(factor.ridge, 0.25 * added)
        assert relative_error(factor.lower @ factor.lower.mT, K + 0.25 * added.diag()) < 1e-15
    assert torch.equal(solve.cholesky(K).ridge, torch.zeros(5))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("size", [2, 5, 8, 11])
def test_hilbert_matrices(size: int, precision: Any) -> None:
    """Of condition 19 to 5e14: a float32 factor alone knows nothing of the last two."""
    K, inverse, b = hilbert(size), exact(size), make(size, 3)
    factor = solve.cholesky(K, precision=precision)
    x = factor.solve(b)
    assert backward_error(K, x, b) < size * EPSILON
    condition = K.abs().sum(0).max() * inverse.abs().sum(0).max()
    # A backward error of N roundings moves x by kappa as much; K itself is rounded once.
    assert relative_error(x, inverse @ b) < 2 * size * EPSILON * condition
    # Solves that are so much off change the norm of the inverse by as much.
    tolerance = min(0.5, 2 * size * EPSILON * condition.item())
    assert factor.condition.item() == pytest.approx(condition.item(), rel=tolerance)
    least = 1 / torch.linalg.matrix_norm(inverse, 2).item()
    assert factor.least_eigenvalue().item() == pytest.approx(least, abs=2 * size * EPSILON)


def test_refinement_does_the_work() -> None:
    K, b = hilbert(6), make(6, 2)
    factor = solve.cholesky(K, precision="float32")
    assert factor.lower.dtype == torch.float32
    assert backward_error(K, factor.approximate(b), b) > 1e4 * backward_error(K, factor.solve(b), b)


@pytest.mark.parametrize("size", [1, 3, 40])
def test_condition_is_lapacks_and_bounds_that_of_the_inverse(size: int) -> None:
    for K in (gram(size), gram(size) + 10 * size * eye(size), gram(size, rank=size) + 0.01):
        found = solve.cholesky(K, 0.01).condition.item()
        A = K + 0.01 * eye(size)
        reciprocal, _ = linalg.lapack.dpocon(np.linalg.cholesky(A).T, A.abs().sum(0).max().item())
        true = torch.linalg.cond(A, 1).item()
        assert found <= true * (1 + 4 * size * true * EPSILON)
        assert found >= true / 3
        assert found >= (1 - 1e-9) / reciprocal  # LAPACK stops earlier


def test_entries_that_float32_cannot_hold_are_scaled() -> None:
    """By powers of two, so that the same digits are solved for."""
    scale = torch.arange(-200.0, 200.0, 20.0, dtype=torch.float64).exp2()[:, None]
    K, b = gram(20), make(20, 1)
    plain = solve.cholesky(K, precision="float32").approximate(b)
    scaled = solve.cholesky(K * scale * scale.T, precision="float32").approximate(b * scale)
    assert relative_error(scaled * scale, plain) < 1e-15
    truth = torch.linalg.solve(K, b)
    single = 20 * torch.finfo(torch.float32).eps * torch.linalg.cond(K).item()
    assert relative_error(plain, truth) < single


def test_asymmetry_of_rounding_is_averaged() -> None:
    K, b = gram(12), make(12)
    bent = K.float() + 1e-6 * make(12, 12).float()
    mean = (bent.double() + bent.double().mT) / 2
    assert torch.equal(solve.cholesky(bent).solve(b), solve.cholesky(mean).solve(b))


@pytest.mark.parametrize("scale", ["absolute", "mean", "diagonal"])
@pytest.mark.parametrize("size", [1, 4, 60])
def test_the_named_ridge_would_do(size: int, scale: Any) -> None:
    """For kernels of every rank, and some that are far from positive."""
    for K in (
        gram(size, rank=max(1, size // 2)),
        hilbert(size) - 0.1 * eye(size),
        torch.stack([gram(size), gram(size) - 9 * size * eye(size)]),
        0 * eye(size),
        -eye(size),
    ):
        try:
            solve.cholesky(K, 1e-3, ridge_scale=scale)
        except ValueError as refusal:
            found = re.search(
                r"\(ridge=(\S+)( with ridge_scale=\"absolute\")? would do\)", str(refusal)
            )
            assert found is not None
            enough = float(found[1])
            solve.cholesky(K, enough, ridge_scale="absolute" if found[2] else scale)
            least = torch.linalg.eigvalsh(K)[..., 0].min()
            if scale == "absolute":  # and not much more than needed
                assert enough <= 1.1 * (1e-3 - least.clamp_max(0)) + 1e-8


def test_conjugate_gradients_find_what_a_factor_finds() -> None:
    K, b = gram(40), make(40, 3)
    for ridge in (0.0, 0.5):
        factor = solve.cholesky(K, ridge)
        found = solve.conjugate_gradient(K, b, ridge=ridge, tolerance=1e-12)
        assert found.converged.all()
        assert relative_error(found.x, factor.solve(b)) < 1e-12 * factor.condition.item()
        torch.testing.assert_close(found.residual, factor.relative_residual(found.x, b))
        assert found.history.shape == (found.iterations + 1, 3)
        assert (found.history[0] == 1).all()
        assert found.report.startswith(f"converged in {found.iterations} iterations; the largest")
    single = solve.conjugate_gradient(K, b[:, 0])
    assert single.x.shape == (40,)
    assert single.residual.shape == single.converged.shape == ()
    assert single.history.shape == (single.iterations + 1,)


def test_conjugate_gradients_take_as_many_iterations_as_eigenvalues() -> None:
    """Exactly so in exact arithmetic (Hestenes and Stiefel); every column by itself."""
    basis = torch.linalg.qr(make(30, 30)).Q
    values = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).repeat_interleave(10)
    K = basis @ values.diag() @ basis.mT
    K = (K + K.mT) / 2
    b = torch.stack([make(30), basis[:, 0], 0 * make(30)], 1)
    found = solve.conjugate_gradient(K, b, tolerance=1e-13)
    assert found.iterations == 3
    assert (found.history[1:, 1] < 1e-13).all()
    assert torch.equal(found.x[:, 2], torch.zeros(30, dtype=torch.float64))


def test_a_start_and_a_preconditioner_save_iterations() -> None:
    scale = torch.logspace(0, 3, 50, dtype=torch.float64)
    K = (gram(50) + 50 * eye(50)) * scale[:, None] * scale
    b = make(50, 2)
    plain = solve.conjugate_gradient(K, b, tolerance=1e-8)
    jacobi = solve.conjugate_gradient(
        K, b, tolerance=1e-8, preconditioner=lambda r: r / K.diagonal()[:, None]
    )
    factor = solve.cholesky(K, precision="float32")
    best = solve.conjugate_gradient(K, b, tolerance=1e-8, preconditioner=factor.approximate)
    assert best.iterations <= 3 < jacobi.iterations < plain.iterations / 2
    again = solve.conjugate_gradient(K, b, tolerance=1e-8, start=best.x)
    assert again.iterations == 0
    assert torch.equal(again.x, best.x)


class Counted:
    """An operator of float32 in a batch that says how it was asked."""

    dtype = torch.float32

    def __init__(self, K: Tensor) -> None:
        self.K, self.asked = K.float(), list[tuple[torch.Size, torch.dtype]]()

    def __matmul__(self, p: Tensor) -> Tensor:
        self.asked.append((p.shape, p.dtype))
        return self.K @ p


def test_an_operator_of_float32_is_enough_for_its_own_precision() -> None:
    K, b = gram(20, 2), make(2, 20, 3)
    operator = Counted(K + 5 * eye(20))
    found = solve.conjugate_gradient(operator, b, tolerance=1e-5)
    assert set(operator.asked) == {(torch.Size([2, 20, 3]), torch.float32)}
    assert found.residual.shape == (2, 3)
    truth = torch.linalg.solve(operator.K.double(), b)
    condition = torch.linalg.cond(operator.K.double()).max().item()
    assert relative_error(found.x, truth) < 1e-5 * condition
    default = solve.conjugate_gradient(operator, b)
    assert default.residual.max() < 100 * torch.finfo(torch.float32).eps
    with pytest.warns(solve.ConvergenceWarning) as caught:
        found = solve.conjugate_gradient(operator, b, tolerance=1e-12)
    assert not found.converged.any()
    assert 1e-12 < found.residual.max() < 20 * torch.finfo(torch.float32).eps * condition
    assert str(caught[0].message) == f"dlaccel.solve.conjugate_gradient: {found.report}"
    assert found.report == (
        f"no convergence: after {found.iterations} iterations 6 of 6 right-hand sides are above "
        f"1e-12; the largest relative residual is {found.residual.max().item():.2g}; rounding of "
        "the products allows no less."
    )


def test_too_few_iterations_are_told() -> None:
    K, b = gram(30), make(30, 2)
    with pytest.warns(solve.ConvergenceWarning):
        found = solve.conjugate_gradient(K, torch.stack([b[:, 0], 0 * b[:, 0]], 1), iterations=4)
    assert found.iterations == 4
    assert found.converged.tolist() == [False, True]
    true = relative_error(K @ found.x[:, 0], b[:, 0])
    assert found.residual[0].item() == pytest.approx(true)
    assert found.report == (
        "no convergence: after 4 iterations 1 of 2 right-hand sides are above 1e-10; the largest "
        f"relative residual is {true:.2g}; 4 were allowed."
    )
    with pytest.warns(solve.ConvergenceWarning):
        assert solve.conjugate_gradient(K, b, iterations=0).iterations == 0


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (3, 9, 4), (3, 4, 9)])
def test_ridge_regression_is_scikit_learns_in_primal_and_dual(shape: tuple[int, ...]) -> None:
    features, targets = make(*shape), make(*shape[:-1], 2)
    weights = solve.ridge_regression(features, targets, 0.3)
    assert weights.shape == (*shape[:-2], shape[-1], 2)
    for F, Y, W in zip(
        features.view(-1, *shape[-2:]),
        targets.view(-1, shape[-2], 2),
        weights.view(-1, shape[-1], 2),
        strict=True,
    ):
        model = Ridge(alpha=0.3, fit_intercept=False, solver="svd").fit(F.numpy(), Y.numpy())
        condition = torch.linalg.cond(F.mT @ F + 0.3 * eye(shape[-1])).item()
        assert relative_error(W, torch.from_numpy(model.coef_.T.copy())) < 30 * EPSILON * condition


def test_spectrum_gives_the_matrix_and_its_noise() -> None:
    K = gram(10, 2, rank=4)
    found = solve.spectrum(K, 0.25)
    U, values = found.eigenvectors, found.eigenvalues
    assert relative_error(U @ values.diag_embed() @ U.mT, K + 0.25 * eye(10)) < 1e-14
    bare = solve.spectrum(K)
    assert (bare.eigenvalues >= 0).all()
    assert ((bare.eigenvalues <= bare.noise).sum(-1) == 6).all()
    low = solve.spectrum(K.float())  # its least eigenvalues are below zero by float32's rounding
    assert (low.noise > 1e3 * bare.noise).all()
    assert ((low.eigenvalues <= low.noise).sum(-1) >= 3).all()


def test_results_carry_no_gradient_and_arguments_stay() -> None:
    K, b = gram(8).requires_grad_(), make(8, 2).requires_grad_()
    before = K.detach().clone()
    assert not solve.cholesky(K, 1.0).solve(b).requires_grad
    assert not solve.cholesky(K, 1.0, precision="float32").solve(b).requires_grad
    assert not solve.conjugate_gradient(K, b, ridge=1.0).x.requires_grad
    assert torch.equal(K, before)
