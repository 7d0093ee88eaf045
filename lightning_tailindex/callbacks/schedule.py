"""At which optimizer steps to measure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_tailindex.noise.minibatches import SweepPlan

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """Once at every step that is a multiple of the interval, step 0 included; later where something is not ready.

    Attributes:
        interval: Optimizer steps between measurements.
    """

    interval: int
    _last: int | None = None
    _is_waiting: bool = False

    def is_due(self, step: int, *, is_ready: bool = True) -> bool:
        """Whether to measure now; asked before every loader batch, several of which may share a step.

        Args:
            step: Optimizer steps taken.
            is_ready: Whether it is possible at all; if not, the measurement waits until it is.

        Returns:
            True once per measurement.
        """
        self._is_waiting |= step != self._last and step % self.interval == 0
        self._last = step
        is_due = self._is_waiting and is_ready
        self._is_waiting &= not is_due
        return is_due

    def steps_left(self, step: int) -> int:
        """Counts the steps to the next measurement, 0 if it waits."""
        return 0 if self._is_waiting else self.interval - step % self.interval

    def announcement(self, plan: SweepPlan, start: int, end: float) -> str:
        """Says what will be measured, how often and at what cost.

        Args:
            plan: What a measurement takes.
            start: Optimizer steps taken.
            end: The step at which training ends; infinity where nobody knows.

        Returns:
            A sentence, without its full stop.
        """
        count = ""
        if end < math.inf:
            times = math.ceil(end / self.interval) - math.ceil(start / self.interval)
            count = f" ({times} measurement{'' if times == 1 else 's'} from step {start} to the end at step {end})"
        return (
            f"measures the gradient noise every {self.interval} optimizer steps{count}, by {plan.num_minibatches} draws"
            f" and a full gradient over {plan.num_full} minibatches; that is {plan.num_passes} extra minibatch passes"
            f" each time, {plan.num_passes / self.interval:.2g} per training minibatch (every_n_steps, max_overhead)"
        )
