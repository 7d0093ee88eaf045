"""What theory says of least squares where dimensions or minibatches are large: against moments of exact arithmetic."""

from __future__ import annotations

import math
import sys
import tracemalloc
from fractions import Fraction
from math import comb

import pytest
from scipy.optimize import brentq

from lightning_tailindex.theory.least_squares import critical_step_size, lyapunov_exponent, moment, tail_index

LARGE = [(dim, batch_size) for dim in (10**4, 10**5, 10**6, 10**7) for batch_size in (1, 5, 32, 1000)]
LARGE += [(1, 10**6), (2, 10**8), (10**6, 10**6)]
SCALE = 1.3


def exact_moments(step_size: float, batch_size: int, dim: int, num_moments: int = 12) -> list[Fraction]:
    """E Δ^k, k = 1, 2 ..., of Δ = ‖M e₁‖² - 1 = B cT (cT - 2), with T ~ χ²_n and B ~ Beta(b/2, (n-b)/2), n = b+d-1."""
    n, c = batch_size + dim - 1, Fraction(step_size) * Fraction(SCALE) ** 2 / batch_size
    of_total, of_share = [Fraction(1)], [Fraction(1)]
    for k in range(2 * num_moments):
        of_total.append(of_total[-1] * (n + 2 * k) * c)
        of_share.append(of_share[-1] * Fraction(batch_size + 2 * k, n + 2 * k))
    return [
        of_share[k] * sum(comb(k, i) * (-2) ** (k - i) * of_total[k + i] for i in range(k + 1))
        for k in range(1, num_moments + 1)
    ]


def exact_growth(moments: list[Fraction], power: float) -> float:
    """(E (1 + Δ)^power - 1) / power, at 0 E log(1 + Δ), in units of E Δ²: a series, as Δ is small."""
    total, coefficient = 0.0, 1.0
    for k, each in enumerate(moments, 1):
        total += coefficient * float(each / moments[1])
        coefficient *= (power - k) / (k + 1)
    return total


def by_rounding(dim: int, batch_size: int) -> float:
    """About what the tail index changes by where the step size is rounded."""
    return sys.float_info.epsilon * (batch_size + dim) ** 2 / (2 * (batch_size + 2))


@pytest.mark.parametrize(("dim", "batch_size"), LARGE)
@pytest.mark.parametrize("alpha", [0.5, 1.5, 2.0, 3.0, 10.0])
def test_tail_index_and_exponent_are_those_of_exact_moments(dim: int, batch_size: int, alpha: float) -> None:
    step_size = critical_step_size(batch_size, dim, SCALE, alpha)
    moments = exact_moments(step_size, batch_size, dim)
    exponent = exact_growth(moments, 0.0) * float(moments[1]) / 2
    size = float(moments[1]) / 4  # that of the exponent at the tail index 2
    assert lyapunov_exponent(step_size, batch_size, dim, SCALE) == pytest.approx(exponent, rel=0, abs=3e-11 * size)
    true = 2 * brentq(lambda power: exact_growth(moments, power), 0.01, 8.0, xtol=1e-15)
    assert tail_index(step_size, batch_size, dim, SCALE) == pytest.approx(true, abs=3e-11)
    assert true == pytest.approx(alpha, abs=1e-10 + 4 * by_rounding(dim, batch_size))


@pytest.mark.parametrize(("dim", "batch_size"), LARGE)
def test_tail_index_is_two_at_its_closed_step_size(dim: int, batch_size: int) -> None:
    step_size = 2 * batch_size / (dim + batch_size + 1)
    within = 1e-10 + 2 * by_rounding(dim, batch_size)
    assert tail_index(step_size, batch_size, dim) == pytest.approx(2, abs=within)
    width = (batch_size + 2) / (dim + batch_size) ** 2  # the control: a change of the step size that is to be seen
    assert tail_index(step_size * (1 + width), batch_size, dim) == pytest.approx(1.5, abs=0.05 + within)


@pytest.mark.parametrize(("dim", "batch_size"), LARGE)
def test_exponent_vanishes_at_the_last_step_size(dim: int, batch_size: int) -> None:
    last = critical_step_size(batch_size, dim, SCALE, 0.0)
    moments = exact_moments(last, batch_size, dim)
    assert abs(exact_growth(moments, 0.0)) < 1e-10 + 2 * by_rounding(dim, batch_size)
    assert math.isnan(tail_index(last * (1 + 1e-3), batch_size, dim, SCALE))


@pytest.mark.parametrize(("dim", "batch_size"), LARGE)
@pytest.mark.parametrize("share", [0.9, 1.0, 1.1])
def test_moments_of_orders_two_and_four_are_exact(dim: int, batch_size: int, share: float) -> None:
    step_size = share * critical_step_size(batch_size, dim, SCALE)
    first, second, *_ = exact_moments(step_size, batch_size, dim, 2)
    for order, exact in ((2, 1 + first), (4, 1 + 2 * first + second)):
        assert moment(order, step_size, batch_size, dim, SCALE) == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.1, 1.9])
def test_exponents_of_other_step_sizes_are_those_of_exact_moments(batch_size: int, share: float) -> None:
    dim = 10**6
    step_size = share * critical_step_size(batch_size, dim, SCALE)
    moments = exact_moments(step_size, batch_size, dim)
    exponent = exact_growth(moments, 0.0) * float(moments[1]) / 2
    assert lyapunov_exponent(step_size, batch_size, dim, SCALE) == pytest.approx(exponent, rel=1e-11)


def peak_memory(dim: int, batch_size: int, share: float) -> int:
    """What the exponent takes at a share of the critical step size, in bytes."""
    step_size = share * critical_step_size(batch_size, dim)
    tracemalloc.start()
    try:
        lyapunov_exponent(step_size, batch_size, dim)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", [0.5, 0.6, 1.0])
def test_memory_does_not_grow_with_the_dimension(share: float) -> None:
    assert peak_memory(10**7, 3, share) < 2 * peak_memory(10**3, 3, share)
