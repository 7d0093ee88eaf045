"""The law of the contraction ‖M e₁‖ by quadrature, in logarithms throughout.

With c = step size * scale² / batch size, X ~ χ²_b and Y ~ χ²_{d-1}, ‖M e₁‖² = (1 - cX)² + c² X Y. The sum T = X + Y
~ χ²_{b+d-1} is independent of the share B = X / T ~ Beta(b/2, (d-1)/2), and ‖M e₁‖² = 1 - B + B (1 - cT)². It vanishes
at B = 1, T = 1/c alone, where moments have a kink and the logarithm a pole. So T is cut at 1/c, and either piece and B
are stretched by logarithms of the distances to their ends: what remains is analytic in a strip around the real line
and decays at both ends, where the trapezoidal rule converges exponentially.

Where d or b is large, Δ = ‖M e₁‖² - 1 is small, of either sign, and its mean nearly zero at the step sizes of interest:
far below what sums of rounded numbers of the size of Δ resolve. But that mean is known, E Δ = b c (c (d + b + 1) - 2),
and its bracket can be had from the arguments without rounding. So the rule sums no more than what functions of ‖M e₁‖²
differ by from their tangents at 1, which is of the size of Δ².
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

LARGEST_CENTRED = 1.0  # the excess from which on E Δ is no small number

# What lies this far below the largest log-weight is left out.
_NEGLIGIBLE = 50.0
# The step of the rule: its error is exp(-π²/step) by the width of the strip, and less where the step is a part of the
# width of the integrand, 1 / sqrt(curvature).
_STEP = 0.3
_STEP_IN_WIDTHS = 0.6
_WIDTHS = 20.0  # how many of its own widths an integrand may reach on either side
_NEAR_ONE = 0.5  # |Δ|
_NEAR_TANGENT = 0.01  # |Δ| times the power, up to which the series of _departure has all digits
_TANGENT_TERMS = 9
_LOWEST_ORDER = 4.0  # that of Δ², which is summed for every order
_LARGEST_EXPONENT = 700.0  # of which a float holds the exponential


@dataclass(frozen=True)
class Contraction:
    """Nodes of the law of log ‖M e₁‖ that are good for its moments of orders 0 to ``order``.

    ``excess`` is c (d + b + 1) / 2 - 1, by how much the step size exceeds that of the tail index 2, in parts of it.
    """

    c: float
    excess: float
    batch_size: int
    dim: int
    order: float

    def rate(self, order: float) -> float:
        """Returns log E ‖M e₁‖^order / order; at order 0 its limit, E log ‖M e₁‖."""
        _, log_square, log_weight = self._rule
        power = order / 2
        if power * log_square.max() < _LARGEST_EXPONENT:
            growth = self._growth(power)
            if power * growth > -0.5:
                return math.log1p(power * growth) / order if order else growth / 2
        return _log_sum_exp(log_weight + power * log_square) / order

    def _growth(self, power: float) -> float:
        """(E ‖M e₁‖^(2 power) - 1) / power; at power 0 its limit, E log ‖M e₁‖²."""
        delta, log_square, log_weight = self._rule
        growth = np.expm1(power * log_square) / power if power else log_square
        if self.excess >= LARGEST_CENTRED:
            return float((np.exp(log_weight) * growth).sum())
        near = abs(delta) * (1 + power) < _NEAR_TANGENT
        departure = growth - delta
        departure[near] = _departure(delta[near], power)
        mean = 2 * self.batch_size * self.c * self.excess
        return float((np.exp(log_weight) * departure).sum()) + mean

    @cached_property
    def _rule(self) -> tuple[_Floats, _Floats, _Floats]:
        """The values of Δ and log(1 + Δ), and the logarithms of their weights, which sum to 1."""
        log_gap, log_weight = self._sums()
        log_share, log_rest, log_share_weight = (each[:, None] for each in self._shares())
        delta = np.exp(log_share) * np.expm1(np.minimum(2 * log_gap, _LARGEST_EXPONENT))
        near = abs(delta) < _NEAR_ONE
        log_square = np.logaddexp(log_rest, log_share + 2 * log_gap)
        log_square[near] = np.log1p(delta[near])  # without cancellation
        log_weight = log_share_weight + log_weight
        return delta, log_square, log_weight - _log_sum_exp(log_weight)

    def _sums(self) -> tuple[_Floats, _Floats]:
        """Log |1 - cT| and the log-weights at the nodes of T, below 1/c and above."""
        freedom = self.batch_size + self.dim - 1
        order = max(self.order, _LOWEST_ORDER)
        raised = freedom + 2 * order  # the factor |cT|^order raises the degrees of freedom
        log_c, log_freedom = math.log(self.c), math.log(freedom)
        lowest = log_freedom - math.log1p(2 * order * self.c) - _reach(freedom)
        highest = math.log(raised) + math.log1p(_reach(raised))
        low, high = log_c + lowest, log_c + highest

        def step(slope: float) -> float:  # which is largest at the end of a piece, and may be tiny near 1/c
            return _step(freedom / 2 * slope**2 + order)

        # below: cT = 1 / (1 + exp(-u))
        first, last = (min(_logit(end), _NEGLIGIBLE) for end in (low, high))
        fine = step(-math.expm1(min(low, 0.0)))
        u = np.arange(first, last, fine)
        log_t, log_gap = -np.logaddexp(0, -u) - log_c, -np.logaddexp(0, u)
        below = log_gap, log_t, log_t + log_gap + math.log(fine)
        # above: cT = 1 + exp(v)
        first, last = (max(-_logit(-end), -_NEGLIGIBLE) for end in (low, high))
        fine = step(-math.expm1(min(-high, 0.0)))
        v = np.arange(first, last, fine)
        above = v, np.logaddexp(0, v) - log_c, v - log_c + math.log(fine)
        log_gap, log_t, log_slope = (np.concatenate(pair) for pair in zip(below, above, strict=True))
        shifted = log_t - log_freedom  # around zero, so that large degrees of freedom lose no digits
        log_weight = freedom / 2 * (shifted - np.expm1(shifted)) + log_slope - log_t
        kept = _significant(log_weight, log_weight + order * log_gap)
        return log_gap[kept], log_weight[kept]

    def _shares(self) -> tuple[_Floats, _Floats, _Floats]:
        """Log B, log(1 - B) and the log-weights at the nodes of B = 1 / (1 + exp(-u))."""
        taken, left = self.batch_size, self.dim - 1
        order = max(self.order, _LOWEST_ORDER)
        if not left:
            return np.zeros(1), np.full(1, -math.inf), np.zeros(1)
        lowest = math.log(taken / (left + order)) - _reach(taken) - _reach(left + order)
        highest = math.log((taken + order) / left) + _reach(left) + _reach(taken + order)
        u = np.arange(lowest, highest, _step((min(taken, left) + order) / 2))
        log_share, log_rest = -np.logaddexp(0, -u), -np.logaddexp(0, u)
        centre = taken / (taken + left), left / (taken + left)
        log_weight = (taken * (log_share - math.log(centre[0])) + left * (log_rest - math.log(centre[1]))) / 2
        tilts = (log_weight + order / 2 * tilt for tilt in (log_share, log_rest))
        kept = _significant(log_weight, *tilts)
        return log_share[kept], log_rest[kept], log_weight[kept]


def _departure(delta: _Floats, power: float) -> _Floats:
    """((1 + Δ)^power - 1) / power - Δ for small Δ, at power 0 log(1 + Δ) - Δ: the binomial series without its head."""
    term, total = delta, np.zeros_like(delta)
    for k in range(1, _TANGENT_TERMS):
        term = term * delta * ((power - k) / (k + 1))
        total += term
    return total


def _step(curvature: float) -> float:
    return min(_STEP, _STEP_IN_WIDTHS / math.sqrt(1 + curvature))


def _reach(freedom: float) -> float:
    """How far log χ² reaches to either side of log(freedom), with room to spare."""
    return 2.4 * _NEGLIGIBLE / freedom + _WIDTHS / math.sqrt(freedom)


def _logit(log_p: float) -> float:
    return log_p - math.log(-math.expm1(log_p)) if log_p < 0 else math.inf


def _significant(*log_weights: _Floats) -> slice:
    """From the first to the last node that counts by any of the weights."""
    places = np.concatenate([np.flatnonzero(each > each.max() - _NEGLIGIBLE) for each in log_weights])
    return slice(int(places.min()), int(places.max()) + 1)


def _log_sum_exp(x: _Floats) -> float:
    largest = x.max()
    return float(largest + np.log(np.exp(x - largest).sum()))
