"""Spectra that are known: by construction, by the theory of random matrices, and as other packages have them."""

from __future__ import annotations

import math
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import powerlaw
import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import weight_spectrum
from lightning_tailindex.records import SpectrumMeasurement

from .samples import generator


def orthogonal(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=generator(seed), dtype=torch.float64)).Q


def with_eigenvalues(values: Tensor, rows: int, seed: int = 0) -> Tensor:
    """A matrix [rows, columns] whose WᵀW has these eigenvalues, and singular vectors that are random."""
    left, right = orthogonal(rows, seed)[:, : len(values)], orthogonal(len(values), seed + 1)
    return left @ torch.diag(values.sqrt()) @ right


def pareto(exponent: float, n: int, seed: int) -> Tensor:
    """Values of at least 1 with density λ^-exponent."""
    uniform = torch.rand(n, generator=generator(seed), dtype=torch.float64)
    return (1 - uniform) ** (-1 / (exponent - 1))


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


FEW_LARGE = torch.diag(torch.cat([torch.linspace(1, 1.2, 14), 2 ** torch.arange(2.0, 5.0, 0.5)]))


def numbers(found: SpectrumMeasurement) -> dict[str, float]:
    names = ("density_exponent", "x_min", "kolmogorov_distance", "weighted_exponent", "stable_rank", "spectral_norm")
    return {name: getattr(found, name) for name in (*names, "num_tail", "rank", "log_norm", "entropy")}


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.5])
def test_pareto_eigenvalues_give_their_exponent(exponent: float) -> None:
    errors = []
    for seed in range(12):
        found = weight_spectrum(with_eigenvalues(pareto(exponent, 150, seed), 200, seed))
        assert found.standard_error == pytest.approx((found.density_exponent - 1) / math.sqrt(found.num_tail))
        errors.append((found.density_exponent - exponent) / found.standard_error)
    assert sum(abs(error) < 2 for error in errors) >= 10
    assert abs(float(np.mean(errors))) < 1


def test_gaussian_matrices_have_the_edges_of_marchenko_and_pastur() -> None:
    found = weight_spectrum(gaussian(1200, 300), normalize=True)
    assert found.largest_eigenvalue == pytest.approx((1 + math.sqrt(300 / 1200)) ** 2, rel=0.03)
    assert 10 ** found.log_eigenvalues.edges[0] == pytest.approx((1 - math.sqrt(300 / 1200)) ** 2, rel=0.05)
    assert found.spectral_norm == pytest.approx(math.sqrt(1200) + math.sqrt(300), rel=0.02)
    assert found.density_exponent > 6  # no heavy tail
    assert sum(found.log_eigenvalues.counts) == found.rank == 300


def test_closed_forms() -> None:
    found = weight_spectrum(torch.eye(30) * 3)
    assert (found.stable_rank, found.spectral_norm) == (pytest.approx(30), pytest.approx(3))
    assert (found.entropy, found.log_norm) == (pytest.approx(1), pytest.approx(math.log10(270)))
    assert math.isnan(found.density_exponent)
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    found = weight_spectrum(with_eigenvalues(values, 6))
    assert found.stable_rank == pytest.approx(2)
    assert found.entropy == pytest.approx(1.75 * math.log(2) / math.log(4))
    assert weight_spectrum(gaussian(20, 1) @ gaussian(1, 30, seed=1)).stable_rank == pytest.approx(1)


def test_the_transpose_has_the_same_spectrum() -> None:
    weight = gaussian(60, 40).double()
    assert numbers(weight_spectrum(weight.T)) == pytest.approx(numbers(weight_spectrum(weight)))
    assert numbers(weight_spectrum(weight * 2)) != pytest.approx(numbers(weight_spectrum(weight)))


def test_normalizing_moves_the_eigenvalues_and_not_the_exponent() -> None:
    weight = gaussian(60, 40).double()
    plain, normalized = weight_spectrum(weight), weight_spectrum(weight, normalize=True)
    assert normalized.largest_eigenvalue == pytest.approx(plain.largest_eigenvalue / 60)
    assert normalized.density_exponent == pytest.approx(plain.density_exponent)
    assert normalized.weighted_exponent == pytest.approx(
        plain.density_exponent * math.log10(plain.largest_eigenvalue / 60)
    )
    assert normalized.spectral_norm == plain.spectral_norm


