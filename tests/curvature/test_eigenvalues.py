"""The largest eigenvalues and the trace of matrices that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_tailindex.curvature import hutchinson_trace, largest_eigenvalues, num_lanczos_vectors


def symmetric(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A matrix of these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator).double())
    return (basis * eigenvalues.double()) @ basis.T


class Counted:
    """Multiplies by a matrix, and counts how often."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.calls = matrix, 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.calls += 1
        return self.matrix.to(vector.dtype) @ vector


def spectrum(size: int) -> Tensor:
    """A bulk around 0 with outliers on both sides, as those of neural networks have."""
    generator = torch.Generator().manual_seed(1)
    return torch.cat([torch.tensor([9.0, 7.0, 6.9, -20.0]), 0.5 * torch.randn(size - 4, generator=generator)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, 20, 21, 200])
@pytest.mark.parametrize("count", [1, 3])
def test_they_are_those_of_a_dense_solver(size: int, count: int, dtype: torch.dtype) -> None:
    matrix = symmetric(spectrum(max(size, 4))[:size])
    product = Counted(matrix)
    found = largest_eigenvalues(product, size, count, dtype=dtype, seed=3)
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:count]
    assert found.values == pytest.approx(expected.tolist(), rel=1e-3)
    assert max(found.residuals) < 1e-2
    assert found.note == ""
    assert product.calls <= 100


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([5.0] * 3, 2),
        ([5.0] * 3, 3),
        ([5.0] * 3, 5),
        ([5.0, 4.0, 4.0, 3.0, 3.0, 3.0], 5),
        ([5.0, 5.0001, 5.0002], 3),
        ([5.0] * 10, 10),
    ],
)
@pytest.mark.parametrize("rest", [torch.linspace(-3, 1, 200), torch.zeros(200)])
def test_repeated_eigenvalues_are_found_as_often_as_they_are(
    values: list[float], count: int, rest: Tensor, seed: int
) -> None:
    matrix = symmetric(torch.cat([torch.tensor(values), rest]))
    product = Counted(matrix)
    found = largest_eigenvalues(product, len(matrix), count, max_products=300, seed=seed)
    assert found.values == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:count].tolist(), rel=1e-3, abs=1e-5)
    assert found.note == ""
    assert product.calls <= 300


@pytest.mark.parametrize("factor", [-1.0, 3.0])
def test_they_are_found_where_all_are_the_same(factor: float) -> None:
    found = largest_eigenvalues(lambda vector: factor * vector, 200, 3)
    assert found.values == pytest.approx((factor,) * 3)
    assert found.note == ""


def test_eigenvalues_of_0_are_not_looked_for_to_the_last_digit() -> None:
    product = Counted(symmetric(torch.cat([torch.tensor([5.0, 4.0, 3.0]), torch.zeros(197)])))
    found = largest_eigenvalues(product, 200, 5)
    assert found.values == pytest.approx((5, 4, 3, 0, 0), abs=1e-4)
    assert found.note == ""
    assert product.calls <= 60


def test_a_note_says_where_products_were_too_few_to_look_for_copies() -> None:
    matrix = symmetric(torch.cat([torch.full((10,), 5.0), torch.linspace(0, 1, 100)]))
    product = Counted(matrix)
    found = largest_eigenvalues(product, len(matrix), 3, max_products=41)
    assert product.calls <= 40
    assert found.note == "41 products were too few to look for copies of repeated eigenvalues (max_products)"


def test_the_largest_is_algebraic_even_where_all_are_negative() -> None:
    found = largest_eigenvalues(Counted(symmetric(torch.linspace(-50, -1, 60))), 60, max_products=200)
    assert found.values[0] == pytest.approx(-1, rel=1e-3)


def test_the_residual_is_how_far_it_is_from_an_eigenvalue() -> None:
    exact = torch.diag(torch.tensor([5.0, 1.0]))
    calls = iter([exact, exact, exact + torch.tensor([[0.0, 0.0], [2.0, 0.0]])])  # the last one is another matrix
    found = largest_eigenvalues(lambda vector: next(calls) @ vector, 2)
    assert found.values == pytest.approx((5,))
    assert found.residuals == pytest.approx((2 / 5,))
    assert found.note == "an eigenvalue's residual is 0.4 of it, far above the tolerance"


