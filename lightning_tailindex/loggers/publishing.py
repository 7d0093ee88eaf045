"""Reports to all loggers of a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic

from lightning_tailindex.figures._choice import few_enough
from lightning_tailindex.records import ReportT

from .mlflow import MLFlowSink
from .presentation import Presentation
from .scalars_only import CSVSink, SilentSink, UnknownSink
from .setup import hyperparameters, setup
from .sink import Band, Lines, Picture, Sink, Start
from .tensorboard import TensorBoardSink
from .wandb import WandbSink

__all__ = ["SINKS", "Publisher", "sink_of"]

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


@dataclass
class Publisher(Generic[ReportT]):
    """Writes the reports of one monitor in one run: numbers everywhere, the rest where the logger takes it.

    Attributes:
        who: Whose measurements they are.
        loggers: The loggers.
        presentation: What they are called, and how much is logged.
        arguments: How is measured, by name.
        schedule: When is measured and at what cost, in a sentence.
        guard: What keeps an error inside from ending training, and says what failed.
        tell: Says a sentence to the user.
        others: Publishers of the same run that have said already what their loggers leave out.
        charts: Its charts; none before the first report.
    """

    who: str
    loggers: Iterable[object]
    presentation: Presentation[ReportT]
    arguments: Mapping[str, object]
    schedule: str
    guard: Callable[[str], AbstractContextManager[object]]
    tell: Callable[[str], None]
    others: InitVar[Iterable[Publisher[Any]]] = ()
    charts: tuple[Lines | Band, ...] = field(init=False, default=())
    _sinks: list[Sink] = field(init=False, default_factory=list)
    _set_up: set[Sink] = field(init=False, default_factory=set)
    _begun: set[Sink] = field(init=False, default_factory=set)
    _count: int = field(init=False, default=0)
    _is_drawn: bool = field(init=False, default=True)
    _told: set[str] = field(init=False, default_factory=set)

    def __post_init__(self, others: Iterable[Publisher[Any]]) -> None:
        """Finds what writes to each logger, and says what will be left out."""
        self._sinks = [sink_of(logger) for logger in self.loggers]
        known = {sink.name for other in others for sink in other._sinks}
        for name, left_out in {sink.name: sink.left_out for sink in self._sinks if sink.left_out}.items():
            if name not in known:
                self.tell(f"{name} takes everything that monitors log but {left_out}.")

    def publish(self, reports: Sequence[ReportT], publishers: Sequence[Publisher[Any]]) -> None:
        """Writes the last report and says what holds of all of it; adds figures of all where it is time for them.

        Args:
            reports: The reports of the run, oldest first, at least one.
            publishers: Those of all monitors of the run, this one among them.
        """
        report = reports[-1]
        for about, note in self.presentation.notes(report).items():
            if about not in self._told:
                self._told.add(about)
                self.tell(f"{self.who}: {note}.")
        with self.guard("the charts could not be laid out"):
            self.charts = self.charts or self.presentation.charts(report)
        for sink in self._sinks:
            with self.guard(f"{sink.name} could not log the report of step {report.step}"):
                self._write(sink, report, publishers)
        self._count += 1
        self._is_drawn = (self._count - 1) % self.presentation.figures_every == 0
        if self._is_drawn:
            self._draw(reports)

    def finish(self, reports: Sequence[ReportT]) -> None:
        """Draws the last state, if it is not drawn yet.

        Args:
            reports: The reports of the run, oldest first.
        """
        if reports and not self._is_drawn:
            self._is_drawn = True
            self._draw(reports)

    def _write(self, sink: Sink, report: ReportT, publishers: Sequence[Publisher[Any]]) -> None:
        """Writes a report, and with it what is said once in a run, until the logger has taken that."""
        shown, step = self.presentation, report.step
        sink.scalars(shown.scalars(report), step)
        sink.histograms(shown.histograms(report), step)
        tables = shown.tables(report)
        if sink not in self._set_up:
            tables[shown.setup_tag] = setup(shown.setup(report), self.arguments, self.schedule)
        sink.tables(tables, step)
        self._set_up.add(sink)
        if sink not in self._begun:
            sink.begin(_start(publishers), step)
            self._begun.add(sink)

    def _draw(self, reports: Sequence[ReportT]) -> None:
        step, drawn = reports[-1].step, dict[str, Picture]()
        sinks = [sink for sink in self._sinks if sink.takes_pictures]
        for name in self.presentation.figures if sinks else ():
            with self.guard(f"the figure {name} of step {step} could not be drawn"):
                drawn.update(self.presentation.picture(name, few_enough(reports)))
        for sink in sinks if drawn else ():
            with self.guard(f"{sink.name} could not log the figures of step {step}"):
                sink.pictures(drawn, step)


def _start(publishers: Sequence[Publisher[Any]]) -> Start:
    """Tells of all monitors what is known so far, for a run has one page of charts and one of hyperparameters."""
    return Start(
        {each.who: hyperparameters(each.arguments) for each in publishers},
        tuple(tag for each in publishers for tag in each.presentation.compared),
        {each.presentation.title: each.charts for each in publishers if each.charts},
    )
