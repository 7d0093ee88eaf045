"""What every function asks of the training that it is about."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral

from ._contraction import LARGEST_CENTRED, Contraction

LARGEST_ORDER = 100.0


def checked_positive(function: str, **values: float) -> None:
    """Raises unless every value is finite and above 0."""
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{function} needs a finite {name} > 0, got {value}.")


def checked_count(function: str, **values: int) -> None:
    """Raises unless every value is a whole number of 1 or more."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{function} needs a whole number {name} >= 1, got {value}.")


def checked_training(function: str, step_size: float, batch_size: int, dim: int, scale: float) -> None:
    """Raises unless there is such a training."""
    checked_positive(function, step_size=step_size, scale=scale)
    checked_count(function, batch_size=batch_size, dim=dim)


def checked_order(function: str, **values: float) -> None:
    """Raises unless every value lies in the range of orders that the quadrature is made for."""
    for name, value in values.items():
        if not 0 <= value <= LARGEST_ORDER:
            raise ValueError(f"{function} needs 0 <= {name} <= {LARGEST_ORDER:g}, got {value}.")


def contraction(step_size: float, batch_size: int, dim: int, scale: float, order: float) -> Contraction:
    """Returns the contraction of one step, with nodes for moments up to ``order``."""
    c = float(step_size) * float(scale) * float(scale) / int(batch_size)
    if not 0 < c < math.inf:
        raise ValueError(
            f"least_squares needs step_size * scale^2 in the range of floats, got {step_size} * {scale}^2."
        )
    b, size = int(batch_size), int(dim) + int(batch_size) + 1
    excess = c * size / 2 - 1
    if excess < LARGEST_CENTRED:  # exactly, for the rounding of c may be larger than all that there is of it
        exact = Fraction(float(step_size)) * Fraction(float(scale)) ** 2 * size / (2 * b)
        excess = float(exact - 1)
    return Contraction(c, excess, b, int(dim), float(order))
