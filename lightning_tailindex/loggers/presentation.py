"""A kind of report in the terms of loggers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic

from lightning_tailindex.records import Histogram, ReportT

from .sink import Band, Lines, Picture, Table

__all__ = ["Presentation"]

_NUMBER = re.compile(r"(?<![\w.])-?\d+(\.\d+)?(e[-+]?\d+)?(?![\w.]*\w)")
"""A number, but none that is part of a name as ``body.0.weight``."""


class Presentation(ABC, Generic[ReportT]):
    """What one kind of report is called where users see it, and how it is shown.

    A subclass is final. Its tags are its own: no other kind of report logs under them.

    Attributes:
        title: Title above its charts.
        setup_tag: Tag of the text that says what was measured, and how.
        compared: Tags of the scalars that runs are compared by.
        metrics: Names of what EarlyStopping and ModelCheckpoint can monitor.
        figures: Names of the figures that are drawn.
        figures_every: Reports between figures.
    """

    title: ClassVar[str]
    setup_tag: ClassVar[str]
    compared: ClassVar[tuple[str, ...]]
    metrics: Sequence[str]
    figures: Sequence[str]
    figures_every: int

    @abstractmethod
    def scalars(self, report: ReportT) -> dict[str, float]:
        """Names the numbers of a report: every scalar by its tag."""

    @abstractmethod
    def monitored(self, report: ReportT) -> dict[str, float]:
        """Gives every one of ``metrics`` its number; their names have no slash, which would make folders."""

    def histograms(self, report: ReportT) -> dict[str, Histogram]:
        """Names the histograms of a report that have values in them; there are none unless a subclass says so."""
        return {}

    def tables(self, report: ReportT) -> dict[str, Table]:
        """Names the tables of a report; there are none unless a subclass says so."""
        return {}

    def notes(self, report: ReportT) -> dict[str, str]:
        """Says what the user has to know of a report, each sentence once a run by what it is about."""
        # what it is about has no numbers in it, for these are others in each report
        return {_NUMBER.sub("#", report.note): report.note} if report.note else {}

    @abstractmethod
    def charts(self, report: ReportT) -> tuple[Lines | Band, ...]:
        """Lays out a few charts, given the first report of a run."""

    @abstractmethod
    def setup(self, report: ReportT) -> Mapping[str, str]:
        """Says what was measured, and how, given the first report of a run that a logger takes."""

    def picture(self, name: str, reports: Sequence[ReportT]) -> dict[str, Picture]:
        """Draws a figure of a run's reports, oldest first: by its tag, or nothing where there is nothing to see.

        A long run's reports are no more than a figure can show, the last one among them.
        """
        return {}