def test_a_convolution_flattened_and_in_slices() -> None:
    kernel = gaussian(24, 16, 3, 3)
    flat = weight_spectrum(kernel)
    assert numbers(flat) == pytest.approx(numbers(weight_spectrum(kernel.reshape(24, 144))))
    slices = weight_spectrum(kernel, convolutions="slices")
    each = [weight_spectrum(kernel[:, :, i, j]) for i in range(3) for j in range(3)]
    assert (flat.num_eigenvalues, slices.num_eigenvalues) == (24, 9 * 16)
    assert slices.largest_eigenvalue == pytest.approx(max(one.largest_eigenvalue for one in each))
    assert 10**slices.log_norm == pytest.approx(sum(10**one.log_norm for one in each))
    assert slices.shape == (24, 16, 3, 3)


def weightwatchers(weight: np.ndarray) -> dict[str, float]:
    """WeightWatcher's numbers of a matrix by its formulas: every eigenvalue but the largest is tried as x_min."""
    values = np.sort(np.linalg.svd(weight, compute_uv=False) ** 2)
    values = values[values > 1e-5]
    best = (math.inf, math.nan, math.nan)
    for x_min in values[:-1]:
        tail = values[values >= x_min]
        alpha = 1 + len(tail) / np.log(tail / x_min).sum()
        distance = np.abs(1 - (tail / x_min) ** (1 - alpha) - np.arange(len(tail)) / len(tail)).max()
        best = min(best, (distance, alpha, x_min))
    distance, alpha, x_min = best
    return {
        "density_exponent": alpha,
        "x_min": x_min,
        "kolmogorov_distance": distance,
        "weighted_exponent": alpha * math.log10(values[-1]),
        "stable_rank": values.sum() / values[-1],
        "log_norm": math.log10(values.sum()),
    }


