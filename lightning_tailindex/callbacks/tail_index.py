"""The tail index of the stochastic gradient noise, measured while training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, final, get_args

from lightning_tailindex.analysis import Estimators, analyse, resolve_estimators
from lightning_tailindex.loggers import FigureName, NoisePresentation, check_names
from lightning_tailindex.noise.engine import Engine
from lightning_tailindex.noise.groups import GroupingName, check_grouping, compile_patterns, resolve_grouping
from lightning_tailindex.noise.processes import NoiseUnit
from lightning_tailindex.noise.random_state import check_seed, derived_seed, isolated_random_state
from lightning_tailindex.records import Report
from lightning_tailindex.records.notes import joined
from lightning_tailindex.trainer import (
    Batches,
    ExtraMinibatches,
    NoiseSettings,
    NoiseSource,
    TrainingGradients,
    check_dataloader,
    check_measurable,
    check_parameters,
    note_on_gradients,
    note_on_hooks,
    optimizer_steps,
    processes,
)
from lightning_tailindex.trainer.flavour import LightningModule, Trainer

from .arguments import check_at_least, check_choice, check_positive, given, resolve_figures, with_plain_numbers
from .monitor import Monitor

__all__ = ["TailIndexMonitor"]

_FEWEST_DRAWS = 16
"""With fewer draws a coordinate says too little about its own scale: in simulations the centre is biased below 16."""


@final
class TailIndexMonitor(Monitor[Report]):
    r"""Measures how heavy the tails of the stochastic gradient noise are, and logs it.

    At the scheduled optimizer steps, step 0 included, it draws extra minibatches of the training data, computes their
    gradients on a shadow of the module, and estimates the tail index :math:`\alpha` of

    .. math:: U = \nabla L_\text{minibatch}(w) - \nabla L(w)

    per group of parameters and for the whole model: across minibatches, coordinate by coordinate, each coordinate's
    scale left free. Beside each :math:`\alpha` stands the number that Gaussian noise of the same covariance gives.
    Training itself is bit for bit what it is without the callback.

    Args:
        every_n_steps: Optimizer steps between measurements, at least 1; None for as often as max_overhead allows,
            with source "training" for every 2 * num_minibatches.
        max_overhead: Extra minibatch passes per training minibatch that every_n_steps=None may cost, above 0.
        num_minibatches: Noise draws in a measurement, at least 16; more of them narrow the interval.
        full_gradient_batches: Minibatches averaged into the full gradient, at least 1; None for those of an epoch.
            The draws are part of them, so nothing is computed twice.
        group_by: Parameters analysed together: "module" (those of one submodule), "parameter", "model" (nothing finer
            than the whole model), or a function from a parameter's name to its group's.
        parameters: Regular expressions of the names of the parameters to measure; None for all.
        max_coordinates: Coordinates sampled in each group, at least 1, the same throughout a run; None for every one
            of them in pairs of draws, in at most 40 bytes of memory a parameter, and a sample of 1024.
        estimators: Name of an estimator in lightning_tailindex.functional, a NamedEstimator (name and arguments), or a
            function of draws [n, d] and the keyword pooled that returns a TailIndexEstimate; of several, the first is
            the headline.
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
        seed: Seed of the drawn minibatches, the sampled coordinates and the Gaussian surrogates, in [0, 2⁶³).
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

    @with_plain_numbers
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
        arguments = given(locals())
        _check(arguments)
        super().__init__(
            Report,
            NoisePresentation(resolve_figures(figures, get_args(FigureName)), figures_every, max_detailed_groups),
            arguments,
        )
        self.every_n_steps = every_n_steps
        self.max_overhead = max_overhead
        self.dataloader = dataloader
        self.source = source
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
        self._estimators = resolve_estimators(estimators)
        check_names(list(self._estimators))
        self._source: NoiseSource | None = None

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        check_measurable(trainer, module, self.settings.noise_unit, calls_step=self.source == "extra")

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        check_parameters(trainer, module, self.settings.patterns)
        check_grouping(module, self.settings.patterns, self.settings.grouping)
        if self.source == "training":
            self._source = TrainingGradients(trainer, self.settings)
        else:
            self._source = ExtraMinibatches(trainer, self.settings, self.dataloader)
        work, passes = self._source.work(trainer)
        interval = self.every_n_steps or math.ceil(passes / self.max_overhead) or 2 * self.settings.num_minibatches
        if passes:
            cost = f"{passes:.6g} extra minibatch passes each time, {passes / interval:.3g} per training minibatch"
            work = f"{work}; that is {cost} (every_n_steps, max_overhead)"
        return interval, "the gradient noise", work + self._source.note

    def _is_ready(self, trainer: Trainer) -> bool:
        assert self._source is not None
        return self._source.is_ready(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last state, or says why there is nothing to see."""
        has_waited = self._source is not None and self._schedule.is_waiting and not self._is_ready(trainer)
        waits_for = self._source.waits_for if has_waited and self._source is not None else ""
        self._why_nothing = f"training did not show it {waits_for}" if waits_for else ""
        super().on_train_end(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures if this step is one to measure at."""
        self._measure_if_due(trainer, pl_module)
        with self._failures.told(f"the minibatch of step {optimizer_steps(trainer)} could not be kept"):
            if self._source is not None and self._is_next(trainer, self._source):
                self._source.see(trainer, batch, batch_idx)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keeps what the optimizer is about to use, where the noise is taken from that."""
        with self._failures.told(f"the gradient of step {optimizer_steps(trainer)} could not be kept"):
            if self._source is not None and self._is_next(trainer, self._source):
                self._source.see_gradients(pl_module)

    def _is_next(self, trainer: Trainer, source: NoiseSource) -> bool:
        """Whether the next measurement needs to see what training does now."""
        return source.wants(trainer, self._schedule.steps_left(optimizer_steps(trainer)))

    def _report(self, trainer: Trainer, pl_module: LightningModule, step: int) -> Report:
        start = time.perf_counter()
        assert self._source is not None
        observation = self._source.observe(trainer, pl_module, step)
        weights = note_on_gradients(trainer, pl_module, self.settings.patterns, are_own=self.source == "training")
        hooks = note_on_hooks(pl_module, self.settings.patterns) if self.source == "extra" else ""
        seed = derived_seed(self.settings.seed, step)

        def analysis() -> Report:
            # an estimator of the user's may draw random numbers
            with isolated_random_state(seed, trainer.strategy.root_device):
                return analyse(
                    observation,
                    self._estimators,
                    step=step,
                    seed=seed,
                    note=joined(observation.note(self.settings.num_minibatches), weights, hooks),
                    clock=lambda: time.perf_counter() - start,
                )

        # callbacks that monitor the result wait for each other: all processes have it, or none
        return processes(trainer).all_or_none(analysis)


def _check(arguments: dict[str, Any]) -> None:
    """Checks the arguments that nothing else checks."""
    for name in ("every_n_steps", "full_gradient_batches", "max_coordinates", "max_detailed_groups"):
        check_at_least(name, arguments[name], 1, or_none=True)
    check_at_least("num_minibatches", arguments["num_minibatches"], _FEWEST_DRAWS)
    check_at_least("figures_every", arguments["figures_every"], 1)
    check_seed(arguments["seed"])
    check_positive("max_overhead", arguments["max_overhead"])
    check_choice("noise_unit", arguments["noise_unit"], get_args(NoiseUnit))
    check_choice("engine", arguments["engine"], get_args(Engine))
    check_dataloader(arguments["dataloader"])
    _check_source(arguments["source"], arguments["noise_unit"], arguments["dataloader"])


def _check_source(source: str, noise_unit: str, dataloader: object) -> None:
    """Refuses an unknown source of gradients, and what goes with extra minibatches only."""
    check_choice("source", source, ("extra", "training"))
    if source == "training" and (noise_unit != "step" or dataloader is not None):
        raise ValueError(
            'source="training" takes what optimizer steps consume: noise_unit must be "step" and dataloader None, got'
            f" {noise_unit!r} and {dataloader!r}."
        )
