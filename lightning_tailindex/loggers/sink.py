"""What a logger is given, and what it makes of it."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lightning_tailindex.records import Histogram

__all__ = ["LINE_BREAK", "MOST_LINES", "Band", "Lines", "Picture", "Sink", "Start", "Table"]

LINE_BREAK = "<br>"
"""Between the lines of a cell in Markdown."""

# Characters in a line of a cell: beside longer ones TensorBoard makes columns so narrow that it breaks numbers in two.
_WIDTH = 60

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""A drawn figure: red, green and blue of each pixel, ``[height, width, 3]``."""


@dataclass(frozen=True)
class Table:
    """Words in rows and columns.

    Attributes:
        columns: Titles of the columns.
        rows: A cell for each column in every row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def markdown(self) -> str:
        """The table in Markdown, long cells broken into lines.

        Example:
            >>> print(Table(("what", "how"), (("seed", "0"),)).markdown)
            | what | how |
            |---|---|
            | seed | 0 |
        """
        rule = "---".join("|" * (len(self.columns) + 1))
        cells = [[_lines(cell).replace("|", "\\|") for cell in row] for row in (self.columns, *self.rows)]
        head, *lines = (f"| {' | '.join(row)} |" for row in cells)
        return "\n".join([head, rule, *lines])


def _lines(cell: str) -> str:
    return LINE_BREAK.join(textwrap.wrap(cell, _WIDTH, break_long_words=False, break_on_hyphens=False))


MOST_LINES = 6
"""In one chart: TensorBoard gives all lines of a run one colour and tells them apart by markers, which are few."""


@dataclass(frozen=True)
class Lines:
    """A chart of several scalars.

    Attributes:
        title: Its title.
        tags: The scalars' tags.
    """

    title: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Band:
    """A chart of scalars, each with its interval.

    Attributes:
        title: Its title.
        series: The tags of a scalar, of its interval's lower end and of its upper end, for each scalar.
    """

    title: str
    series: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Start:
    """What a logger is given once for each kind of report, after the first of them.

    Attributes:
        hyperparameters: How the measurement is set up, by the name of what is set up.
        metrics: Tags of the scalars that runs of different hyperparameters are compared by.
        charts: Charts that show much in little room, by the title above them.
    """

    hyperparameters: Mapping[str, Mapping[str, str | int | float | None]]
    metrics: tuple[str, ...]
    charts: Mapping[str, tuple[Lines | Band, ...]]


class Sink(ABC):
    """One logger, and how it takes what is measured.

    A subclass is final, and names its loggers by their classes, so that those of every Lightning are found and none has
    to be installed.

    Args:
        logger: The logger.

    Attributes:
        classes: Names of the classes of loggers that it is for.
        left_out: What such loggers cannot take, in words; empty where they take everything.
        takes_pictures: Whether it is worth while to draw for them.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    left_out: ClassVar[str] = ""
    takes_pictures: ClassVar[bool] = True

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    @property
    def name(self) -> str:
        """The name of the logger's class."""
        return type(self.logger).__name__

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers by their tags."""
        self.logger.log_metrics(dict(values), step=step)  # a copy: some loggers write into what they are given

    @abstractmethod
    def begin(self, start: Start, step: int) -> None:
        """Logs what is said once in a run."""

    @abstractmethod
    def histograms(self, values: Mapping[str, Histogram], step: int) -> None:
        """Logs histograms by their tags."""

    @abstractmethod
    def tables(self, values: Mapping[str, Table], step: int) -> None:
        """Logs tables by their tags."""

    @abstractmethod
    def pictures(self, values: Mapping[str, Picture], step: int) -> None:
        """Logs drawn figures by their tags."""
