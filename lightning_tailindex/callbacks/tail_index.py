"""The tail index of the stochastic gradient noise, measured while training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from lightning_tailindex.analysis import Estimators, analyse, resolve_estimators
from lightning_tailindex.loggers import FigureName, Publisher, Settings, callback_metrics, monitored
from lightning_tailindex.noise.engine import Engine
from lightning_tailindex.noise.groups import GroupingName, compile_patterns, resolve_grouping
from lightning_tailindex.noise.processes import NoiseUnit
from lightning_tailindex.noise.random_state import derived_seed, isolated_random_state
from lightning_tailindex.records import Report, from_plain, to_plain
from lightning_tailindex.trainer import (
    Batches,
    ExtraMinibatches,
    NoiseSettings,
    TrainingGradients,
    check_measurable,
    check_parameters,
    is_stepping,
    last_step,
    optimizer_steps,
    processes,
)
from lightning_tailindex.trainer.flavour import Callback, LightningModule, Trainer, rank_zero_info

from .arguments import checked, resolve_figures
from .failures import Failures
from .schedule import Schedule

__all__ = ["TailIndexMonitor"]

_REPORTS_IN_CHECKPOINT = 100
"""Some 2 KB for each of a report's measurements: 1 MB for a model of four groups beside the whole."""


