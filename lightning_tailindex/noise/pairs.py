"""Every coordinate's noise in bounded memory: draws in pairs, whose differences have no full gradient in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_tailindex.functional.sequential import PairStream

from .coordinates import kept_dtype, real_coordinates
from .processes import Processes
from .sharded import own_part

__all__ = ["PairNoise", "PairRecorder"]


@dataclass(frozen=True)
class PairNoise:
    """What the pairs of draws told of all coordinates of a group of parameters.

    Attributes:
        streams: The parameters' streams.
        curves: Log-likelihoods of each pair's contrasts at the nodes of the grid of alpha, ``[pairs, nodes]``.
        num_contrasts: Contrasts behind each of them, ``[pairs]``.
        whole: Adds sums over the streams' coordinates up over the processes, where these hold different ones; each
            process has to call it.
    """

    streams: tuple[PairStream, ...]
    curves: Tensor
    num_contrasts: Tensor
    whole: Callable[[Tensor], Tensor] = field(default=lambda own: own)


class PairRecorder:
    """Takes each draw's gradient, all coordinates of it, and keeps the last one and the streams' moments.

    Args:
        parameters: The measured parameters by name.
        processes: Those that measure together. Where each has a share of every draw, all coordinates of every draw
            are averaged over them; where each holds shards, it takes those.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], processes: Processes) -> None:
        self._streams: dict[str, PairStream] = {}
        self._first: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            dtype, size = kept_dtype([parameter]), real_coordinates(own_part(parameter))
            self._streams[name] = PairStream(size, dtype, parameter.device)
            self._first[name] = torch.zeros(size, dtype=dtype, device=parameter.device)
        self._processes = processes
        self._num_draws = 0

    def record(self, gradients: Mapping[str, Tensor]) -> None:
        """Takes a draw's gradient, flat; a parameter that it does not reach has none.

        Raises:
            OtherProcessError: If another process has no such draw, so that none waits for one that failed.
        """
        own = gradients
        if self._processes.shares_draws:
            # what takes memory comes before they wait for each other
            copies = {name: self._of(name, gradients).clone() for name in self._first}
            self._processes.agree(None, self._num_draws)
            own = {name: self._processes.average(copy) for name, copy in copies.items()}
        for name, first in self._first.items():
            if self._num_draws % 2 == 0:
                first.copy_(self._of(name, own))
            else:
                self._streams[name].add(first, self._of(name, own))
        self._num_draws += 1

    def _of(self, name: str, gradients: Mapping[str, Tensor]) -> Tensor:
        """A parameter's gradient, of zeros where there is none."""
        return gradients[name] if name in gradients else torch.zeros_like(self._first[name])

    def noise(self, groups: Mapping[str, tuple[str, ...]]) -> dict[str, PairNoise]:
        """Forms what is known of each group, given its parameters' names; each process has to call it, once.

        Raises:
            OtherProcessError: If it failed in another process, so that none waits for one that failed.
        """
        self._first.clear()
        streams = {name: self._together(self._streams.pop(name)) for name in tuple(self._streams)}
        return {group: self._of_group([streams[name] for name in names]) for group, names in groups.items()}

    def _of_group(self, streams: list[PairStream]) -> PairNoise:
        curves, num_contrasts = zip(*(stream.likelihood() for stream in streams), strict=True)
        total, told = (self._processes.whole_in_step(torch.stack(own).sum(0)) for own in (curves, num_contrasts))
        return PairNoise(tuple(streams), total, told, self._processes.whole_in_step)

    def _together(self, stream: PairStream) -> PairStream:
        """The stream of all processes' draws, where these are their own."""
        together = self._processes
        if together.count == together.per_draw:
            return stream
        merged = PairStream(len(stream.mean), stream.mean.dtype, stream.mean.device)
        counted = torch.stack([stream.count.to(stream.mean), stream.mean * stream.count])
        count, total = together.mean_in_step(counted) * together.count
        merged.mean = total / count.clamp(min=1)
        spread = stream.squares + stream.count * (stream.mean - merged.mean).square()
        merged.squares = together.mean_in_step(spread) * together.count
        merged.count = count.round().int()
        curves, num_contrasts = stream.likelihood()
        told = together.gather_in_step(torch.cat([curves, num_contrasts[:, None].to(curves)], dim=1)).flatten(0, 1)
        merged.curves, merged.num_contrasts = list(told[:, :-1]), list(told[:, -1].to(num_contrasts))
        return merged
