"""The gradient noise of extra minibatches, drawn beside those that training consumes."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import final

from lightning_tailindex.noise.combining import combine
from lightning_tailindex.noise.engine import collect_gradients
from lightning_tailindex.noise.groups import measured_parameters
from lightning_tailindex.noise.minibatches import SweepPlan, plan_minibatches
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.random_state import derived_seed
from lightning_tailindex.noise.recorder import Recorder
from lightning_tailindex.noise.vectorized import CannotVectorizeError

from .batch_sizes import BatchSizes, UsualSize
from .data import Data, Replay, can_read_again, data_of, why_not_again
from .flavour import LightningModule, Trainer
from .lines import tell
from .loss import borrowed_loss
from .progress import MeasurementBar
from .source import NoiseSettings, NoiseSource
from .state import may_shard, needs_loss_scale, processes

__all__ = ["ExtraMinibatches"]


@final
class ExtraMinibatches(NoiseSource):
    """Computes the gradients of extra minibatches; of those that training last saw, where data are read only once.

    Args:
        trainer: The trainer, whose data decide.
        settings: What is measured.
        dataloader: What the minibatches are taken from instead of the training data; None for the training data.
    """

    def __init__(self, trainer: Trainer, settings: NoiseSettings, dataloader: Iterable[object] | None = None) -> None:
        self._settings = settings
        self._dataloader = dataloader
        self._replay: Replay | None = None
        self._looked_at: object = None
        self._reason = ""
        self._look(trainer)
        self._sizes, self._usual = BatchSizes(), UsualSize()
        self._engine = settings.engine
        self._bar = MeasurementBar("Gradient noise")

    def _look(self, trainer: Trainer) -> None:
        """Looks whether the data are a stream, which loaders of a later epoch may be too."""
        loader = trainer.fit_loop._combined_loader
        if self._replay is None and self._dataloader is None and loader is not self._looked_at:
            self._looked_at = loader  # once, because its length may take long to find
            together = processes(trainer)
            # the processes keep batches together, or none does
            is_read_again = together.all(together.all_or_none(lambda: can_read_again(trainer)))
            self._replay = None if is_read_again else Replay(self._length(trainer))
            self._reason = why_not_again(trainer)

    def _length(self, trainer: Trainer) -> int:
        """Batches of a stream that the draws take; more where a schedule has more of them accumulated."""
        return self._settings.share(self._settings.num_minibatches, trainer) * self._settings.accumulation(trainer)

    def is_ready(self, trainer: Trainer) -> bool:
        """Whether this process has batches: always, or once training has seen enough of a stream."""
        self._look(trainer)
        return self._replay is None or (self._replay.is_full and self._replay.length == self._length(trainer))

    @property
    def note(self) -> str:
        """Says that the data are not read again, if they are not: a stream's, or those of what cannot be copied."""
        return "" if self._replay is None else f", on the last minibatches that training saw, as {self._reason}"

    @property
    def waits_for(self) -> str:
        """The minibatches that are measured, where they are those that training saw."""
        return "" if self._replay is None else f"{self._replay.length} minibatches"

    def wants(self, trainer: Trainer, steps_left: int) -> bool:
        """Whether these are among the last batches of a stream."""
        self._look(trainer)
        return self._replay is not None and steps_left <= -(-self._length(trainer) // trainer.accumulate_grad_batches)

    def see(self, trainer: Trainer, batch: object, batch_idx: int) -> None:
        """Keeps a copy of the batch, but for those at an epoch's end that are smaller than others."""
        assert self._replay is not None
        if self._replay.length != self._length(trainer):
            self._replay = Replay(self._length(trainer))
        size = self._sizes.of(trainer, batch)
        if not self._usual.is_cut(trainer, size or 1):
            self._replay.see(batch, size)

    def see_gradients(self, module: LightningModule) -> None:
        """Needs none of them."""

    def work(self, trainer: Trainer) -> tuple[str, float]:
        """Counts the passes of the plan."""
        data, settings = self._data(trainer), self._settings
        plan = self._plan(trainer, data, data.ends_short())
        is_step = settings.noise_unit == "step"
        times = 1 if is_step else trainer.world_size
        passes = plan.num_passes * plan.accumulation / trainer.accumulate_grad_batches
        draws, full = plan.num_minibatches * times, plan.num_full * times
        each = f"{'minibatch' if is_step else 'loader batch'}{'es' if full > 1 else ''}"
        return f"{draws} draws and a full gradient over {full} {each}", passes

    def _data(self, trainer: Trainer) -> Data:
        return data_of(trainer, self._dataloader, self._replay)

    def _plan(self, trainer: Trainer, data: Data, ends_short: bool) -> SweepPlan:
        settings, accumulation = self._settings, self._settings.accumulation(trainer)
        draws, full = settings.share(settings.num_minibatches, trainer), settings.full_gradient_batches
        full = None if full is None or self._replay else settings.share(full, trainer)
        length = max(draws, full or 0) * accumulation if data.sweep_length is None else data.sweep_length
        return SweepPlan(draws, full, length, accumulation, data.batch_size, ends_short)

    def observe(self, trainer: Trainer, module: LightningModule, step: int) -> NoiseObservation:
        """Computes the gradients of extra minibatches."""
        together = processes(trainer, self._settings.noise_unit)
        # where one process has fewer samples, all leave out the same minibatch, so that none waits for another's pass
        is_whole = together.all(together.all_or_none(lambda: not self._data(trainer).ends_short()))
        recorder = together.all_or_none(
            lambda: self._collect(trainer, module, step, together, ends_short=not is_whole), lambda own: own.num_draws
        )
        if may_shard(trainer):
            gc.collect()  # the states and hooks of a sharded shadow hold each other, and with them its memory
        return combine(recorder, together)

    def _collect(
        self, trainer: Trainer, module: LightningModule, step: int, together: Processes, *, ends_short: bool
    ) -> Recorder:
        try:
            return self._compute(trainer, module, step, together, ends_short=ends_short)
        except CannotVectorizeError as error:
            reason, wanted, self._engine = str(error), self._engine, "loop"
        try:
            recorder = self._compute(trainer, module, step, together, ends_short=ends_short)
        except Exception:
            self._engine = wanted  # what was wrong was not the engine
            raise
        how = "minibatches are computed one by one from here on, which only takes longer"
        tell(f"Gradient noise: {how}. torch.func cannot vectorize this training_step: {reason}.")
        return recorder

    def _compute(
        self, trainer: Trainer, module: LightningModule, step: int, together: Processes, *, ends_short: bool
    ) -> Recorder:
        settings, seed = self._settings, derived_seed(self._settings.seed, step, trainer.global_rank)
        is_transferred = self._replay is not None
        with borrowed_loss(trainer, module, seed, together.in_step, is_transferred=is_transferred) as (shadow, loss):
            data = self._data(trainer)
            plan = self._plan(trainer, data, ends_short)
            measured = measured_parameters(shadow, settings.patterns)
            pairs = settings.pairs(measured, together)
            # each of such draws waits for the others': none can begin anew with the loop
            engine = "loop" if pairs is not None and together.per_draw > 1 else self._engine
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
                engine=engine,
                pairs=pairs,
            )