def test_an_eigenvalue_that_is_0_but_for_rounding_is_no_failure() -> None:
    vector = torch.nn.functional.normalize(torch.randn(20, generator=torch.Generator().manual_seed(0)), dim=0)
    found = largest_eigenvalues(Counted(-5 * torch.outer(vector, vector)), 20)
    assert found.values == pytest.approx((0,), abs=1e-5)
    assert found.note == ""


def test_more_than_there_are_is_nan_with_a_note() -> None:
    found = largest_eigenvalues(Counted(symmetric(torch.tensor([1.0, 2.0]))), 2, 3)
    assert found.values == pytest.approx((2, 1, math.nan), nan_ok=True)
    assert math.isnan(found.residuals[2])
    assert found.note == "there are 2 parameters, and so no more eigenvalues"


@pytest.mark.parametrize("most", [41, 60, 100])
def test_what_does_not_converge_is_nan_with_a_note(most: int) -> None:
    product = Counted(torch.diag(torch.linspace(0, 1, 2000)))
    found = largest_eigenvalues(product, 2000, 2, tolerance=1e-9, max_products=most)
    assert found.values == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert found.note == f"0 of 2 eigenvalues converged within {most} products (max_products, tolerance)"
    assert most - 20 <= product.calls <= most


@pytest.mark.parametrize("more", [1, 2, 8, 19, 40])
@pytest.mark.parametrize("count", [1, 2, 10, 20])
@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 1e-12])
def test_no_more_products_are_computed_than_may_be(count: int, more: int, tolerance: float) -> None:
    most = 2 * num_lanczos_vectors(count) + more
    repeated = torch.cat([torch.ones(30), torch.linspace(0, 0.99, 30)])
    for diagonal in (torch.linspace(0, 1, 60), torch.linspace(0, 1, 400).pow(8), repeated):
        product = Counted(torch.diag(diagonal))
        largest_eigenvalues(product, len(diagonal), count, tolerance=tolerance, max_products=most)
        assert product.calls <= most


def test_one_eigenvalue_is_looked_for_with_all_products() -> None:
    product = Counted(torch.diag(torch.linspace(0, 1, 500)))
    found = largest_eigenvalues(product, 500)
    assert found.values[0] == pytest.approx(1, abs=1e-3)
    assert found.note == ""
    assert 61 < product.calls <= 100  # what a restart costs is 10 products, not 19


def test_looking_for_copies_takes_no_more_products_than_there_are() -> None:
    near_one = Counted(torch.diag(1 - torch.linspace(0, 1, 22) ** 2 * 1e-3))
    largest_eigenvalues(near_one, 22, 5, tolerance=1e-8, max_products=100)
    assert near_one.calls <= 100


def test_those_that_converged_are_kept() -> None:
    diagonal = torch.cat([torch.tensor([100.0]), torch.linspace(0, 1, 1999)])
    found = largest_eigenvalues(lambda vector: diagonal * vector, 2000, 2, tolerance=1e-6, max_products=41)
    assert found.values == pytest.approx((100, math.nan), nan_ok=True)
    assert found.note == (
        "1 of 2 eigenvalues converged within 41 products (max_products, tolerance); others may be larger, and"
        " copies of repeated ones were not looked for"
    )


def test_huge_and_tiny_matrices_have_residuals_too() -> None:
    for size in (1e-30, 1e30):
        diagonal = size * torch.linspace(0, 1, 100).square()
        found = largest_eigenvalues(lambda vector, diagonal=diagonal: diagonal * vector, 100)  # type: ignore[misc]
        assert found.values == pytest.approx((size,), rel=1e-3)
        assert found.residuals[0] < 1e-2
        assert found.note == ""


@pytest.mark.parametrize("exponent", [-60, -23, 40])
def test_the_tolerance_heeds_no_unit(exponent: int) -> None:
    matrix = symmetric(torch.linspace(-0.2, 1, 300).pow(3))
    one, other = (largest_eigenvalues(Counted(unit * matrix), 300, 3) for unit in (1.0, 2.0**exponent))
    assert other.values == tuple(value * 2.0**exponent for value in one.values)
    assert other.residuals == one.residuals