class TailIndexMonitor(Callback):
    r"""Measures how heavy the tails of the stochastic gradient noise are, and logs it.

    At the scheduled optimizer steps, step 0 included, it draws extra minibatches of the training data, computes their
    gradients on a shadow of the module, and estimates the tail index :math:`\alpha` of

    .. math:: U = \nabla L_\text{minibatch}(w) - \nabla L(w)

    per group of parameters and for the whole model: across minibatches, coordinate by coordinate, each coordinate's
    scale left free. Beside each :math:`\alpha` stands the number that Gaussian noise of the same covariance gives.
    Training itself is bit for bit what it is without the callback.

    Args:
        every_n_steps: Optimizer steps between measurements, at least 1; None for as often as max_overhead allows.
        max_overhead: Extra minibatch passes per training minibatch that every_n_steps=None may cost, above 0.
        num_minibatches: Noise draws in a measurement, at least 16; more of them narrow the interval.
        full_gradient_batches: Minibatches averaged into the full gradient, at least 1; None for the whole training
            set. The draws are part of them, so nothing is computed twice.
        group_by: Parameters analysed together: "module" (those of one submodule), "parameter", "model" (nothing finer
            than the whole model), or a function from a parameter's name to its group's.
        parameters: Regular expressions of the names of the parameters to measure; None for all.
        max_coordinates: Coordinates sampled in each group, at least 1, the same throughout a run; None for every one
            of them in pairs of draws, in at most 40 bytes of memory a parameter, and a sample of 1024.
        estimators: Name of an estimator in lightning_tailindex.functional, a NamedEstimator (name and arguments), or a
            function (x, *, pooled) from draws [n, d] to a TailIndexEstimate; of several, the first is the headline.
        noise_unit: What a minibatch is: "step" for what an optimizer step consumes, loader batch × accumulation ×
            ranks; "loader" for one loader batch of one rank, in which case the ranks divide the draws among them.
        dataloader: What the minibatches are taken from instead of the training data: a DataLoader, which is shuffled,
            or any other iterable of batches, which is read from its start each time and has to shuffle itself.
        source: Where the gradients come from: "extra" for passes of minibatches beside training, "training" for the
            gradients of training's own steps, whose differences in pairs cost next to nothing but need twice as many
            steps as draws before each measurement, over which the weights move.
        engine: How extra minibatches are computed: "loop", one by one; "vectorized", many at once by torch.func, where
            the module allows it; "auto", vectorized where it pays, in small modules without convolutions.
        figures: Names of functions in lightning_tailindex.figures that draw reports, or one of them, for the loggers
            that show figures; None for no figures.
        figures_every: Measurements between figures, at least 1; the last state of a training is drawn too.
        max_detailed_groups: Groups, the largest, that are logged in detail beside the whole model, at least 1; None for
            all. Of the others, the tail index and its surrogate's are logged, and reports have everything.
        seed: Seed of the drawn minibatches, the sampled coordinates and the Gaussian surrogates, at least 0.
        on_error: What happens when a measurement fails: "warn" drops it with a warning and training goes on as if it
            had not been tried, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
        settings: What is measured.
        logged: How much of it is logged.

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
        group_by: GroupingName | Callable[[str], str] = "module",
        parameters: str | Sequence[str] | None = None,
        max_coordinates: int | None = 1024,
        estimators: Estimators = "grouped_mle",
        noise_unit: NoiseUnit = "step",
        dataloader: Batches | None = None,
        source: Literal["extra", "training"] = "extra",
        engine: Engine = "auto",
        figures: FigureName | Sequence[FigureName] | None = ("alpha_over_steps", "alpha_heatmap", "noise_density"),
        figures_every: int = 10,
        max_detailed_groups: int | None = 12,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        arguments = checked(locals())
        super().__init__()
        self.every_n_steps = every_n_steps
        self.max_overhead = max_overhead
        self.on_error = on_error
        self.dataloader = dataloader
        self.source = source
        self.reports: list[Report] = []
        self.settings = NoiseSettings(
            num_minibatches=num_minibatches,
            full_gradient_batches=full_gradient_batches,
            grouping=resolve_grouping(group_by),
            patterns=compile_patterns(parameters),
            max_coordinates=max_coordinates,
            seed=seed,
            noise_unit=noise_unit,
            engine=engine,
        )
        self.logged = Settings(resolve_figures(figures), figures_every, max_detailed_groups)
        self._arguments = arguments
        self._estimators = resolve_estimators(estimators)
        self._schedule = Schedule(1)
        self._failures = Failures(type(self).__name__, on_error == "raise")
        self._metrics: dict[str, float] = {}
        self._source: ExtraMinibatches | TrainingGradients | None = None
        self._publisher: Publisher | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module or a strategy that cannot be measured."""
        if stage == "fit":
            check_measurable(trainer, pl_module, self.settings.noise_unit)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on from, in plain types: no more than the last 100 reports are in it.

        The batches of a stream and the gradients of training's steps, which may be large, are not: a resumed run
        measures as soon as it has seen enough of them again.
        """
        return {
            "callback_metrics": dict(self._metrics),
            "is_waiting": self._schedule.is_waiting,
            "reports": [to_plain(report) for report in self.reports[-_REPORTS_IN_CHECKPOINT:]],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what :meth:`state_dict` returned, be it of an older version, which had less in it."""
        self._metrics = dict(state_dict["callback_metrics"])
        self._schedule.is_waiting = bool(state_dict.get("is_waiting", False))
        with self._failures.told("the reports in the checkpoint could not be read"):
            self.reports = [from_plain(report) for report in state_dict.get("reports", ())]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settles the schedule and says what it will cost."""
        check_parameters(trainer, pl_module, self.settings.patterns)
        start = optimizer_steps(trainer)
        if trainer.global_step == 0:
            self.reports, self._metrics, self._schedule = [], {}, Schedule(1)
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        self._failures = Failures(type(self).__name__, self.on_error == "raise")
        if self.source == "training":
            self._source = TrainingGradients(trainer, self.settings)
        else:
            self._source = ExtraMinibatches(trainer, self.settings, self.dataloader)
        work, passes = self._source.work(trainer)
        interval = self.every_n_steps or math.ceil(passes / self.max_overhead) or 2 * self.settings.num_minibatches
        self._schedule = Schedule(interval, self._schedule.is_waiting)
        announcement = self._schedule.announcement(work, passes, start, last_step(trainer, pl_module))
        announcement += self._source.note
        who, loggers = type(self).__name__, trainer.loggers if trainer.is_global_zero else ()
        rank_zero_info(f"{who}: {announcement}.")
        told = self._failures.told
        self._publisher = Publisher(who, loggers, self.logged, self._arguments, announcement, told, rank_zero_info)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures if this step is one to measure at."""
        assert self._source is not None
        step, source = optimizer_steps(trainer), self._source
        if self._schedule.is_due(step, lambda: is_stepping(trainer) and source.is_ready(trainer)):
            with self._failures.told(f"the measurement at step {step} failed and was dropped"):
                self._measure(trainer, pl_module, step)
        if source.wants(self._schedule.steps_left(step)):
            with self._failures.told(f"the minibatch of step {step} could not be kept"):
                source.see(batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keeps what the optimizer is about to use, where the noise is taken from that."""
        step = optimizer_steps(trainer)
        if isinstance(self._source, TrainingGradients) and self._source.wants(self._schedule.steps_left(step)):
            with self._failures.told(f"the gradient of step {step} could not be kept"):
                self._source.see_gradients(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last state, or says that there is nothing to see."""
        assert self._publisher is not None
        self._publisher.finish(self.reports)
        if not self.reports:
            rank_zero_info(f"{type(self).__name__}: nothing was measured in this run.")

    def _measure(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        report = self._report(trainer, pl_module, step)
        while self.reports and self.reports[-1].step >= step:
            self.reports.pop()  # measured before the run went back to an earlier checkpoint
        self.reports.append(report)
        self._metrics = monitored(report)
        trainer.callback_metrics.update(callback_metrics(self._metrics))
        assert self._publisher is not None
        self._publisher.publish(self.reports)

    def _report(self, trainer: Trainer, pl_module: LightningModule, step: int) -> Report:
        start = time.perf_counter()
        assert self._source is not None
        observation = self._source.observe(trainer, pl_module, step)

        def analysis() -> Report:
            # an estimator of the user's may draw random numbers
            with isolated_random_state(seed, trainer.strategy.root_device):
                return analyse(
                    observation,
                    self._estimators,
                    step=step,
                    seed=seed,
                    note=observation.note(self.settings.num_minibatches),
                    clock=lambda: time.perf_counter() - start,
                )

        seed = derived_seed(self.settings.seed, step)
        # callbacks that monitor the result wait for each other: all processes have it, or none
        return processes(trainer).all_or_none(analysis)
