"""The tail index of the stochastic gradient noise, measured while training."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_info, rank_zero_warn
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_tailindex.analysis import Estimator, analyse, resolve_estimators
from lightning_tailindex.loggers import callback_metrics, emit, monitored
from lightning_tailindex.noise.groups import check_patterns, compile_patterns, resolve_grouping
from lightning_tailindex.noise.processes import OtherProcessError
from lightning_tailindex.noise.random_state import derived_seed
from lightning_tailindex.records import Report
from lightning_tailindex.trainer import (
    ExtraMinibatches,
    NoiseSettings,
    check_measurable,
    is_stepping,
    last_step,
    optimizer_steps,
)

from .arguments import check_at_least, check_choice, check_positive
from .schedule import Schedule

__all__ = ["TailIndexMonitor"]

_FEWEST_DRAWS = 16
"""With fewer draws a coordinate says too little about its own scale: in simulations the centre is biased below 16."""


class TailIndexMonitor(Callback):
    r"""Measures how heavy the tails of the stochastic gradient noise are, and logs it.

    At the scheduled optimizer steps, step 0 included, it draws extra minibatches of the training data, computes their
    gradients on a shadow of the module, and estimates the tail index :math:`\alpha` of

    .. math:: U = \nabla L_\text{minibatch}(w) - \nabla L(w)

    per group of parameters and for the whole model: across minibatches, coordinate by coordinate, each coordinate's
    scale left free. Beside each :math:`\alpha` stands the number that Gaussian noise of the same covariance gives. A
    minibatch is what an optimizer step consumes: loader batch × accumulation × ranks. Training itself is bit for bit
    what it is without the callback.

    Args:
        every_n_steps: Optimizer steps between measurements, at least 1; None for as often as max_overhead allows.
        max_overhead: Extra minibatch passes per training minibatch that every_n_steps=None may cost, above 0.
        num_minibatches: Noise draws in a measurement, at least 16; more of them narrow the interval.
        full_gradient_batches: Minibatches averaged into the full gradient, at least 1; None for the whole training
            set. The draws are part of them, so nothing is computed twice.
        group_by: Parameters analysed together: "module" (those of one submodule), "parameter", "model" (nothing finer
            than the whole model), or a function from a parameter's name to its group's.
        parameters: Regular expressions of the names of the parameters to measure; None for all.
        max_coordinates: Coordinates sampled in each group, at least 1, the same throughout a run; None for every one,
            which keeps num_minibatches copies of the gradient in memory.
        estimators: Name of an estimator in lightning_tailindex.functional, or several; the first speaks for the
            headline. A function estimator(x, *, pooled) from draws x [n, d] to a TailIndexEstimate is taken too.
        seed: Seed of the drawn minibatches, the sampled coordinates and the Gaussian surrogates, at least 0.
        on_error: What happens when a measurement fails: "warn" drops it with a warning and training goes on as if it
            had not been tried, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first.
        settings: What is measured.

    Raises:
        ValueError: If an argument is out of its range; the error names it.

    References:
        Şimşekli, Sagun, Gürbüzbalaban (2019). A Tail-Index Analysis of Stochastic Gradient Noise in Deep Neural
        Networks. ICML, arXiv:1901.06053.

    Example:
        >>> monitor = TailIndexMonitor(every_n_steps=500)
        >>> trainer = Trainer(callbacks=[monitor], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> monitor.reports
        []
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        max_overhead: float = 0.1,
        num_minibatches: int = 64,
        full_gradient_batches: int | None = 256,
        group_by: str | Callable[[str], str] = "module",
        parameters: str | Sequence[str] | None = None,
        max_coordinates: int | None = 1024,
        estimators: str | Estimator | Sequence[str | Estimator] = "grouped_mle",
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        check_at_least("every_n_steps", every_n_steps, 1, or_none=True)
        check_at_least("num_minibatches", num_minibatches, _FEWEST_DRAWS)
        check_at_least("full_gradient_batches", full_gradient_batches, 1, or_none=True)
        check_at_least("max_coordinates", max_coordinates, 1, or_none=True)
        check_at_least("seed", seed, 0)
        check_positive("max_overhead", max_overhead)
        check_choice("on_error", on_error, ("warn", "raise"))
        self.every_n_steps = every_n_steps
        self.max_overhead = max_overhead
        self.on_error = on_error
        self.reports: list[Report] = []
        self.settings = NoiseSettings(
            num_minibatches=num_minibatches,
            full_gradient_batches=full_gradient_batches,
            grouping=resolve_grouping(group_by),
            patterns=compile_patterns(parameters),
            max_coordinates=max_coordinates,
            seed=seed,
        )
        self._estimators = resolve_estimators(estimators)
        self._schedule = Schedule(1)
        self._told: set[str] = set()
        self._metrics: dict[str, float] = {}
        self._source: ExtraMinibatches | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module or a strategy that cannot be measured."""
        if stage == "fit":
            check_measurable(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs before its first measurement: the last values that callbacks monitor."""
        return {"callback_metrics": dict(self._metrics)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what :meth:`state_dict` returned."""
        self._metrics = dict(state_dict["callback_metrics"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settles the schedule and says what it will cost."""
        check_patterns(pl_module, self.settings.patterns)
        start = optimizer_steps(trainer)
        self.reports = [report for report in self.reports if report.step < start]
        self._metrics = self._metrics if start else {}
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        self._told = set()
        self._source = ExtraMinibatches(trainer, self.settings)
        plan = self._source.plan(trainer)
        self._schedule = Schedule(self.every_n_steps or math.ceil(plan.num_passes / self.max_overhead))
        announcement = self._schedule.announcement(plan, start, last_step(trainer, pl_module))
        rank_zero_info(f"{type(self).__name__}: {announcement}{self._source.note}.")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures if this step is one to measure at."""
        assert self._source is not None
        step = optimizer_steps(trainer)
        if self._schedule.is_due(step, is_ready=is_stepping(trainer) and self._source.is_ready):
            with self._failures_told(f"the measurement at step {step} failed and was dropped"):
                self._measure(trainer, pl_module, step)
        if self._source.wants(self._schedule.steps_left(step)):
            with self._failures_told(f"the minibatch of step {step} could not be kept"):
                self._source.see(batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so if there is nothing to see."""
        if not self.reports:
            rank_zero_info(f"{type(self).__name__}: nothing was measured in this run.")

    @contextmanager
    def _failures_told(self, what: str) -> Iterator[None]:
        """Keeps an error from ending training, and tells each kind of it once."""
        try:
            yield
        except Exception as error:
            if self.on_error == "raise":
                raise
            cause = f"{type(error).__name__}: {error}"
            tell = rank_zero_warn if isinstance(error, OtherProcessError) else warnings.warn
            if cause not in self._told:
                self._told.add(cause)
                tell(f"{type(self).__name__}: {what}, training goes on: {cause} (on_error='raise' shows where)")

    def _measure(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        report = self._report(trainer, pl_module, step)
        self.reports.append(report)
        self._metrics = monitored(report)
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        if report.note and report.note not in self._told:
            self._told.add(report.note)
            rank_zero_info(f"{type(self).__name__}: {report.note}.")
        if trainer.is_global_zero:
            with self._failures_told(f"the report of step {step} could not be logged"):
                emit(report, trainer.loggers)

    def _report(self, trainer: Trainer, pl_module: LightningModule, step: int) -> Report:
        start = time.perf_counter()
        assert self._source is not None
        observation = self._source.observe(trainer, pl_module, step)
        return analyse(
            observation,
            self._estimators,
            step=step,
            seed=derived_seed(self.settings.seed, step),
            note=observation.note(self.settings.num_minibatches),
            clock=lambda: time.perf_counter() - start,
        )
