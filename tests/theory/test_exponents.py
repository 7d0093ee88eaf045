"""What theory says of least squares: published and derived values, closed forms, sampled minibatches."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expi
from scipy.stats import chi2

from lightning_tailindex.theory import least_squares
from lightning_tailindex.theory.least_squares import critical_step_size, lyapunov_exponent, moment, tail_index

# Step sizes at which (dim, batch size) has these tail indices; that of 0 is where the Lyapunov exponent is 0.
STEP_SIZES = {
    (2, 1): {1: 0.65533, 1.5: 0.56795, 2: 0.50000, 3: 0.40127, 0: 0.93709},
    (2, 5): {1: 1.49735, 1.5: 1.36149, 2: 1.25000, 3: 1.07679, 0: 1.89053},
    (5, 5): {1: 1.00312, 1.5: 0.95397, 2: 0.90909, 3: 0.82996, 0: 1.11730},
    (10, 1): {1: 0.17324, 1.5: 0.16994, 2: 0.16667, 3: 0.16012, 0: 0.17989},
    (10, 5): {1: 0.65667, 1.5: 0.64057, 2: 0.62500, 3: 0.59528, 0: 0.69061},
    (10, 10): {1: 1.00065, 1.5: 0.97601, 2: 0.95238, 0: 1.05333},
    (100, 5): {1: 0.09446, 1.5: 0.09440, 2: 0.09434, 3: 0.09422, 0: 0.09458},
}
# Tail indices of one dimension: (step size, batch size) to tail index.
ONE_DIMENSION = {
    (0.4, 1): 3.806,
    (0.5, 1): 2.904,
    (2 / 3, 1): 2.0,
    (0.8, 1): 1.546,
    (1.0, 1): 1.091,
    (1.5, 1): 0.477,
    (1.0, 5): 4.199,
    (1.2, 5): 2.955,
    (1.4286, 5): 2.0,
    (1.6, 5): 1.485,
    (2.0, 5): 0.677,
    (1.5, 10): 2.840,
    (1.8, 10): 1.470,
}
TABLE = [(*key, alpha, step) for key, row in STEP_SIZES.items() for alpha, step in row.items()]


@pytest.mark.parametrize(("dim", "batch_size", "alpha", "step_size"), TABLE)
def test_step_sizes_are_those_of_the_table(dim: int, batch_size: int, alpha: float, step_size: float) -> None:
    critical = critical_step_size(batch_size, dim, tail_index=alpha)
    assert critical == pytest.approx(step_size, abs=0.6e-5)
    if alpha:
        assert tail_index(critical, batch_size, dim) == pytest.approx(alpha, rel=1e-8)
    else:
        assert lyapunov_exponent(critical, batch_size, dim) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("step_size", "batch_size"), ONE_DIMENSION)
def test_tail_indices_of_one_dimension_are_those_of_the_table(step_size: float, batch_size: int) -> None:
    assert tail_index(step_size, batch_size, 1) == pytest.approx(ONE_DIMENSION[step_size, batch_size], abs=0.6e-3)


@pytest.mark.parametrize("dim", [1, 2, 10, 1000, 100000])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_second_moment_is_the_closed_form(dim: int, batch_size: int) -> None:
    critical = critical_step_size(batch_size, dim)
    assert critical == 2 * batch_size / (dim + batch_size + 1)
    assert moment(2, critical, batch_size, dim) == pytest.approx(1, abs=1e-9)
    for share in (0.1, 0.5, 0.9, 1.5):
        c = share * critical / batch_size
        closed = 1 - 2 * c * batch_size + c * c * batch_size * (dim + batch_size + 1)
        assert moment(2, share * critical, batch_size, dim) == pytest.approx(closed, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("step_size", [3e-3, 0.03, 0.5, 1.0, 3.0, 100.0])
def test_exponent_of_exponential_inputs_is_the_exponential_integral(step_size: float) -> None:
    # one dimension, two samples: |1 - cX| with X / 2 ~ Exp(1), and the integral's principal value at its pole
    z = 1 / step_size
    assert lyapunov_exponent(step_size, 2, 1) == pytest.approx(-math.exp(-z) * expi(z), rel=1e-10)


def integral(f: Callable[[float], float], *cuts: float) -> float:
    return sum(quad(f, low, high, epsabs=1e-13, epsrel=1e-11, limit=200)[0] for low, high in pairwise(cuts))


@pytest.mark.parametrize("step_size", [0.01, 0.3, 0.9370873719202789, 1.5, 20.0])
def test_exponent_of_single_samples_in_the_plane_is_an_integral_of_one_variable(step_size: float) -> None:
    # the mean of log(1 - B (1 - r²)) over the angle is 2 log((1 + r) / 2), with r = |1 - cT| and T / 2 ~ Exp(1)
    def density(t: float) -> float:
        return math.log((1 + abs(1 - step_size * t)) / 2) * math.exp(-t / 2) / 2

    expected = integral(density, 0, 1 / step_size, 1 / step_size + 1, 60, math.inf if step_size > 0.1 else 200)
    assert lyapunov_exponent(step_size, 1, 2) == pytest.approx(expected, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
@pytest.mark.parametrize("step_size", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("order", [0.1, 0.5, 1.0, 3.3, 12.0])
def test_moments_of_one_dimension_equal_adaptive_quadrature(batch_size: int, step_size: float, order: float) -> None:
    c = step_size / batch_size

    def root_stretched(r: float) -> float:  # X = r², which has no pole at 0
        return float(abs(1 - c * r * r) ** order * 2 * r * chi2.pdf(r * r, batch_size)) if r else 0.0

    expected = integral(root_stretched, 0, c**-0.5, c**-0.5 + 2, 20)
    assert moment(order, step_size, batch_size, 1) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("step_size", "batch_size", "dim", "order"),
    [(0.9, 1, 1, 0.3), (2.5, 4, 1, 3.0), (0.7, 1, 2, 0.3), (1.2, 3, 2, 1.5), (0.8, 2, 5, 1.0), (0.4, 5, 20, 4.0)],
)
def test_quadrature_equals_sampled_minibatches(step_size: float, batch_size: int, dim: int, order: float) -> None:
    num_draws, scale = 200_000, 1.3
    rng = torch.Generator().manual_seed(dim)
    a = scale * torch.randn(num_draws, batch_size, dim, generator=rng, dtype=torch.float64)
    stretched = torch.eye(dim, dtype=a.dtype)[0] - step_size / batch_size * (a.mT @ a[..., :1])[..., 0]
    norm = stretched.norm(dim=1)
    exponent = lyapunov_exponent(step_size, batch_size, dim, scale)
    for values, expected in ((norm.log(), exponent), (norm**order, moment(order, step_size, batch_size, dim, scale))):
        standard_error = float(values.std()) / num_draws**0.5
        assert abs(float(values.mean()) - expected) < 4 * standard_error
        assert standard_error < 0.01 * max(1, expected)  # the control: the comparison is a sharp one


def falls(values: list[float]) -> bool:
    return all(later < earlier for earlier, later in pairwise(values))


@pytest.mark.uncounted
@pytest.mark.parametrize(("dim", "batch_size"), [(1, 1), (2, 1), (2, 5), (5, 3)])
def test_tail_index_falls_with_step_size_scale_and_dimension_and_rises_with_batch_size(
    dim: int, batch_size: int
) -> None:
    step = critical_step_size(batch_size, dim)
    assert falls([tail_index(share * step, batch_size, dim) for share in (0.4, 0.6, 0.8, 1.0, 1.1)])
    assert falls([tail_index(0.5 * step, batch_size, dim, scale) for scale in (0.8, 1.0, 1.2, 1.45)])
    assert falls([tail_index(0.5 * step, batch_size, each) for each in (dim, dim + 1, dim + 2)])
    assert falls([-tail_index(0.8 * step, each, dim) for each in (batch_size, batch_size + 1, batch_size + 5)])


def test_scale_enters_by_its_square_times_the_step_size() -> None:
    for function in (tail_index, lyapunov_exponent):
        assert function(0.3, 5, 3, 1.7) == pytest.approx(function(0.3 * 1.7**2, 5, 3), rel=1e-12)
        assert function(0.3, 5, 3, 1.7) != pytest.approx(function(0.3, 5, 3), rel=0.1)
    assert moment(1.5, 0.3, 5, 3, 1.7) == pytest.approx(moment(1.5, 0.3 * 1.7**2, 5, 3), rel=1e-12)
    for alpha in (0.0, 1.5, 2.0):
        one = critical_step_size(5, 3, tail_index=alpha)
        assert critical_step_size(5, 3, 1.7, tail_index=alpha) == pytest.approx(one / 1.7**2, rel=1e-12)


@pytest.mark.parametrize(("dim", "batch_size"), [(1, 1), (2, 5), (10, 1), (100, 5)])
def test_there_is_no_tail_index_from_the_last_step_size_on(dim: int, batch_size: int) -> None:
    last = critical_step_size(batch_size, dim, tail_index=0)
    assert math.isnan(tail_index(last * (1 + 1e-6), batch_size, dim))
    assert math.isnan(tail_index(2 * last, batch_size, dim))
    assert 0 < tail_index(last * (1 - 1e-6), batch_size, dim) < 0.05


def test_moment_starts_at_one_falls_by_the_exponent_and_is_one_again_at_the_tail_index() -> None:
    assert moment(0, 0.6, 1, 2) == pytest.approx(1, abs=1e-12)
    assert (moment(1e-5, 0.6, 1, 2) - 1) / 1e-5 == pytest.approx(lyapunov_exponent(0.6, 1, 2), rel=1e-3)
    alpha = tail_index(0.6, 1, 2)
    assert moment(alpha, 0.6, 1, 2) == pytest.approx(1, abs=1e-10)
    assert moment(alpha / 2, 0.6, 1, 2) < 0.99
    assert moment(alpha * 1.5, 0.6, 1, 2) > 1.01


@pytest.mark.parametrize(
    ("dim", "batch_size", "alpha"),
    [(1, 1, 50.0), (10, 5, 50.0), (5, 5, 90.0), (1000, 1000, 50.0), (1000, 1, 20.0), (1, 1000, 50.0)],
)
def test_large_tail_indices_dimensions_and_batch_sizes(dim: int, batch_size: int, alpha: float) -> None:
    step_size = critical_step_size(batch_size, dim, tail_index=alpha)
    assert 0 < step_size < critical_step_size(batch_size, dim)
    assert tail_index(step_size, batch_size, dim) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize("step_size", [1e-6, 1e-12, 1e-30, 1e-200])
@pytest.mark.parametrize(("dim", "batch_size"), [(1, 1), (2, 1), (5, 5), (100, 5)])
def test_tiny_steps_shrink_distances_and_are_not_taken_for_those_without_a_law(
    step_size: float, dim: int, batch_size: int
) -> None:
    assert lyapunov_exponent(step_size, batch_size, dim) == pytest.approx(-step_size, rel=1e-3)
    with pytest.raises(ValueError, match="tail_index computes tail indices up to 100"):
        tail_index(step_size, batch_size, dim)


def test_moments_beyond_the_range_of_floats_are_infinite() -> None:
    assert moment(100, 1e6, 1, 1) == math.inf
    assert math.isfinite(moment(10, 1e6, 1, 1))
    assert lyapunov_exponent(1e9, 3, 4) == pytest.approx(math.log(1e9) + lyapunov_exponent(1e12, 3, 4) - math.log(1e12))


@pytest.mark.parametrize("kind", [np.float32, torch.tensor])
def test_numbers_in_single_precision_give_results_in_double(kind: Callable[[float], Any]) -> None:
    for function, arguments in ((critical_step_size, (5, 100, 3.0, 1.5)), (moment, (1.5, 0.5, 5, 100, 0.125))):
        found = function(*(kind(each) if isinstance(each, float) else each for each in arguments))
        assert (type(found), found) == (float, function(*arguments))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("tail_index", (0.0, 1, 2), "tail_index needs a finite step_size > 0, got 0.0."),
        ("tail_index", (math.nan, 1, 2), "tail_index needs a finite step_size > 0, got nan."),
        ("tail_index", (0.5, 0, 2), "tail_index needs a whole number batch_size >= 1, got 0."),
        ("tail_index", (0.5, 1, 2.5), "tail_index needs a whole number dim >= 1, got 2.5."),
        ("tail_index", (0.5, 1, 2, -1.0), "tail_index needs a finite scale > 0, got -1.0."),
        ("tail_index", (1e-3, 1, 2), "tail_index computes tail indices up to 100, got step_size=0.001, where it is"),
        (
            "tail_index",
            (0.5, 1, 2, 1e200),
            "least_squares needs step_size * scale^2 in the range of floats, got 0.5 * 1e+",
        ),
        ("lyapunov_exponent", (math.inf, 1, 2), "lyapunov_exponent needs a finite step_size > 0, got inf."),
        ("moment", (-0.5, 0.5, 1, 2), "moment needs 0 <= order <= 100, got -0.5."),
        ("moment", (101, 0.5, 1, 2), "moment needs 0 <= order <= 100, got 101."),
        ("moment", (1.0, 0.5, 1, 0), "moment needs a whole number dim >= 1, got 0."),
        ("critical_step_size", (0, 2), "critical_step_size needs a whole number batch_size >= 1, got 0."),
        ("critical_step_size", (1, 2, 0.0), "critical_step_size needs a finite scale > 0, got 0.0."),
        ("critical_step_size", (1, 2, 1e200), "needs 1 / scale^2 in the range of floats, got scale=1e+200."),
        ("critical_step_size", (1, 2, 1e-200), "needs 1 / scale^2 in the range of floats, got scale=1e-200."),
        ("critical_step_size", (1, 2, 1.0, -1), "critical_step_size needs 0 <= tail_index <= 100, got -1."),
        ("critical_step_size", (1, 2, 1.0, math.nan), "critical_step_size needs 0 <= tail_index <= 100, got nan."),
    ],
)
def test_bad_arguments_are_named(function: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(least_squares, function)(*arguments)
