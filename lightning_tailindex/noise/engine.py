"""From minibatches to gradient noise: one backward pass per loader batch, and little else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .coordinates import CoordinateSample
from .minibatches import Minibatch

__all__ = ["GroupNoise", "NoiseObservation", "Processes", "observe_noise", "real_coordinates"]

_LOSS_SCALE = 1024.0
"""Half-precision gradients underflow below 6e-8; a power of two is divided out again without rounding."""


@dataclass(frozen=True)
class GroupNoise:
    """The gradient noise of one group of parameters.

    Attributes:
        name: The group's name.
        gradients: Minibatch gradients at the sampled coordinates, ``[n, d]``.
        full_gradient: Full gradient at the same coordinates, ``[d]``.
        num_coordinates: Coordinates that the group has in all.
        gradient_norm: Euclidean norm of the full gradient over all coordinates.
        noise_norm: Root mean square, over the draws, of the noise's norm over all coordinates.
    """

    name: str
    gradients: Tensor
    full_gradient: Tensor
    num_coordinates: int
    gradient_norm: Tensor
    noise_norm: Tensor

    @property
    def noise(self) -> Tensor:
        """Minibatch gradient − full gradient at the sampled coordinates, ``[n, d]``."""
        return self.gradients - self.full_gradient

    @property
    def nonzero_noise(self) -> Tensor:
        """The noise, but 0 where a minibatch's gradient is exactly 0, ``[n, d]``.

        A dead unit's gradient is 0 in minibatch after minibatch, so its noise is a spike at minus the full gradient.
        Estimators count exact zeros apart and leave them out.
        """
        return torch.where(self.gradients == 0, 0, self.noise)


@dataclass(frozen=True)
class NoiseObservation:
    """The gradient noise at one point of training.

    Attributes:
        groups: One entry per group, the whole model last.
        num_draws: Minibatches whose gradients are draws, n.
        num_full_minibatches: Minibatches averaged into the full gradient.
        minibatch_size: Samples in a minibatch over all processes; 0 where nobody knows.
        shares_data: Whether some draws use samples that other draws used too.
    """

    groups: tuple[GroupNoise, ...]
    num_draws: int
    num_full_minibatches: int
    minibatch_size: int
    shares_data: bool


@dataclass(frozen=True)
class Processes:
    """The processes that measure together.

    Attributes:
        count: How many they are.
        mean: Averages a tensor over them.
    """

    count: int = 1
    mean: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)


def real_coordinates(parameter: Tensor) -> int:
    """Counts the real numbers in a parameter; a complex one has two per entry."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _flat(gradient: Tensor) -> Tensor:
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1)


class _Recorder:
    """Keeps of each gradient what the measurement needs: sampled coordinates, squared norms and two sums."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], sample: CoordinateSample, num_draws: int) -> None:
        device = next(iter(parameters.values())).device
        is_double = any(p.dtype in (torch.float64, torch.complex128) for p in parameters.values())
        dtype = torch.float64 if is_double else torch.float32
        self.sample = sample
        self.indices = {name: index.to(parameters[name].device) for name, index in sample.indices.items()}
        self.rows = torch.zeros(num_draws, sample.width, dtype=dtype, device=device)
        self.square = {name: torch.zeros((), dtype=dtype, device=p.device) for name, p in parameters.items()}
        self.draw_sum = {
            name: torch.zeros(real_coordinates(p), dtype=dtype, device=p.device) for name, p in parameters.items()
        }
        self.full_sum = {name: torch.zeros_like(total) for name, total in self.draw_sum.items()}
        self.num_draws = 0
        self.num_full = 0
        self.full_weight = 0
        self.largest = 0
        self.shares_data = False

    def record(self, minibatch: Minibatch, gradients: Mapping[str, Tensor]) -> None:
        """Takes one minibatch's gradient."""
        for name, gradient in gradients.items():
            if minibatch.is_draw:
                self._draw(name, gradient)
            if minibatch.in_full_gradient:
                self.full_sum[name].add_(gradient, alpha=minibatch.weight)
        self.num_draws += minibatch.is_draw
        self.num_full += minibatch.in_full_gradient
        self.full_weight += minibatch.weight * minibatch.in_full_gradient
        self.largest = max(self.largest, minibatch.weight)
        self.shares_data |= minibatch.sweep > 0

    def _draw(self, name: str, gradient: Tensor) -> None:
        self.draw_sum[name].add_(gradient)
        self.square[name].add_(torch.linalg.vector_norm(gradient, dtype=self.rows.dtype).square())
        if name in self.indices:
            self.rows[self.num_draws, self.sample.slices[name]] = gradient[self.indices[name]].to(self.rows)


