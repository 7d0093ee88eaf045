"""At which optimizer steps to measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """Once at every step that is a multiple of the interval, step 0 included; later where something is not ready.

    Attributes:
        interval: Optimizer steps between measurements.
        is_waiting: Whether a measurement is due and could not be made yet.
    """

    interval: int
    is_waiting: bool = False
    _last: int | None = None

    def is_due(self, step: int, is_ready: Callable[[], bool]) -> bool:
        """Whether to measure now; asked before every loader batch, several of which may share a step.

        Args:
            step: Optimizer steps taken.
            is_ready: Whether it is possible at all, asked only where one waits; if not, it goes on waiting.

        Returns:
            True once per measurement.
        """
        self.is_waiting |= step != self._last and step % self.interval == 0
        self._last = step
        is_due = self.is_waiting and is_ready()
        self.is_waiting &= not is_due
        return is_due

    def steps_left(self, step: int) -> int:
        """Counts the steps to the next measurement, 0 if it waits."""
        return 0 if self.is_waiting else self.interval - step % self.interval

    def announcement(self, start: int, end: float, *, after: bool = False) -> str:
        """Says how often will be measured: at most, where something has to be ready for it.

        Args:
            start: Optimizer steps taken.
            end: The step at which training ends; infinity where nobody knows.
            after: Whether it measures after a step, and so at the last one too and not before the first.

        Returns:
            A part of a sentence.

        Example:
            >>> Schedule(1).announcement(0, math.inf)
            'every optimizer step'
            >>> Schedule(10).announcement(5, 40)
            'every 10 optimizer steps (at most 3 measurements from step 5 to the end at step 40)'
            >>> Schedule(10).announcement(0, 40, after=True)
            'every 10 optimizer steps (at most 4 measurements from step 1 to the end at step 40)'
        """
        count = ""
        if end < math.inf:
            times = math.ceil((end + after) / self.interval) - math.ceil((start + after) / self.interval)
            several = f"{times} measurement{'' if times == 1 else 's'}"
            count = f" (at most {several} from step {start + after} to the end at step {end})"
        every = "every optimizer step" if self.interval == 1 else f"every {self.interval} optimizer steps"
        return f"{every}{count}"
