"""From a stream of loader batches to minibatches: what one optimizer step consumes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .reaching import reachable

__all__ = ["LoaderBatch", "Minibatch", "SweepPlan", "copied", "guess_size", "plan_minibatches"]

T = TypeVar("T")


@dataclass(frozen=True)
class LoaderBatch:
    """What a loader yields at once.

    Attributes:
        data: The batch.
        size: Number of samples in it; None where nobody knows.
        is_cut: Whether it is known to have fewer samples than others.
        samples: Which samples of the data set they are; empty where nobody knows.
    """

    data: object
    size: int | None = None
    is_cut: bool = False
    samples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Minibatch:
    """What one optimizer step consumes.

    Attributes:
        batches: Its loader batches, as many as gradients are accumulated over.
        weight: The weight of its gradient in the full gradient: its samples, or its loader batches where nobody knows.
        is_draw: Whether its gradient is a draw of the noise.
        in_full_gradient: Whether its gradient counts in the full gradient.
        sweep: The sweep over the training data that it belongs to, from 0; draws of later ones repeat samples.
        samples: Which samples of the data set it has; empty where nobody knows.
        is_sized: Whether its weight is its samples.
    """

    batches: tuple[object, ...]
    weight: int
    is_draw: bool
    in_full_gradient: bool
    sweep: int = 0
    samples: tuple[int, ...] = ()
    is_sized: bool = True

    @property
    def size(self) -> int:
        """Its samples; 0 where nobody knows."""
        return self.weight if self.is_sized else 0


@dataclass(frozen=True)
class SweepPlan:
    """How many minibatches a measurement takes, and from what.

    Attributes:
        num_minibatches: Noise draws.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.
        sweep_length: Loader batches in one sweep over the training data.
        accumulation: Loader batches that an optimizer step consumes.
        batch_size: Samples in a complete loader batch; None where nobody knows.
        ends_short: Whether the last loader batch of a sweep has fewer samples, in this process or in another one.
    """

    num_minibatches: int
    full_gradient_batches: int | None
    sweep_length: int
    accumulation: int = 1
    batch_size: int | None = None
    ends_short: bool = False

    @property
    def step_batches(self) -> int:
        """Loader batches in a minibatch; Lightning steps at the end of an epoch, however short."""
        return min(self.accumulation, self.sweep_length)

    @property
    def sweep_minibatches(self) -> int:
        """Minibatches in a sweep, an incomplete last one included."""
        return -(-self.sweep_length // self.step_batches)

    @property
    def num_full(self) -> int:
        """Minibatches averaged into the full gradient; more than one sweep would say nothing new."""
        wanted = self.full_gradient_batches
        return self.sweep_minibatches if wanted is None else min(wanted, self.sweep_minibatches)

    @property
    def num_passes(self) -> int:
        """Minibatch passes of a measurement: the draws are part of the sweep, nothing is computed twice."""
        return max(self.num_minibatches, self.num_full)

    def is_complete(self, batches: tuple[LoaderBatch, ...], position: int) -> bool:
        """Whether the loader batches at a position in the sweep make a full minibatch, as most optimizer steps see it.

        Processes that measure together have to say the same of each position, or one would wait for the others.
        """
        sizes = [batch.size for batch in batches if batch.size is not None]
        # where a step consumes the whole sweep, that is the only size there is
        can_be_short = self.sweep_length > self.step_batches
        is_small = self.batch_size is not None and any(size < self.batch_size for size in sizes)
        is_last = self.ends_short and position + 1 == self.sweep_minibatches
        is_short = can_be_short and (is_last or is_small or any(batch.is_cut for batch in batches))
        return len(batches) == self.step_batches and not is_short


def guess_size(data: object) -> int | None:
    """Guesses the number of samples in a batch: the first dimension of its first tensor, or those that are packed.

    Args:
        data: A tensor, or a mapping, sequence or dataclass with tensors somewhere inside.

    Returns:
        The number, or None where there is no tensor.

    Example:
        >>> import torch
        >>> guess_size({"image": torch.zeros(5, 3), "label": torch.zeros(5)})
        5
    """
    if isinstance(data, PackedSequence):
        return int(data.batch_sizes[0])  # its own first tensor has a row for each step of each sample
    if isinstance(data, Tensor):
        return (data.size(0) or None) if data.ndim else 1  # an empty tensor tells of no sample, not of none
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = [getattr(data, field.name, None) for field in dataclasses.fields(data)]  # one need not be set
    items = data.values() if isinstance(data, Mapping) else data if isinstance(data, (list, tuple)) else ()
    return next((size for size in map(guess_size, items) if size is not None), None)


def copied(data: T) -> T:
    """Copies a batch, with what ``deepcopy`` refuses: nested tensors, and those of sparse rows or columns.

    Args:
        data: The batch.

    Returns:
        The copy.
    """
    found = reachable(data, lambda item: isinstance(item, Tensor))
    unusual = (item for item in found if isinstance(item, Tensor) and not _is_plain(item))
    return copy.deepcopy(data, {id(leaf): leaf.clone() for leaf in unusual})


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout in (torch.strided, torch.sparse_coo) and not tensor.is_nested


def _sweeps(batches: Iterable[LoaderBatch], plan: SweepPlan) -> Iterator[tuple[int, int, tuple[LoaderBatch, ...]]]:
    """Cuts the stream into minibatches: (sweep, position in the sweep, loader batches)."""
    stream = iter(batches)
    for sweep in count():
        for position in range(plan.sweep_minibatches):
            left = plan.sweep_length - position * plan.step_batches
            chunk = tuple(islice(stream, min(plan.step_batches, left)))
            if not chunk:
                return
            yield sweep, position, chunk


def plan_minibatches(batches: Iterable[LoaderBatch], plan: SweepPlan) -> Iterator[Minibatch]:
    """Says of each minibatch what it is used for, and stops as soon as nothing more is needed.

    The first sweep gives the full gradient, and its first complete minibatches are the draws. Where it has fewer than
    the draws asked for, further sweeps follow. An incomplete minibatch counts in the full gradient and is no draw.

    Args:
        batches: The training data in random order, shuffle after shuffle, each of ``plan.sweep_length`` loader batches.
        plan: What is wanted.

    Yields:
        The minibatches that have to be computed.
    """
    draws, draws_before = 0, -1
    for sweep, position, chunk in _sweeps(batches, plan):
        if position == 0:
            if draws == draws_before:
                return  # a whole sweep, the first one or another, without a complete minibatch: there may never be one
            draws_before = draws
        in_full_gradient = sweep == 0 and position < plan.num_full
        is_draw = draws < plan.num_minibatches and plan.is_complete(chunk, position)
        draws += is_draw
        if is_draw or in_full_gradient:
            weight = sum(1 if batch.size is None else batch.size for batch in chunk)
            samples = tuple(i for batch in chunk for i in batch.samples)
            data, is_sized = tuple(batch.data for batch in chunk), all(batch.size is not None for batch in chunk)
            yield Minibatch(data, weight, is_draw, in_full_gradient, sweep, samples, is_sized)
        is_full_done = sweep > 0 or position + 1 >= plan.num_full
        if is_full_done and draws == plan.num_minibatches:
            return
