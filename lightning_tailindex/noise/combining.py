"""What a measurement makes of the gradients of all processes in the end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .observation import GroupNoise, NoiseObservation
from .processes import Processes
from .recorder import Recorder, squared

__all__ = ["combine"]


def _of_full_gradient(full: Mapping[str, Tensor], recorder: Recorder) -> tuple[Tensor, Tensor]:
    """Returns its squared norms, ``[parameters]``, and its sampled coordinates, 0 where another process holds them."""
    squares = torch.stack([squared(own).to(recorder.device) for own in full.values()])
    return squares, recorder.row_of(full)


def combine(recorder: Recorder, processes: Processes) -> NoiseObservation:
    """Forms the noise from the gradients of all processes; each of them has to call it.

    Args:
        recorder: What this process recorded.
        processes: The processes that measure together.

    Returns:
        The noise of each group, the same in all processes.
    """
    # what may not fit into memory is formed by all of them, or by none, before they wait for each other
    recorded = recorder.pairs  # what is known of them first, which frees a gradient's memory
    pairs = processes.all_or_none(lambda: {} if recorded is None else recorded.noise(recorder.groups))
    own = processes.all_or_none(lambda: {name: recorder.full_gradient(name) for name in recorder.first})
    rows = processes.draws(processes.all_or_none(lambda: recorder.rows))
    # processes that share a draw may have data of their own: what only one of them is away from all is no noise
    noise = processes.all_or_none(lambda: recorder.own_noise_squares(own)) if processes.shares_draws else None
    full = {name: processes.gradient(own.pop(name)) for name in recorder.first}
    gradient, row = processes.all_or_none(lambda: _of_full_gradient(full, recorder))
    noise = processes.all_or_none(lambda: recorder.noise_squares(full)) if noise is None else noise
    noise_square = dict(zip(full, processes.noise_squares(noise), strict=True))
    gradient_square = dict(zip(full, processes.whole(gradient), strict=True))
    sampled = processes.whole(row)

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
            pairs=pairs.get(name),
        )

    num_full = recorder.num_full or recorder.num_draws  # whose mean stands for it where none had a loss
    return NoiseObservation(
        groups=tuple(group(name, parameters) for name, parameters in recorder.groups.items()),
        num_draws=len(rows),
        num_full_minibatches=num_full * processes.count // processes.per_draw,
        minibatch_size=recorder.largest * processes.per_draw,
        shares_data=recorder.shares_data,
        noise_unit=processes.noise_unit,
        draw_samples=tuple(recorder.draw_samples) if processes.count == 1 else (),
    )
