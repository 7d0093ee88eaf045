"""What following the weights says of when they leave, and of how they jump."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["FirstExit", "FirstExitReport"]


@dataclass(frozen=True)
class FirstExit:
    """When the weights were first farther from the reference than a radius.

    Attributes:
        radius: The radius, in the unit of the weights.
        step: Optimizer steps taken by then; None as long as the weights stay within it. Weights that are NaN are not.
    """

    radius: float
    step: int | None


@dataclass(frozen=True)
class FirstExitReport:
    """Where the weights are, and how large their last steps were.

    Attributes:
        step: Optimizer steps taken before it.
        distance: Distance of the weights from the reference, over those that could be trained when it was
            taken; NaN before there is one, and where the weights of this step could not be looked at.
        exits: For each radius, the smallest first, when the weights left it.
        largest_step: Norm of the largest change of the weights by one of the last optimizer steps; NaN before any, also
            after steps that were not looked at, and where one of the norms is NaN.
        median_step: Median of these norms; NaN where the largest is.
        num_steps: Optimizer steps that these two are of.
        seconds: Wall time that following the weights took since the report before.
        note: What holds of these numbers, in words; empty where nothing is special.
    """

    step: int
    distance: float
    exits: tuple[FirstExit, ...]
    largest_step: float
    median_step: float
    num_steps: int
    seconds: float
    note: str = ""

    @property
    def largest_over_median(self) -> float:
        """Largest step over the median, near 1 where steps are alike, large where some are jumps."""
        return self.largest_step / self.median_step if self.median_step > 0 else math.nan
