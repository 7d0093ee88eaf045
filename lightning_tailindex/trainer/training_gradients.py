"""The gradient noise in the gradients that training computes anyway: no extra passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex.noise.coordinates import CoordinateSample, kept_dtype, real_coordinates, sample_parameters
from lightning_tailindex.noise.groups import group_names, measured_parameters
from lightning_tailindex.noise.lengths import loader_batch_size
from lightning_tailindex.noise.observation import GroupNoise, NoiseObservation
from lightning_tailindex.noise.pairs import PairNoise, PairRecorder
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.recorder import flat_gradient
from lightning_tailindex.noise.sharded import OwnCoordinates

from .batch_sizes import BatchSizes, UsualSize
from .flavour import LightningModule, MisconfigurationException, Trainer
from .source import NoiseSettings, NoiseSource
from .state import may_shard, processes

__all__ = ["TrainingGradients"]

_NONE = -2  # no step, and none follows it
_LEAST_PAIRED = 0.5  # of the steps of a window


def _gathered(parameter: nn.Parameter, index: Tensor) -> Tensor:
    """Takes sampled coordinates of a gradient; a parameter that a step did not reach has a gradient of 0."""
    if parameter.grad is None:
        return torch.zeros(len(index), dtype=parameter.dtype.to_real(), device=index.device)
    return flat_gradient(parameter.grad).index_select(0, index)


@final
class TrainingGradients(NoiseSource):
    """Keeps sampled coordinates of the gradients of the last optimizer steps; their differences in pairs are the noise.

    In the difference of two consecutive steps' gradients the full gradient cancels, up to what one step changes of
    it. It has the tail index of the noise; over the root of 2, as here, it has a Gaussian's scale too. Gradients are
    taken as the optimizer is about to get them: averaged over processes, unscaled, before they are clipped.

    Left out are steps at the end of an epoch that consume fewer samples than others, one whose training step had no
    loss, further steps on the same batch, and what an optimizer with a closure evaluates after the first time in a
    step. Where steps could not be seen, consume another number of samples, or train other parameters than before, it
    begins anew.

    Args:
        trainer: The trainer.
        settings: What is measured; minibatches are what an optimizer step consumes.
    """

    def __init__(self, trainer: Trainer, settings: NoiseSettings) -> None:
        if len(trainer.optimizers) > 1:
            raise MisconfigurationException(
                f'source="training" needs one optimizer, got {len(trainer.optimizers)}: whose step is a minibatch?'
            )
        self._settings = settings
        # but for shards, each process has the whole of what training averaged
        self._together = processes(trainer) if may_shard(trainer) else Processes()
        self._kept: deque[dict[str, Tensor]] = deque(maxlen=2 * settings.num_minibatches)
        self._epochs: deque[int] = deque(maxlen=2 * settings.num_minibatches)  # in which these were seen
        self._sample: CoordinateSample | None = None
        self._own: OwnCoordinates | None = None
        self._groups: dict[str, tuple[str, ...]] = {}
        self._pairs: PairRecorder | None = None
        self._measured: Mapping[str, nn.Parameter] = {}
        self._walked: tuple[nn.Parameter, ...] = ()
        self._trained: tuple[int, ...] = ()
        self._last_step = _NONE
        self._size = 0  # samples that this process has seen since the last step
        self._is_sized = True
        self._sizes, self._usual = BatchSizes(), UsualSize()
        self._consumed: tuple[int | None, ...] = ()
        self._num_paired = 0

    @property
    def note(self) -> str:
        """Nothing is special."""
        return ""

    @property
    def waits_for(self) -> str:
        """Steps between which nothing changes that makes the noise another one."""
        return f"{2 * self._settings.num_minibatches} steps in a row of the same parameters and batch sizes"

    def is_ready(self, trainer: Trainer) -> bool:
        """Whether enough steps were seen; of every coordinate, half of them since the last one."""
        needed = 2 * self._settings.num_minibatches
        is_paired = self._settings.max_coordinates is not None or self._num_paired >= _LEAST_PAIRED * needed
        return len(self._kept) == needed and is_paired

    def wants(self, trainer: Trainer, steps_left: int) -> bool:
        """Whether these are among the steps whose gradients are kept."""
        return steps_left <= 2 * self._settings.num_minibatches

    def see(self, trainer: Trainer, batch: object, batch_idx: int) -> None:
        """Counts the samples of the batch; begins anew where steps consume more or fewer loader batches than before."""
        loaders: Any = trainer.fit_loop._combined_loader
        sizes = (loader_batch_size(each) if isinstance(each, DataLoader) else None for each in loaders.flattened)
        consumed = (trainer.accumulate_grad_batches, *sizes)
        if consumed != self._consumed:
            self._forget()
            self._consumed, self._sizes = consumed, BatchSizes()
            self._usual.largest = 0  # what processes agreed upon for the epoch stays
        if batch_idx == 0:
            self._size = 0  # the end of an epoch that took no step
        size = self._sizes.of(trainer, batch)
        self._size, self._is_sized = self._size + (size or 1), self._is_sized and size is not None

    def work(self, trainer: Trainer) -> tuple[str, float]:
        """Counts the steps; there are no passes."""
        steps = 2 * self._settings.num_minibatches
        return f"the gradients of {steps} steps of training in pairs, as soon as these are seen; no extra passes", 0.0

    @torch.no_grad()  # a gradient to differentiate again would be kept with its graph
    def see_gradients(self, module: LightningModule) -> None:
        """Keeps sampled coordinates of the gradients."""
        step, size, self._size = module.trainer.global_step, self._size, 0
        if step == self._last_step:
            return  # an optimizer that evaluates its closure once more
        if step != self._last_step + 1:
            self._forget()  # pairs are of consecutive steps
        self._last_step = _NONE  # if this one cannot be kept
        if size > 0 and not self._usual.is_cut(module.trainer, size, module.trainer.accumulate_grad_batches):
            self._see_step(module)
        self._last_step = step

    def _see_step(self, module: LightningModule) -> None:
        self._adapt(module)
        if all(parameter.grad is None for parameter in self._measured.values()):
            return
        self._kept.append(self._row())
        self._epochs.append(module.trainer.current_epoch)
        if self._settings.max_coordinates is None:
            self._see_every_coordinate()

    def _forget(self) -> None:
        """Begins anew."""
        self._kept.clear()
        self._epochs.clear()
        self._pairs, self._num_paired = None, 0

    def _adapt(self, module: LightningModule) -> None:
        """Finds the parameters to measure, and samples coordinates where they are others than before.

        They are looked for only where the optimizer has others, or others are trained: to walk through a small module
        takes about as long as its pass.
        """
        if self._is_trained(module) == self._trained:
            return
        self._walked = tuple(module.parameters())
        measured = measured_parameters(module, self._settings.patterns)
        if _sizes(measured) != _sizes(self._measured):
            self._forget()
            self._groups = group_names(measured, self._settings.grouping)
            self._sample = sample_parameters(measured, self._groups, self._settings.sample_size, self._settings.seed)
            self._own = OwnCoordinates.of(self._sample, measured)
        self._measured, self._trained = measured, self._is_trained(module)

    def _is_trained(self, module: LightningModule) -> tuple[int, ...]:
        """Which parameters the optimizer has, and whether each one that was found before is trained."""
        held = (id(each) for group in module.trainer.optimizers[0].param_groups for each in group["params"])
        return (*held, *(each.requires_grad for each in self._walked))

    def _row(self) -> dict[str, Tensor]:
        """The gradient at the sampled coordinates that this process holds; put together only when it is needed."""
        assert self._own is not None
        return {name: _gathered(self._measured[name], index) for name, index in self._own.indices.items()}

    def _see_every_coordinate(self) -> None:
        """Shows the whole gradient to what takes it in pairs, but for a step that mixed precision is about to skip."""
        if self._pairs is None:
            self._pairs = self._settings.pairs(self._measured, self._together)
        assert self._pairs is not None
        self._num_paired += 1
        gradients = {name: flat_gradient(p.grad) for name, p in self._measured.items() if p.grad is not None}
        if self._together.all(all(map(_is_finite, gradients.values()))):
            self._pairs.record(gradients)

    def observe(self, trainer: Trainer, module: LightningModule, step: int) -> NoiseObservation:
        """Forms the noise from the gradients kept; norms are those of the sampled coordinates, scaled up."""
        if may_shard(trainer):
            return self._observe(trainer)  # which waits for the others where it has to
        return processes(trainer).all_or_none(lambda: self._observe(trainer), _num_pairs)

    def _observe(self, trainer: Trainer) -> NoiseObservation:
        # the next measurement's begin after this one, even if this one fails
        recorder, self._pairs, self._num_paired = self._pairs, None, 0
        rows = self._together.whole(self._together.all_or_none(self._rows))
        rows = rows[rows.isfinite().all(1)]  # a step that automatic mixed precision skipped
        pairs = self._together.all_or_none(lambda: {} if recorder is None else recorder.noise(self._groups))
        groups = tuple(self._group(name, rows, pairs.get(name)) for name in self._groups)
        size = self._usual.largest * trainer.world_size * self._is_sized
        return NoiseObservation(groups, len(rows) // 2, 0, size, shares_data=self._epochs[0] < self._epochs[-1])

    def _rows(self) -> Tensor:
        """The rows of all steps, [steps, coordinates], 0 where another process holds a coordinate."""
        assert self._own is not None
        dtype, device = kept_dtype(self._measured.values()), next(iter(self._measured.values())).device
        parts = [torch.stack([gradients[name] for gradients in self._kept]) for name in self._own.indices]
        return self._own.rows(torch.cat([part.to(device, dtype) for part in parts], dim=1))

    def _group(self, name: str, rows: Tensor, pairs: PairNoise | None) -> GroupNoise:
        assert self._sample is not None
        columns, size = self._sample.columns[name].to(rows.device), self._sample.sizes[name]
        own, more = rows[:, columns], (size / max(len(columns), 1)) ** 0.5
        first, second = own[: len(own) // 2 * 2 : 2], own[1::2]
        noise = (second - first) / 2**0.5
        return GroupNoise(
            name=name,
            gradients=noise,
            full_gradient=rows.new_zeros(len(columns)),
            num_coordinates=size,
            gradient_norm=torch.linalg.vector_norm(own.mean(0)) * more,
            noise_norm=noise.square().sum(1).mean().sqrt() * more,
            pairs=pairs,
            left_out=(first == 0) | (second == 0),
        )


def _sizes(measured: Mapping[str, nn.Parameter]) -> dict[str, int]:
    return {name: real_coordinates(parameter) for name, parameter in measured.items()}


def _num_pairs(found: NoiseObservation) -> int:
    """Counts the pairs of all coordinates: where a step could not be kept, a process has fewer than others."""
    return sum(len(group.pairs.curves) for group in found.groups if group.pairs is not None)


def _is_finite(gradient: Tensor) -> bool:
    """Whether all of it is, by one pass; half precision has no room for sums."""
    return bool(gradient.sum(dtype=torch.promote_types(gradient.dtype, torch.float32)).isfinite())
