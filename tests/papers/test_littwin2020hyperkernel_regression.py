"""Arxiv 2003.12193: kernel regression on grids of pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.papers.littwin2020hyperkernel import theory
from dlaccel.papers.littwin2020hyperkernel.completion import from_text, to_text
from dlaccel.papers.littwin2020hyperkernel.regression import (
    KERNELS,
    Grid,
    Pairs,
    fit,
    gram,
    predict,
    unit,
)
from dlaccel.papers.littwin2020hyperkernel.theory import Covariance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def theory_kernel(name: str, x: Covariance, z: Covariance) -> Tensor:
    found = theory.hyperkernel(x, z, 3, 3, backward_scale=name != "hyperkernel as released")
    return {"NNGP": found.gp, "NNGP as released": found.activity}.get(name, found.tangent)


@pytest.mark.parametrize("name", KERNELS)
def test_tables_are_the_closed_forms(name: str) -> None:
    grid, left, right = Grid(4, 1.5), draw(2, 16, seed=1).abs(), draw(5, 16, seed=2).abs()
    table = grid.table(name, left, right)
    assert table.shape == (2, 5, len(grid.distances))
    one = torch.ones((), dtype=torch.float64)
    cosine = Covariance((unit(left) @ unit(right).T)[..., None], one, one)
    pixels = Covariance(torch.exp(grid.distances.double() / -3), one, one)
    exact = theory_kernel(name, cosine, pixels)
    torch.testing.assert_close(table, exact, rtol=1e-12, atol=1e-12)


def test_shrinking_makes_correlations_smaller() -> None:
    grid, images = Grid(4, 1.5, shrink=0.01), draw(3, 16, seed=1).abs()
    table = grid.table("NNGP", images, images)
    one = torch.ones((), dtype=torch.float64)
    x = Covariance(0.99 * (unit(images) @ unit(images).T)[..., None], one, one)
    z = Covariance(0.99 * torch.exp(grid.distances.double() / -3), one, one)
    torch.testing.assert_close(table, theory_kernel("NNGP", x, z), rtol=1e-12, atol=1e-12)


def test_gathered_matrices_and_predictions_are_the_dense_ones() -> None:
    grid, images, tests = Grid(4, 2.0), draw(5, 16, seed=1).abs(), draw(3, 16, seed=2).abs()
    pixels = torch.randint(16, (5, 3), generator=generator())
    pairs = Pairs(pixels, images.gather(1, pixels))
    places = torch.stack([torch.arange(16) // 4, torch.arange(16) % 4], 1).double()
    one = torch.ones((), dtype=torch.float64)

    def dense(left: Tensor, z_left: Tensor, right: Tensor, z_right: Tensor) -> Tensor:
        squared = (z_left[:, None] - z_right[None]).square().sum(-1)
        z = Covariance(torch.exp(squared / -4), one, one)
        return theory_kernel("hyperkernel", Covariance(unit(left) @ unit(right).T, one, one), z)

    x, z = images.repeat_interleave(3, 0), places[pixels.flatten()]
    matrix = dense(x, z, x, z)
    found = gram(grid, grid.table("hyperkernel", images, images), pairs)
    # A cosine of 1 is off by a few 1e-16 in the dense form, its angle by the root of that, and the
    # kernel, a sum of nine products, by some times it.
    torch.testing.assert_close(found, matrix, rtol=0, atol=1e-6)
    fitted = fit(found, pairs, 1e-3)
    regularised = found + 1e-3 * torch.diag(found.diagonal())
    dual = torch.linalg.solve(regularised, pairs.values.flatten())
    torch.testing.assert_close(fitted.dual, dual, rtol=1e-8, atol=1e-8)
    across = dense(tests.repeat_interleave(16, 0), places.repeat(3, 1), x, z)
    table = grid.table("hyperkernel", tests, images)
    predicted = predict(grid, table, pairs, dual)
    torch.testing.assert_close(predicted.flatten(), across @ dual, rtol=1e-10, atol=1e-10)


def test_black_images_are_no_numbers_away() -> None:
    grid = Grid(4, 1.0)
    images = torch.zeros(2, 16, dtype=torch.float64)
    images[1] = 1
    assert grid.table("NNGP", images, images).isfinite().all()


def test_pictures_survive_the_records() -> None:
    levels = torch.randint(256, (11, 25), generator=generator(), dtype=torch.uint8)
    read = from_text(to_text(levels.double() / 255), 5)
    assert (read == levels[:8].view(8, 5, 5).numpy()).all()
