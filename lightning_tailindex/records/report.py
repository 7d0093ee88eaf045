"""What all kinds of reports have."""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["AnyReport", "ReportT"]


class AnyReport(Protocol):
    """What one measurement of a model says, of whichever kind: a frozen dataclass."""

    @property
    def step(self) -> int:
        """Optimizer steps taken before it."""

    @property
    def note(self) -> str:
        """What holds of all of it, in words; empty where nothing is special."""


ReportT = TypeVar("ReportT", bound=AnyReport)
