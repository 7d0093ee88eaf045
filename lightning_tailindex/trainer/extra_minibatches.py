"""The gradient noise of extra minibatches, drawn beside those that training consumes."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from lightning_tailindex.noise.engine import Engine, collect_gradients
from lightning_tailindex.noise.groups import Grouping, measured_parameters
from lightning_tailindex.noise.minibatches import SweepPlan, plan_minibatches
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import NoiseUnit, Processes
from lightning_tailindex.noise.random_state import derived_seed
from lightning_tailindex.noise.recorder import Recorder, combine
from lightning_tailindex.noise.vectorized import CannotVectorizeError

from .data import Data, Replay, can_read_again, own_data, training_data
from .flavour import LightningModule, Trainer, rank_zero_info
from .loss import borrowed_loss
from .progress import MeasurementBar
from .state import is_sharded, needs_loss_scale, processes

__all__ = ["ExtraMinibatches", "NoiseSettings"]

_SAMPLE = 1024  # for what needs all draws at once, where every coordinate is measured


@dataclass(frozen=True)
class NoiseSettings:
    """What is measured, as the arguments of ``TailIndexMonitor`` of the same names say.

    Attributes:
        num_minibatches: Noise draws, over all processes.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.
        grouping: Function from a parameter's name to its group's.
        patterns: Expressions of the parameters' names; none for all.
        max_coordinates: Coordinates sampled per group; None for every one of them in pairs of draws, and a sample.
        seed: Seed of everything that is drawn.
        noise_unit: What a draw is.
        engine: How gradients are computed.
    """

    num_minibatches: int
    full_gradient_batches: int | None
    grouping: Grouping
    patterns: tuple[re.Pattern[str], ...]
    max_coordinates: int | None
    seed: int
    noise_unit: NoiseUnit = "step"
    engine: Engine = "auto"

    @property
    def sample_size(self) -> int:
        """Coordinates per group whose draws are kept."""
        return _SAMPLE if self.max_coordinates is None else self.max_coordinates

    def pairs(self, measured: Mapping[str, nn.Parameter], together: Processes) -> PairRecorder | None:
        """Makes what takes every coordinate, where that is wanted."""
        return PairRecorder(measured, together) if self.max_coordinates is None else None

    def accumulation(self, trainer: Trainer) -> int:
        """Returns the loader batches of one process in a draw."""
        return trainer.accumulate_grad_batches if self.noise_unit == "step" else 1

    def share(self, total: int, trainer: Trainer) -> int:
        """Returns how many of all minibatches a process computes; where they are its own, all compute as many."""
        return total if self.noise_unit == "step" else -(-total // trainer.world_size)


class ExtraMinibatches:
    """Computes the gradients of extra minibatches; of those that training last saw, where data are read only once.

    Args:
        trainer: The trainer, whose data decide.
        settings: What is measured.
        dataloader: What the minibatches are taken from instead of the training data; None for the training data.
    """

    def __init__(self, trainer: Trainer, settings: NoiseSettings, dataloader: Iterable[object] | None = None) -> None:
        self._settings = settings
        self._dataloader = dataloader
        is_stream = dataloader is None and not can_read_again(trainer)
        length = settings.share(settings.num_minibatches, trainer) * settings.accumulation(trainer)
        self._replay = Replay(length) if is_stream else None
        self._engine = settings.engine
        self._bar = MeasurementBar("Gradient noise")
        self._steps_to_fill = -(-length // trainer.accumulate_grad_batches)

    def is_ready(self, trainer: Trainer) -> bool:
        """Whether there is something to measure in every process; each of them has to ask, and at the same steps."""
        return self._replay is None or processes(trainer).all(self._replay.is_full)

    @property
    def note(self) -> str:
        """What the reader of the announcement has to know of the data."""
        return "" if self._replay is None else ", on the last minibatches of the stream that training saw"

    def wants(self, steps_left: int) -> bool:
        """Whether training's minibatches are to be shown, so many steps before the next measurement."""
        return self._replay is not None and steps_left <= self._steps_to_fill

    def see(self, batch: object) -> None:
        """Keeps a batch that training is about to use."""
        assert self._replay is not None
        self._replay.see(batch)

    def work(self, trainer: Trainer) -> tuple[str, float]:
        """Says what a measurement takes: in words, and in minibatch passes, those of training being the unit."""
        plan, settings = self._plan(trainer, self._data(trainer)), self._settings
        is_step = settings.noise_unit == "step"
        times = 1 if is_step else trainer.world_size
        passes = plan.num_passes * plan.accumulation / trainer.accumulate_grad_batches
        each = "minibatches" if is_step else "loader batches"
        return f"{plan.num_minibatches * times} draws and a full gradient over {plan.num_full * times} {each}", passes

    def _data(self, trainer: Trainer) -> Data:
        if self._dataloader is not None:
            return own_data(self._dataloader, trainer)
        return training_data(trainer) if self._replay is None else self._replay.data()

    def _plan(self, trainer: Trainer, data: Data) -> SweepPlan:
        settings, accumulation = self._settings, self._settings.accumulation(trainer)
        draws, full = settings.share(settings.num_minibatches, trainer), settings.full_gradient_batches
        full = None if full is None else settings.share(full, trainer)
        length = max(draws, full or 0) * accumulation if data.sweep_length is None else data.sweep_length
        return SweepPlan(draws, None if self._replay else full, length, accumulation, data.batch_size)

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
        together = processes(trainer, self._settings.noise_unit)
        recorder = together.all_or_none(
            lambda: self._collect(trainer, module, step, together), lambda own: own.num_draws
        )
        if is_sharded(trainer):
            gc.collect()  # the states and hooks of a sharded shadow hold each other, and with them its memory
        return combine(recorder, together)

    def _collect(self, trainer: Trainer, module: LightningModule, step: int, together: Processes) -> Recorder:
        try:
            return self._compute(trainer, module, step, together)
        except CannotVectorizeError as error:
            reason, wanted, self._engine = str(error), self._engine, "loop"
        try:
            recorder = self._compute(trainer, module, step, together)
        except Exception:
            self._engine = wanted  # what was wrong was not the engine
            raise
        rank_zero_info(f"TailIndexMonitor: minibatches are computed one by one from here on: {reason.rstrip('.')}.")
        return recorder

    def _compute(self, trainer: Trainer, module: LightningModule, step: int, together: Processes) -> Recorder:
        settings, seed = self._settings, derived_seed(self._settings.seed, step, trainer.global_rank)
        is_transferred = self._replay is not None
        with borrowed_loss(trainer, module, seed, together.in_step, is_transferred=is_transferred) as (shadow, loss):
            data = self._data(trainer)
            plan = self._plan(trainer, data)
            measured = measured_parameters(shadow, settings.patterns)
            return collect_gradients(
                shadow,
                measured,
                settings.grouping,
                self._bar.over(plan_minibatches(data.read((settings.seed, step)), plan), trainer, plan.num_passes),
                loss,
                num_draws=plan.num_minibatches,
                max_coordinates=settings.sample_size,
                seed=settings.seed,
                scale_loss=needs_loss_scale(trainer),
                engine=self._engine,
                pairs=settings.pairs(measured, together),
            )