MATRICES = {
    "heavy": with_eigenvalues(pareto(2.5, 150, 3), 200),
    "light": gaussian(200, 150).double(),
    "heavy entries": gaussian(150, 100).double() / (gaussian(150, 100, seed=1).double().abs() + 0.1),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_numbers_are_weightwatchers(name: str) -> None:
    expected = weightwatchers(MATRICES[name].numpy())
    found = weight_spectrum(MATRICES[name])
    assert {key: getattr(found, key) for key in expected} == pytest.approx(expected, rel=1e-6)
    single = weight_spectrum(MATRICES[name].float())
    assert {key: getattr(single, key) for key in expected} == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", MATRICES)
def test_the_fit_is_that_of_powerlaw(name: str) -> None:
    values = torch.linalg.svdvals(MATRICES[name]).square().numpy()
    found = weight_spectrum(MATRICES[name])
    with redirect_stdout(StringIO()):  # it prints its progress
        fit = powerlaw.Fit(values)
    assert found.x_min == pytest.approx(fit.xmin)
    assert found.density_exponent == pytest.approx(fit.alpha, rel=1e-6)
    assert found.standard_error == pytest.approx(fit.sigma, rel=1e-6)
    assert found.kolmogorov_distance == pytest.approx(fit.D, rel=1e-6)
    assert found.num_tail == fit.n_tail


def test_the_distance_where_eigenvalues_are_equal_is_that_of_powerlaw() -> None:
    values = torch.cat([torch.ones(45), torch.arange(2.0, 17)]).double()  # an orthogonal layer, some of it grown
    with redirect_stdout(StringIO()):
        fit = powerlaw.Fit(values.numpy())
    found = weight_spectrum(torch.diag(values.sqrt()))
    assert (found.x_min, found.num_tail) == (pytest.approx(fit.xmin), fit.n_tail)
    assert found.kolmogorov_distance == pytest.approx(fit.D, rel=1e-6)
    assert found.kolmogorov_distance < 0.3


def test_rounding_belongs_to_no_tail() -> None:
    low = gaussian(100, 20) @ gaussian(20, 90, seed=1)
    found = weight_spectrum(low, min_tail=2)
    assert (found.rank, found.num_eigenvalues) == (20, 90)
    assert sum(found.log_eigenvalues.counts) == 20
    assert found.num_tail <= 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalues_that_rounding_tells_apart_are_equal(dtype: torch.dtype) -> None:
    values = torch.rand(100, generator=generator(0), dtype=torch.float64).clamp(min=0.01)
    values[:30] = 1
    found, exact = weight_spectrum(with_eigenvalues(values, 200).to(dtype)), weight_spectrum(torch.diag(values.sqrt()))
    assert found.num_tail == exact.num_tail
    assert found.density_exponent == pytest.approx(exact.density_exponent, rel=1e-5)
    assert found.density_exponent < 4


def test_neighbours_in_a_dense_spectrum_are_not_made_one() -> None:
    values = torch.cat([torch.linspace(1, 2, 500), torch.tensor([4000.0**2])]).double()
    weight = with_eigenvalues(values, 501)
    found, exact = weight_spectrum(weight.float()), weight_spectrum(weight)
    assert found.density_exponent == pytest.approx(exact.density_exponent, abs=0.01)
    assert found.num_tail == pytest.approx(exact.num_tail, abs=5)


@pytest.mark.parametrize(
    ("weight", "note"),
    [
        (torch.zeros(10, 12), "all weights are zero"),
        (gaussian(20, 20).index_fill(0, torch.tensor([3]), math.nan), "NaN or infinite weights"),
        (gaussian(20, 20).index_fill(0, torch.tensor([3]), math.inf), "NaN or infinite weights"),
        (gaussian(1, 50), "no density exponent: fewer than 8 eigenvalues above rounding"),
        (torch.empty(0, 5), "no weights"),
        (1e160 * gaussian(20, 20).double(), "eigenvalues too large for float64"),
        (7e153 * gaussian(20, 20).double(), "eigenvalues too large for float64"),
        (gaussian(65, 70), "not decomposed: its smaller dimension 65 is above 64"),
        (FEW_LARGE, "no density exponent: fewer than 8 eigenvalues in the tail"),
        (orthogonal(50, 0).float(), "no density exponent: all eigenvalues are equal up to rounding"),
    ],
)
def test_bad_data_is_nan_with_a_note(weight: Tensor, note: str) -> None:
    found = weight_spectrum(weight, max_dim=64)
    assert math.isnan(found.density_exponent)
    assert math.isnan(found.weighted_exponent)
    assert found.note == note


def test_a_row_has_norms() -> None:
    found = weight_spectrum(gaussian(1, 50))
    assert (found.stable_rank, found.rank) == (1, 1)
    assert found.spectral_norm == pytest.approx(float(gaussian(1, 50).norm()))
    assert weight_spectrum(torch.zeros(4, 4)).spectral_norm == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_half_precision_and_less_is_computed_in_float32(dtype: torch.dtype) -> None:
    weight = gaussian(60, 50).to(dtype)
    assert replace(weight_spectrum(weight), matrix="") == replace(weight_spectrum(weight.float()), matrix="")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": torch.ones(3)}, r"needs weights of at least two dimensions, got shape \(3,\)"),
        ({"convolutions": "fft"}, "needs convolutions 'flattened' or 'slices', got 'fft'"),
        ({"min_tail": 1}, "needs min_tail to be an integer of at least 2, got 1"),
        ({"min_tail": 2.5}, "needs min_tail to be an integer of at least 2, got 2.5"),
        ({"max_dim": 0}, "needs max_dim to be None or an integer of at least 1, got 0"),
        ({"max_dim": math.nan}, "needs max_dim to be None or an integer of at least 1, got nan"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weight_spectrum(**{"weight": torch.eye(9), **arguments})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"needs real or complex floating point weights, got torch\.int64"):
        weight_spectrum(torch.ones(3, 3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"weight_spectrum needs a dense tensor, got torch\.sparse_coo"):
        weight_spectrum(torch.eye(9).to_sparse())


@pytest.mark.parametrize("unit", [3e37, 1e-42])
def test_weights_of_any_size(unit: float) -> None:
    weight = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
    found, expected = weight_spectrum(weight * unit), weight_spectrum(weight)
    assert found.spectral_norm == pytest.approx(expected.spectral_norm * unit, rel=0.02)  # denormal numbers are coarse
    assert found.density_exponent == pytest.approx(expected.density_exponent, rel=0.1)


def test_eigenvalues_that_underflow_are_not_called_zeros() -> None:
    weight = torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert weight_spectrum(weight * 1e-200).note == "eigenvalues too small for float64"
    assert weight_spectrum(weight * 0).note == "all weights are zero"


@pytest.mark.parametrize(("size", "note"), [(1e-150, ""), (1e-162, "eigenvalues too small for float64")])
def test_eigenvalues_that_would_lose_digits_have_no_exponent(size: float, note: str) -> None:
    weight = torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, expected = (weight_spectrum(scaled, min_tail=2) for scaled in (weight * size, weight))
    assert found.note == note
    assert found.density_exponent == pytest.approx(math.nan if note else expected.density_exponent, nan_ok=True)
