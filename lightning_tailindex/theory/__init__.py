"""What is known in theory: where a tail index is a number to compute, not one to estimate."""

from __future__ import annotations

from . import least_squares

__all__ = ["least_squares"]
