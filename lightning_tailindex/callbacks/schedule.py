"""At which optimizer steps to measure."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

    def is_near(self, step: int, steps: int) -> bool:
        """Whether the next measurement waits, or comes within so many steps."""
        return self._is_waiting or self.interval - step % self.interval <= steps

    def count(self, start: int, end: float) -> int:
        """Counts the measurements at steps from ``start`` to just before ``end``."""
        return math.ceil(end / self.interval) - math.ceil(start / self.interval)
