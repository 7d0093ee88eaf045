"""Reports to all loggers of a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from lightning_tailindex.records import Report

from .charts import charts, compared
from .mlflow import MLFlowSink
from .names import detailed_groups, histograms, laws, scalars
from .pictures import FigureName, picture
from .scalars_only import CSVSink, SilentSink, UnknownSink
from .setup import hyperparameters, setup
from .sink import Picture, Sink, Start
from .tensorboard import TensorBoardSink
from .wandb import WandbSink

__all__ = ["SINKS", "Publisher", "Settings", "sink_of"]

SINKS: tuple[type[Sink], ...] = (TensorBoardSink, CSVSink, MLFlowSink, WandbSink, SilentSink)
"""Every class for a logger; one more is one more file and its place here."""


def sink_of(logger: object) -> Sink:
    """Finds what writes to a logger, by the names of its classes, so that loggers that are not installed do not matter.

    Args:
        logger: A logger of ``lightning.pytorch`` or ``pytorch_lightning``, or of a class that builds on one.

    Returns:
        What writes to it; scalars only where it is of no known class.
    """
    names = [cls.__name__ for cls in type(logger).__mro__]
    found = (sink for name in names for sink in SINKS if name in sink.classes)
    return next(found, UnknownSink)(logger)


@dataclass(frozen=True)
class Settings:
    """How much is logged, as the arguments of ``TailIndexMonitor`` of the same names say.

    Attributes:
        figures: Names of the figures.
        figures_every: Measurements between figures.
        max_detailed_groups: Groups logged in detail beside the whole model; None for all.
    """

    figures: tuple[FigureName, ...]
    figures_every: int
    max_detailed_groups: int | None


@dataclass
class Publisher:
    """Writes the reports of one run: numbers everywhere, the rest where the logger takes it.

    Attributes:
        who: Whose measurements they are.
        loggers: The loggers.
        settings: How much is logged.
        arguments: How is measured, by name.
        schedule: When is measured and at what cost, in a sentence.
        guard: What keeps an error inside from ending training, and says what failed.
        tell: Says a sentence to the user.
    """

    who: str
    loggers: Iterable[object]
    settings: Settings
    arguments: Mapping[str, object]
    schedule: str
    guard: Callable[[str], AbstractContextManager[None]]
    tell: Callable[[str], None]
    _sinks: list[Sink] = field(init=False, default_factory=list)
    _count: int = field(init=False, default=0)
    _is_drawn: bool = field(init=False, default=True)
    _told: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Finds what writes to each logger, and says what will be left out."""
        self._sinks = [sink_of(logger) for logger in self.loggers]
        for name, left_out in {sink.name: sink.left_out for sink in self._sinks if sink.left_out}.items():
            self.tell(f"{self.who}: {name} takes everything but {left_out}.")

    def publish(self, reports: Sequence[Report]) -> None:
        """Writes the last report and says what holds of all of it; adds figures of all where it is time for them.

        Args:
            reports: The reports of the run, oldest first, at least one.
        """
        report = reports[-1]
        if report.note and report.note not in self._told:
            self._told.add(report.note)
            self.tell(f"{self.who}: {report.note}.")
        for sink in self._sinks:
            with self.guard(f"{sink.name} could not log the report of step {report.step}"):
                self._write(sink, report)
        self._count += 1
        self._is_drawn = (self._count - 1) % self.settings.figures_every == 0
        if self._is_drawn:
            self._draw(reports)

    def finish(self, reports: Sequence[Report]) -> None:
        """Draws the last state, if it is not drawn yet.

        Args:
            reports: The reports of the run, oldest first.
        """
        if not self._is_drawn:
            self._is_drawn = True
            self._draw(reports)

    def _write(self, sink: Sink, report: Report) -> None:
        detailed = detailed_groups(report, self.settings.max_detailed_groups)
        sink.scalars(scalars(report, detailed), report.step)
        sink.histograms(histograms(report, detailed), report.step)
        if self._count == 0:
            sink.tables({**laws(report), **setup(report, self.arguments, self.schedule)}, report.step)
            values = {self.who: hyperparameters(self.arguments)}
            sink.begin(Start(values, compared(report), charts(report)), report.step)
        else:
            sink.tables(laws(report), report.step)

    def _draw(self, reports: Sequence[Report]) -> None:
        step, drawn = reports[-1].step, dict[str, Picture]()
        sinks = [sink for sink in self._sinks if sink.takes_pictures]
        for name in self.settings.figures if sinks else ():
            with self.guard(f"the figure {name} of step {step} could not be drawn"):
                drawn.update(picture(name, reports))
        for sink in sinks if drawn else ():
            with self.guard(f"{sink.name} could not log the figures of step {step}"):
                sink.pictures(drawn, step)
