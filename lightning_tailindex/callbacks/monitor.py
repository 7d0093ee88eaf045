"""What every monitor does: measure when it is time, keep the reports, log them, and never harm training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic

from lightning_tailindex.loggers import Presentation, Publisher, callback_metrics
from lightning_tailindex.records import ReportT, from_plain, to_plain
from lightning_tailindex.trainer import check_alone, is_stepping, last_step, optimizer_steps, processes, tell
from lightning_tailindex.trainer.flavour import Callback, LightningModule, Trainer

from .arguments import check_choice
from .failures import Failures
from .schedule import Schedule

__all__ = ["Monitor"]

_REPORTS_IN_CHECKPOINT = 100
"""A report of the gradient noise takes some 2 KB for each measurement: 1 MB for four groups beside the whole model."""


class Monitor(Callback, ABC, Generic[ReportT]):
    """Measures at the scheduled steps, keeps the reports, logs them, and never harms training.

    A subclass is final. It says what it needs of a trainer, how often it measures and at what cost, and measures; its
    own hooks of Lightning call :meth:`_measure_if_due`.

    Args:
        kind: The class of its reports.
        presentation: How they are logged.
        arguments: The arguments of the subclass by name, ``on_error`` among them.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
        logged: How they are logged.
    """

    _measures_after_steps: ClassVar[bool] = False
    """Whether it measures after a step, the last one too, and not before the first."""

    _is_ready_alike: ClassVar[bool] = False
    """Whether processes are ready at the same steps, so that they need not agree on it at each."""

    def __init__(self, kind: type[ReportT], presentation: Presentation[ReportT], arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.on_error = arguments["on_error"]
        check_choice("on_error", self.on_error, ("warn", "raise"))
        self.reports: list[ReportT] = []
        self.logged = presentation
        self._kind = kind
        self._arguments = arguments
        self._schedule = Schedule(1)
        self._failures = self._new_failures()
        self._metrics: dict[str, float] = {}
        self._publisher: Publisher[ReportT] | None = None
        self._is_of_fit = True
        self._is_measured = False  # whether anything was in this run
        self._why_nothing = ""  # was measured in a run, in words, where a subclass knows it

    @abstractmethod
    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        """Refuses what cannot be measured, before training starts."""

    @abstractmethod
    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        """Prepares for a run.

        Returns:
            Optimizer steps between measurements; what is measured, in words; and by which work, in words.
        """

    @abstractmethod
    def _is_ready(self, trainer: Trainer) -> bool:
        """Whether a measurement that is due is possible in this process; it is made where it is in all of them."""

    @abstractmethod
    def _report(self, trainer: Trainer, module: LightningModule, step: int) -> ReportT:
        """Measures; in every process or, by an error in each, in none."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be measured, and a second monitor of the same kind."""
        self._is_of_fit, self._publisher = stage == "fit", None
        if self._is_of_fit:
            self._check(trainer, pl_module)
            check_alone(trainer, type(self).__name__)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on from, in plain types: no more than the last 100 reports are in it.

        The batches and gradients that training has shown, which may be large, are not: a resumed run measures as soon
        as it has seen enough of them again.
        """
        return {
            "callback_metrics": dict(self._metrics),
            "is_waiting": self._schedule.is_waiting,
            "reports": [to_plain(report) for report in self.reports[-_REPORTS_IN_CHECKPOINT:]],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what :meth:`state_dict` returned for a fit to go on from; what tests a checkpoint takes its weights."""
        if self._is_of_fit:
            self._resume(state_dict)

    def _resume(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state, be it of an older version, which had less in it."""
        self._metrics = dict(state_dict["callback_metrics"])
        self._schedule.is_waiting = bool(state_dict.get("is_waiting", False))
        with self._failures.told("the reports in the checkpoint could not be read"):
            found = [from_plain(self._kind, report) for report in state_dict.get("reports", ())]
            # in the middle of a run, those that a checkpoint has no room for are here still
            earlier = self.reports if found and self._publisher is not None else ()
            self.reports = [*(each for each in earlier if each.step < found[0].step), *found]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settles the schedule and says what it will cost."""
        if trainer.global_step == 0:
            self.reports, self._metrics, self._schedule = [], {}, Schedule(1)
        # where nothing is measured yet it is NaN: ModelCheckpoint would end training if there were nothing
        self._metrics = {**dict.fromkeys(self.logged.metrics, math.nan), **self._metrics}
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        self._failures = self._new_failures()
        self._is_measured = False
        interval, what, work = self._begin(trainer, pl_module)
        self._schedule = Schedule(interval, self._schedule.is_waiting)
        start, end = optimizer_steps(trainer), last_step(trainer, pl_module)
        times = self._schedule.announcement(start, end, after=self._measures_after_steps)
        announcement = f"measures {what} {times}, by {work}"
        tell(f"{type(self).__name__}: {announcement}.")
        self._publisher = Publisher(
            type(self).__name__,
            trainer.loggers if trainer.is_global_zero else (),
            self.logged,
            self._arguments,
            announcement,
            self._failures.told,
            tell,
            tuple(_publishers(trainer)),
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last state, or says that there is nothing to see."""
        if self._publisher is not None:
            with self._failures.told("the last figures could not be drawn"):
                self._publisher.finish(self.reports)
        if not self._is_measured:
            why = f": {self._why_nothing}" if self._why_nothing else ""
            tell(f"{type(self).__name__}: nothing was measured in this run{why}.")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets the run's loggers: a monitor that is given to another run while it is under way has none."""
        self._publisher = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Forgets them too where an error or an interruption ends the run, which Lightning then does not tear down."""
        self._publisher = None

    def _measure_if_due(self, trainer: Trainer, module: LightningModule, step: int | None = None) -> None:
        """Measures if this step is one to measure at; called before every loader batch, or after it with the step."""
        step = optimizer_steps(trainer) if step is None else step
        if self._schedule.is_due(step, lambda: is_stepping(trainer) and self._is_ready_everywhere(trainer, step)):
            with self._failures.told(f"the measurement at step {step} failed and was dropped"):
                self._measure(trainer, module, step)

    def _is_ready_everywhere(self, trainer: Trainer, step: int) -> bool:
        """Whether every process is ready; one in which that fails is not, and the others hear of it."""
        with self._failures.told(f"nothing can be measured at step {step}"):
            try:
                self._running()
                is_ready = self._is_ready(trainer)
            except Exception:
                self._agreed(trainer, False)
                raise
            return self._agreed(trainer, is_ready)
        return False

    def _agreed(self, trainer: Trainer, is_ready: bool) -> bool:
        return is_ready if self._is_ready_alike else processes(trainer).all(is_ready)

    def _measure_last(self, trainer: Trainer, module: LightningModule) -> None:
        """Measures what training ends with, unless it was measured; for what needs no batch, called in its end."""
        step = optimizer_steps(trainer)
        if not self.reports or self.reports[-1].step != step:
            with self._failures.told(f"the measurement at the end, at step {step}, failed and was dropped"):
                self._measure(trainer, module, step)

    def _measure(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        publisher, report = self._running(), self._report(trainer, module, step)
        while self.reports and self.reports[-1].step >= step:
            self.reports.pop()  # measured before the run went back to an earlier checkpoint
        self.reports.append(report)
        self._is_measured = True
        self._metrics = self.logged.monitored(report)
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        publisher.publish(self.reports, list(_publishers(trainer)))

    def _running(self) -> Publisher[ReportT]:
        """Returns what writes the reports of the run; an error where none is under way."""
        if self._publisher is None:
            raise RuntimeError("it was not there when training started: give it to the Trainer.")
        return self._publisher

    def _new_failures(self) -> Failures:
        return Failures(type(self).__name__, self.on_error == "raise")


def _publishers(trainer: Trainer) -> Iterator[Publisher[Any]]:
    monitors = (each for each in trainer.callbacks if isinstance(each, Monitor))  # type: ignore[attr-defined]
    yield from (each._publisher for each in monitors if each._publisher is not None)
