"""The law of the contraction ‖M e₁‖ by quadrature, in logarithms throughout.

With c = step size * scale² / batch size, X ~ χ²_b and Y ~ χ²_{d-1}, ‖M e₁‖² = (1 - cX)² + c² X Y. The sum T = X + Y
~ χ²_{b+d-1} is independent of the share B = X / T ~ Beta(b/2, (d-1)/2), and ‖M e₁‖² = 1 - B + B (1 - cT)². It vanishes
at B = 1, T = 1/c alone, where moments have a kink and the logarithm a pole. So T is cut at 1/c, and either piece and B
are stretched by logarithms of the distances to their ends: what remains is analytic in a strip around the real line
and decays at both ends, where the trapezoidal rule converges exponentially.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

# What lies this far below the largest log-weight is left out.
_NEGLIGIBLE = 50.0
# The step of the rule: its error is exp(-π²/step) by the width of the strip, and less where the step is a part of the
# width of the integrand, 1 / sqrt(curvature).
_STEP = 0.3
_STEP_IN_WIDTHS = 0.6
_WIDTHS = 20.0  # how many of its own widths an integrand may reach on either side
_NEAR_ONE = 0.3  # |log| of a gap
_LARGEST_EXPONENT = 700.0  # of which a float holds the exponential


@dataclass(frozen=True)
class Contraction:
    """Nodes of the law of log ‖M e₁‖ that are good for its moments of orders 0 to ``order``."""

    c: float
    batch_size: int
    dim: int
    order: float

    def mean_log(self) -> float:
        """Returns E log ‖M e₁‖."""
        log_norm, log_weight = self._rule
        return float((np.exp(log_weight) * log_norm).sum())

    def log_moment(self, order: float) -> float:
        """Returns log E ‖M e₁‖^order."""
        log_norm, log_weight = self._rule
        exponent = order * log_norm
        if exponent.max() < _LARGEST_EXPONENT:
            excess = float((np.exp(log_weight) * np.expm1(exponent)).sum())
            if excess > -0.5:
                return math.log1p(excess)  # keeps its sign and digits where steps are tiny
        return _log_sum_exp(log_weight + exponent)

    @cached_property
    def _rule(self) -> tuple[_Floats, _Floats]:
        """The values of log ‖M e₁‖ and the logarithms of their weights, which sum to 1."""
        log_gap, log_weight = self._sums()
        if self.dim > 1:
            log_share, log_rest, log_share_weight = self._shares()
            log_norm = np.logaddexp(log_rest[:, None], log_share[:, None] + 2 * log_gap) / 2
            near_one = abs(log_gap) < _NEAR_ONE  # the same without cancellation, for tiny steps
            log_norm[:, near_one] = np.log1p(np.exp(log_share[:, None]) * np.expm1(2 * log_gap[near_one])) / 2
            log_weight = log_share_weight[:, None] + log_weight
        else:
            log_norm = log_gap
        return log_norm, log_weight - _log_sum_exp(log_weight)

    def _sums(self) -> tuple[_Floats, _Floats]:
        """Log |1 - cT| and the log-weights at the nodes of T, below 1/c and above."""
        freedom = self.batch_size + self.dim - 1
        raised = freedom + 2 * self.order  # the factor |cT|^order raises the degrees of freedom
        log_c, log_freedom = math.log(self.c), math.log(freedom)
        lowest = log_freedom - math.log1p(2 * self.order * self.c) - _reach(freedom)
        highest = math.log(raised) + math.log1p(_reach(raised))
        step = _step(freedom / 2 + self.order)
        # below: cT = 1 / (1 + exp(-u))
        u = np.arange(log_c + lowest, min(_logit(log_c + highest), _NEGLIGIBLE), step)
        log_t, log_gap = -np.logaddexp(0, -u) - log_c, -np.logaddexp(0, u)
        below = log_gap, log_t, log_t + log_gap
        # above: cT = 1 + exp(v)
        v = np.arange(-_NEGLIGIBLE, log_c + highest, step)
        above = v, np.logaddexp(0, v) - log_c, v - log_c
        log_gap, log_t, log_slope = (np.concatenate(pair) for pair in zip(below, above, strict=True))
        shifted = log_t - log_freedom  # around zero, so that large degrees of freedom lose no digits
        log_weight = freedom / 2 * (shifted - np.exp(shifted) + 1) + log_slope - log_t
        kept = _significant(log_weight, log_weight + self.order * log_gap)
        return log_gap[kept], log_weight[kept]

    def _shares(self) -> tuple[_Floats, _Floats, _Floats]:
        """Log B, log(1 - B) and the log-weights at the nodes of B = 1 / (1 + exp(-u))."""
        taken, left = self.batch_size, self.dim - 1
        lowest = math.log(taken / (left + self.order)) - _reach(taken) - _reach(left + self.order)
        highest = math.log((taken + self.order) / left) + _reach(left) + _reach(taken + self.order)
        u = np.arange(lowest, highest, _step((min(taken, left) + self.order) / 2))
        log_share, log_rest = -np.logaddexp(0, -u), -np.logaddexp(0, u)
        centre = taken / (taken + left), left / (taken + left)
        log_weight = (taken * (log_share - math.log(centre[0])) + left * (log_rest - math.log(centre[1]))) / 2
        tilts = (log_weight + self.order / 2 * tilt for tilt in (log_share, log_rest))
        kept = _significant(log_weight, *tilts)
        return log_share[kept], log_rest[kept], log_weight[kept]


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
