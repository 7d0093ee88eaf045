"""What a measurement says of the curvature of the training loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["SharpnessReport"]


@dataclass(frozen=True)
class SharpnessReport:
    """The Hessian of the training loss at one step, on minibatches that are the same at every step.

    Attributes:
        step: Optimizer steps taken before it.
        eigenvalues: The algebraically largest eigenvalues that converged, the largest first, in the unit of the loss
            over that of the parameters squared; NaN behind them for those that did not.
        residuals: Norm of Hv − λv over that of λv for each of them: how far it is from an eigenvalue, relative to it.
        trace: Hutchinson's estimate of the trace; NaN where none was asked for.
        trace_error: Its standard error over the random vectors.
        loss: The loss whose Hessian it is.
        trace_samples: Random vectors behind the trace, 0 where none was asked for.
        step_sizes: Step size of each parameter group of the optimizers, in the next step.
        stability_limit: What step size times largest eigenvalue must stay below for gradient descent on a quadratic
            not to diverge; NaN for optimizers for which there is no such number.
        num_parameters: Coordinates of the measured parameters.
        num_minibatches: Minibatches that the loss is the mean over.
        minibatch_size: Samples in the first of them over all processes; 0 where nobody knows.
        num_products: Products of the Hessian with a vector that were computed.
        seconds: Wall time that measuring took.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
    """

    step: int
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    trace: float
    trace_error: float
    loss: float
    trace_samples: int
    step_sizes: tuple[float, ...]
    stability_limit: float
    num_parameters: int
    num_minibatches: int
    minibatch_size: int
    num_products: int
    seconds: float
    note: str = ""

    @property
    def largest_eigenvalue(self) -> float:
        """The sharpness."""
        return self.eigenvalues[0]

    @property
    def has_trace(self) -> bool:
        """Whether the trace was asked for."""
        return self.trace_samples > 0

    @property
    def step_size_times_eigenvalue(self) -> float:
        """The largest step size times the largest eigenvalue."""
        return max(self.step_sizes, default=math.nan) * self.largest_eigenvalue
