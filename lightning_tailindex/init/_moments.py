"""Fractional moments of the sum of squares that a layer of Gaussian weights puts out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import gammainc, rgamma, roots_legendre

__all__ = ["Unit", "relative_moment"]

_STEP = 0.2  # of the trapezoidal rule in log t; its error is about exp(-pi**2 / step), 1e-21
_NODES, _WEIGHTS = (tuple(map(float, values)) for values in roots_legendre(16))
_FLAT = 0.1  # below this, 16 nodes average over slopes to rounding
_FAR = 30.0  # exp(-t) is below 1e-13 of what counts from here on


@dataclass(frozen=True)
class Unit:
    """One output of a layer: a standard Gaussian, times a random slope where it is negative, then dropout.

    Attributes:
        lower: Smallest slope.
        upper: Largest slope, of the same sign; the slope is uniform between both.
        keep_prob: Probability to be kept and divided by that probability.
    """

    lower: float
    upper: float
    keep_prob: float

    @property
    def second_moment(self) -> float:
        """Mean of the square."""
        squared_slope = (self.lower**2 + self.lower * self.upper + self.upper**2) / 3
        if self.lower == self.upper:
            squared_slope = self.upper**2  # to the last digit
        return (1 + squared_slope) / 2 / self.keep_prob

    @property
    def zero_prob(self) -> float:
        """Probability to be exactly 0."""
        return 1 - self.keep_prob * (0.5 if self.upper == 0 else 1.0)

    def transform(self, t: float) -> float:
        """Laplace transform of the square, at t of any size."""
        scaled = 2 * t / self.keep_prob**2
        kept = (1 / math.sqrt(1 + scaled) + self._averaged(scaled)) / 2
        return 1 - self.keep_prob + self.keep_prob * kept

    def log_transform(self, t: float) -> float:
        """Its logarithm, to a relative precision where t is small; not for t so large that 1 is lost beside it."""
        scaled = 2 * t / self.keep_prob**2
        if self.upper**2 * scaled < _FLAT:
            middle, half = (self.upper + self.lower) / 2, (self.upper - self.lower) / 2
            slopes = (middle + half * node for node in _NODES)
            negative = math.fsum(w / 2 * _below_one(a * a * scaled) for w, a in zip(_WEIGHTS, slopes, strict=True))
        else:
            negative = self._averaged(scaled) - 1
        return math.log1p(self.keep_prob * (_below_one(scaled) + negative) / 2)

    def _averaged(self, scaled: float) -> float:
        """Mean of (1 + a^2 scaled)^(-1/2) over the slopes a."""
        root = math.sqrt(scaled)
        low, high = self.lower * root, self.upper * root
        if high == low:
            return 1 / math.hypot(1, low)
        # asinh(high) - asinh(low), without the cancellation of neighbours
        ratio = (high + low) / (high * math.hypot(1, low) + low * math.hypot(1, high))
        return math.asinh((high - low) * ratio) / (high - low)


def _below_one(scaled: float) -> float:
    """(1 + scaled)^(-1/2) - 1."""
    return math.expm1(-math.log1p(scaled) / 2)


@lru_cache(maxsize=1024)
def relative_moment(unit: Unit, width: int, p: float) -> float:
    r"""Computes how far :math:`E (S / E S)^p` is from 1, S the sum of the squares of independent units.

    With L the Laplace transform of S / E S and P = L(infinity) the probability that all units are 0,

    .. math::
        E (S / E S)^p - 1 = -(1 - p) P
        + \frac{p}{\Gamma(1 - p)} \int_0^\infty [e^{-t} - L(t) + P (1 - (1 + t) e^{-t})] \, t^{-p - 1} dt .

    The bracket is of order t^2 at 0 and vanishes at infinity, so that the integral exists for p in (0, 1] and its
    cost does not grow with the width. At p = 1 the right side is exactly 0.

    Args:
        unit: What each of them is.
        width: How many there are.
        p: Order of the moment, in (0, 1].

    Returns:
        The difference, above -1.
    """
    zero = unit.zero_prob**width
    # Where the transform settles: the smallest and the largest slope differ in scale, and units may be rare.
    spread = 2 * abs(math.log(abs(unit.upper))) if unit.upper else 0.0
    first = -45 + math.log(unit.keep_prob)
    count = int((125 + spread + math.log(width)) / _STEP)
    steps = (math.exp(first + _STEP * i) for i in range(count))
    integral = _STEP * math.fsum(_bracket(unit, width, zero, t) * t**-p for t in steps)
    return -(1 - p) * zero + p * float(rgamma(1 - p)) * integral


def _bracket(unit: Unit, width: int, zero: float, t: float) -> float:
    small = t / (width * unit.second_moment)
    if t < _FAR:
        difference = -math.exp(-t) * math.expm1(t + width * unit.log_transform(small))
    else:
        difference = math.exp(-t) - unit.transform(small) ** width
    return difference + zero * float(gammainc(2, t))
