"""SGD on linear least squares with Gaussian inputs, the one training whose iterates' tail index is known."""

from __future__ import annotations

from .exponents import critical_step_size, lyapunov_exponent, moment, tail_index
from .simulation import simulate

__all__ = ["critical_step_size", "lyapunov_exponent", "moment", "simulate", "tail_index"]
