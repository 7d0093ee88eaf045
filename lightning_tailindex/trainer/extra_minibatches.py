"""The gradient noise of extra minibatches, drawn beside those that training consumes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightning.pytorch import LightningModule, Trainer

from lightning_tailindex.noise.engine import collect_gradients
from lightning_tailindex.noise.groups import Grouping, measured_parameters
from lightning_tailindex.noise.minibatches import SweepPlan, plan_minibatches
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.random_state import derived_seed
from lightning_tailindex.noise.recorder import Recorder, combine

from .data import Replay, can_read_again, sweep_plan, training_data
from .loss import borrowed_loss
from .state import needs_loss_scale, processes

__all__ = ["ExtraMinibatches", "NoiseSettings"]


@dataclass(frozen=True)
class NoiseSettings:
    """What is measured, as the arguments of ``TailIndexMonitor`` of the same names say.

    Attributes:
        num_minibatches: Noise draws.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.
        grouping: Function from a parameter's name to its group's.
        patterns: Expressions of the parameters' names; none for all.
        max_coordinates: Coordinates sampled per group; None for every one.
        seed: Seed of everything that is drawn.
    """

    num_minibatches: int
    full_gradient_batches: int | None
    grouping: Grouping
    patterns: tuple[re.Pattern[str], ...]
    max_coordinates: int | None
    seed: int


class ExtraMinibatches:
    """Computes the gradients of extra minibatches; of those that training last saw, where data are read only once.

    Args:
        trainer: The trainer, whose data decide.
        settings: What is measured.
    """

    def __init__(self, trainer: Trainer, settings: NoiseSettings) -> None:
        self._settings = settings
        is_stream = not can_read_again(trainer)
        length = settings.num_minibatches * trainer.accumulate_grad_batches
        self._replay = Replay(length) if is_stream else None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to measure."""
        return self._replay is None or self._replay.is_full

    @property
    def note(self) -> str:
        """What the reader of the announcement has to know of the data."""
        return "" if self._replay is None else ", on the last minibatches of the stream that training saw"

    def wants(self, steps_left: int) -> bool:
        """Whether training's minibatches are to be shown, so many steps before the next measurement."""
        return self._replay is not None and steps_left <= self._settings.num_minibatches

    def see(self, batch: object) -> None:
        """Keeps a batch that training is about to use."""
        assert self._replay is not None
        self._replay.see(batch)

    def plan(self, trainer: Trainer) -> SweepPlan:
        """Says what a measurement takes."""
        if self._replay is None:
            return sweep_plan(trainer, self._settings.num_minibatches, self._settings.full_gradient_batches)
        n, accumulation = self._settings.num_minibatches, trainer.accumulate_grad_batches
        return SweepPlan(n, None, n * accumulation, accumulation)

    def observe(self, trainer: Trainer, module: LightningModule, step: int) -> NoiseObservation:
        """Measures; every process has to call it, and none waits for one that failed.

        Args:
            trainer: The trainer.
            module: The module in training.
            step: Optimizer steps taken.

        Returns:
            The noise, the same in all processes.

        Raises:
            OtherProcessError: If another process failed.
        """
        together = processes(trainer)
        recorder: Recorder | None = None
        error: Exception | None = None
        try:
            recorder = self._collect(trainer, module, step)
        except Exception as failure:
            error = failure
        together.agree(error, 0 if recorder is None else recorder.num_draws)
        assert recorder is not None
        return combine(recorder, together)

    def _collect(self, trainer: Trainer, module: LightningModule, step: int) -> Recorder:
        settings, seed = self._settings, derived_seed(self._settings.seed, step, trainer.global_rank)
        with borrowed_loss(trainer, module, seed, is_transferred=self._replay is not None) as (shadow, loss):
            plan = self.plan(trainer)
            batches = training_data(trainer, (settings.seed, step)) if self._replay is None else self._replay
            return collect_gradients(
                shadow,
                measured_parameters(shadow, settings.patterns),
                settings.grouping,
                plan_minibatches(batches, plan),
                loss,
                num_draws=plan.num_minibatches,
                max_coordinates=settings.max_coordinates,
                seed=settings.seed,
                scale_loss=needs_loss_scale(trainer),
            )
