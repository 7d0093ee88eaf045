"""What a measurement keeps of each minibatch's gradient, and what it makes of it in the end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .coordinates import CoordinateSample
from .minibatches import Minibatch
from .observation import GroupNoise, NoiseObservation
from .processes import Processes

__all__ = ["Recorder", "combine", "real_coordinates"]


def real_coordinates(parameter: Tensor) -> int:
    """Counts the real numbers in a parameter; a complex one has two per entry."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


class Recorder:
    """Keeps sampled coordinates of each draw, and of all coordinates two sums and a sum of squared norms.

    Sums are of differences from the first gradient. Where gradients differ little from each other, as late in a
    training with large minibatches, the difference of large sums would be rounding and nothing else.

    Args:
        parameters: The measured parameters by name.
        groups: Names of the parameters of each group.
        sample: The coordinates to keep.
        num_draws: Draws at most.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        groups: Mapping[str, tuple[str, ...]],
        sample: CoordinateSample,
        num_draws: int,
    ) -> None:
        is_double = any(p.dtype in (torch.float64, torch.complex128) for p in parameters.values())
        dtype = torch.float64 if is_double else torch.float32
        device = next(iter(parameters.values())).device
        self.groups = groups
        self.sample = sample
        self.indices = {name: index.to(parameters[name].device) for name, index in sample.indices.items()}
        self.rows = torch.zeros(num_draws, sample.width, dtype=dtype, device=device)
        self.first = {
            name: torch.zeros(real_coordinates(p), dtype=dtype, device=p.device) for name, p in parameters.items()
        }
        self.draw_sum = {name: torch.zeros_like(zero) for name, zero in self.first.items()}
        self.full_sum = {name: torch.zeros_like(zero) for name, zero in self.first.items()}
        self.square = {name: zero.new_zeros(()) for name, zero in self.first.items()}
        self.num_recorded = 0
        self.num_draws = 0
        self.num_full = 0
        self.full_weight = 0
        self.largest = 0
        self.shares_data = False

    def record(self, minibatch: Minibatch, gradients: Mapping[str, Tensor]) -> None:
        """Takes one minibatch's gradient; a parameter that it does not reach has none."""
        if self.num_recorded == 0:
            for name, gradient in gradients.items():
                self.first[name].copy_(gradient)
        for name, first in self.first.items():
            difference = gradients[name] - first if name in gradients else -first
            if minibatch.in_full_gradient:
                self.full_sum[name].add_(difference, alpha=minibatch.weight)
            if minibatch.is_draw:
                self.draw_sum[name].add_(difference)
                self.square[name].add_(torch.linalg.vector_norm(difference).square())
                if name in gradients and name in self.indices:
                    row = gradients[name][self.indices[name]].to(self.rows)
                    self.rows[self.num_draws, self.sample.slices[name]] = row
        self.num_recorded += 1
        self.num_draws += minibatch.is_draw
        self.num_full += minibatch.in_full_gradient
        self.full_weight += minibatch.weight * minibatch.in_full_gradient
        self.largest = max(self.largest, minibatch.weight)
        self.shares_data |= minibatch.sweep > 0


def _full_gradient(recorder: Recorder, processes: Processes) -> dict[str, Tensor]:
    weight = max(recorder.full_weight, 1)
    return {n: processes.mean(first + recorder.full_sum[n] / weight) for n, first in recorder.first.items()}


def _noise_square(name: str, full: Tensor, recorder: Recorder, processes: Processes) -> Tensor:
    """Returns the mean squared norm of a parameter's noise over all processes.

    A process sees its own share of a minibatch. Shares are independent, so the noise of their average has the mean
    square of one share's noise over the number of processes.
    """
    n, rest = max(recorder.num_draws, 1), full - recorder.first[name]
    own = recorder.square[name] / n - 2 * (recorder.draw_sum[name] / n) @ rest + rest @ rest
    return processes.mean(own) / processes.count


def combine(recorder: Recorder, processes: Processes) -> NoiseObservation:
    """Forms the noise from the gradients of all processes; each of them has to call it.

    Args:
        recorder: What this process recorded.
        processes: The processes that measure together.

    Returns:
        The noise of each group, the same in all processes.
    """
    rows = processes.mean(recorder.rows[: recorder.num_draws])
    full = _full_gradient(recorder, processes)
    noise_square = {n: _noise_square(n, whole, recorder, processes).to(rows.device) for n, whole in full.items()}
    gradient_square = {name: (whole @ whole).to(rows.device) for name, whole in full.items()}
    sampled = torch.cat([full[name][index].to(rows.device) for name, index in recorder.indices.items()])

    def group(name: str, parameters: tuple[str, ...]) -> GroupNoise:
        columns = recorder.sample.columns[name].to(rows.device)
        return GroupNoise(
            name=name,
            gradients=rows[:, columns],
            full_gradient=sampled[columns],
            num_coordinates=recorder.sample.sizes[name],
            gradient_norm=torch.stack([gradient_square[p] for p in parameters]).sum().sqrt(),
            # rounding may leave a tiny negative number
            noise_norm=torch.stack([noise_square[p] for p in parameters]).sum().clamp(min=0).sqrt(),
        )

    return NoiseObservation(
        groups=tuple(group(name, parameters) for name, parameters in recorder.groups.items()),
        num_draws=recorder.num_draws,
        num_full_minibatches=recorder.num_full,
        minibatch_size=recorder.largest * processes.count,
        shares_data=recorder.shares_data,
    )