def _moments(recorder: _Recorder, processes: Processes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the full gradient's and the noise's mean squared norm per parameter, over all processes.

    A process sees its own share of a minibatch. Shares are independent, so the noise of their average has the mean
    square of one share's noise over the number of processes.
    """
    gradient_square, noise_square = {}, {}
    n = max(recorder.num_draws, 1)
    for name, total in recorder.full_sum.items():
        full = processes.mean(total / max(recorder.full_weight, 1))
        own = recorder.square[name] / n - 2 * (recorder.draw_sum[name] / n) @ full + full @ full
        gradient_square[name] = (full @ full).to(recorder.rows.device)
        noise_square[name] = (processes.mean(own) / processes.count).to(recorder.rows.device)
        recorder.full_sum[name] = full
    return gradient_square, noise_square


def _group(
    name: str,
    parameters: Iterable[str],
    recorder: _Recorder,
    rows: Tensor,
    full: Tensor,
    moments: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> GroupNoise:
    columns = recorder.sample.columns[name].to(rows.device)
    gradient_square, noise_square = (torch.stack([part[p] for p in parameters]).sum() for part in moments)
    return GroupNoise(
        name=name,
        gradients=rows[:, columns],
        full_gradient=full[columns],
        num_coordinates=recorder.sample.sizes[name],
        gradient_norm=gradient_square.sqrt(),
        noise_norm=noise_square.clamp(min=0).sqrt(),  # rounding may leave a tiny negative number
    )


def _observation(recorder: _Recorder, groups: Mapping[str, tuple[str, ...]], processes: Processes) -> NoiseObservation:
    moments = _moments(recorder, processes)
    rows = processes.mean(recorder.rows[: recorder.num_draws])
    full = torch.cat([recorder.full_sum[name][index].to(rows.device) for name, index in recorder.indices.items()])
    return NoiseObservation(
        groups=tuple(_group(name, members, recorder, rows, full, moments) for name, members in groups.items()),
        num_draws=recorder.num_draws,
        num_full_minibatches=recorder.num_full,
        minibatch_size=recorder.largest * processes.count,
        shares_data=recorder.shares_data,
    )


def _gradients(
    minibatch: Minibatch,
    loss_fn: Callable[[object], Tensor | None],
    parameters: Mapping[str, nn.Parameter],
    scale: float,
) -> dict[str, Tensor] | None:
    """Computes a minibatch's gradient, averaged over its loader batches; None where no loss was returned.

    ``backward`` on the shadow's own leaves, and not ``autograd.grad``, because reentrant activation checkpointing
    works with nothing else.
    """
    for parameter in parameters.values():
        parameter.grad = None
    for batch in minibatch.batches:
        loss = loss_fn(batch)
        if loss is None:
            return None
        torch.autograd.backward(loss * (scale / len(minibatch.batches)))
    flat = {name: _flat(parameter.grad) for name, parameter in parameters.items() if parameter.grad is not None}
    return flat if scale == 1 else {name: gradient / scale for name, gradient in flat.items()}


def observe_noise(
    parameters: Mapping[str, nn.Parameter],
    groups: Mapping[str, tuple[str, ...]],
    sample: CoordinateSample,
    minibatches: Iterable[Minibatch],
    loss_fn: Callable[[object], Tensor | None],
    *,
    num_draws: int,
    processes: Processes | None = None,
    scale_loss: bool = False,
) -> NoiseObservation:
    """Computes the gradients of minibatches and what the noise's analysis needs of them.

    Memory: the draws' sampled coordinates, ``[n, d]``, and two sums of the size of the measured parameters.

    Args:
        parameters: The measured parameters by name; leaves whose ``.grad`` nobody else uses.
        groups: Names of the parameters of each group.
        sample: The coordinates to keep.
        minibatches: The minibatches, each marked with its use.
        loss_fn: From a loader batch to its mean loss; None skips the minibatch.
        num_draws: Draws at most among the minibatches.
        processes: The processes that measure together; None for this one alone.
        scale_loss: Whether to scale the loss against underflow in half precision.

    Returns:
        The noise of each group, the same in all processes.
    """
    recorder = _Recorder(parameters, sample, num_draws)
    with torch.inference_mode(False), torch.enable_grad():
        for minibatch in minibatches:
            gradients = _gradients(minibatch, loss_fn, parameters, _LOSS_SCALE if scale_loss else 1.0)
            if gradients is not None:
                recorder.record(minibatch, gradients)
    with torch.no_grad():
        return _observation(recorder, groups, processes or Processes())