@pytest.mark.parametrize(("diagonal", "largest"), [([1e-39, 1, 2], 2), ([1e-25, 1e15], 1e15), ([1e37, 1], 1e37)])
def test_small_matrices_of_any_sizes(diagonal: list[float], largest: float) -> None:
    assert largest_eigenvalues(Counted(torch.diag(torch.tensor(diagonal))), len(diagonal)).values[0] == pytest.approx(
        largest
    )


@pytest.mark.parametrize("size", [10, 100])
def test_the_matrix_0_has_eigenvalues_0(size: int) -> None:
    found = largest_eigenvalues(torch.zeros_like, size, 2)
    assert (found.values, found.residuals, found.note) == ((0, 0), (0, 0), "")


@pytest.mark.parametrize("size", [10, 100])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_products_that_are_not_finite_give_nan_and_a_note(size: int, value: float) -> None:
    found = largest_eigenvalues(lambda vector: torch.full_like(vector, value), size)
    assert found.values == pytest.approx((math.nan,), nan_ok=True)
    assert found.note == "products of the Hessian with vectors are not finite"


def test_errors_of_the_product_are_its_own() -> None:
    def broken(vector: Tensor) -> Tensor:
        raise OSError("broken on purpose")

    with pytest.raises(OSError, match="broken on purpose"):
        largest_eigenvalues(broken, 100)


def test_the_same_seed_gives_the_same_numbers_and_leaves_random_states_alone() -> None:
    matrix, before = symmetric(spectrum(100)), torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first, second, other = (largest_eigenvalues(Counted(matrix), 100, seed=seed) for seed in (0, 0, 1))
    assert first == second
    assert first != other
    hutchinson_trace(Counted(matrix), 100, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[arg-type]  # noqa: NPY002


def test_the_number_of_vectors() -> None:
    assert [num_lanczos_vectors(count) for count in (1, 9, 10, 30)] == [20, 20, 21, 61]


def test_products_may_carry_gradients() -> None:
    matrix = torch.diag(torch.arange(5.0)).requires_grad_()
    assert largest_eigenvalues(lambda vector: matrix @ vector, 5).values == pytest.approx((4,))
    assert hutchinson_trace(lambda vector: matrix @ vector, 5, 2).value == 10


def test_the_trace_of_a_diagonal_matrix_is_exact() -> None:
    diagonal = torch.arange(50.0)
    found = hutchinson_trace(lambda vector: diagonal * vector, 50, 5)
    assert (found.value, found.error) == (diagonal.sum(), 0)


def test_the_trace_has_no_bias_and_the_error_it_says() -> None:
    matrix = symmetric(spectrum(60))
    truth, off = matrix.trace().item(), matrix - matrix.diag().diag()
    many = [hutchinson_trace(Counted(matrix), 60, 10, seed=seed, dtype=torch.float64) for seed in range(400)]
    values = torch.tensor([each.value for each in many])
    expected = math.sqrt(2 / 10) * off.norm().item()
    assert values.mean().item() == pytest.approx(truth, abs=4 * expected / 20)
    assert values.std().item() == pytest.approx(expected, rel=0.15)
    assert np.sqrt(np.mean([each.error**2 for each in many])) == pytest.approx(expected, rel=0.15)


def test_the_trace_of_what_is_not_finite_is_nan_with_a_note() -> None:
    found = hutchinson_trace(lambda vector: vector * math.inf, 4, 2)
    assert math.isnan(found.value)
    assert found.note == "products of the Hessian with random vectors are not finite"


class Coarse(Tensor):
    """On a device without double precision, as Apple's GPUs are."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.double:
            raise TypeError("no float64 here")
        found = super().__torch_function__(func, types, args, kwargs or {})
        return found.as_subclass(Tensor) if func is Tensor.cpu else found


def test_the_trace_needs_no_double_precision_of_the_device() -> None:
    coarse = torch.ones(3).as_subclass(Coarse)
    with pytest.raises(TypeError, match="no float64"):
        coarse.double()
    assert hutchinson_trace(lambda vector: coarse * vector, 3, 2).value == 3


def test_one_random_vector_has_no_standard_error() -> None:
    product: Callable[[Tensor], Tensor] = Counted(torch.eye(3))
    found = hutchinson_trace(product, 3, 1)
    assert found.value == 3
    assert math.isnan(found.error)
