"""In which order a measurement reads the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, TypeVar

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from .lengths import is_cut_short, loader_batch_size

__all__ = ["LOOK_AHEAD", "Order", "batches_in_order"]

T = TypeVar("T")

LOOK_AHEAD = 10_000
"""Batches read at once to be shuffled, where only the author of a sampler knows its order, which may have no end."""
_AT_ONCE = 1 << 20
"""So many samples are shuffled at once; of more, each is drawn when it is read, whose cost is that of what is read."""
_SEEDED = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


@dataclass(frozen=True)
class Order:
    """What the order depends on.

    Attributes:
        loader: A copy of training's loader, whose samplers are copies too.
        sweep_length: Loader batches that training takes from the original in an epoch.
        generator: What random orders are drawn from.
        epoch: First epoch of a distributed sampler.
    """

    loader: DataLoader[Any]
    sweep_length: int
    generator: torch.Generator
    epoch: int

    @property
    def sampler(self) -> Any:
        """What gives the order of the samples; an explicit batch sampler has its own."""
        batch_sampler = self.loader.batch_sampler
        return batch_sampler.sampler if type(batch_sampler) is BatchSampler else self.loader.sampler

    @property
    def size(self) -> int:
        """Samples in a batch of a loader without a batch sampler of its own."""
        return loader_batch_size(self.loader) or 1

    @property
    def per_sweep(self) -> int:
        """Samples that training takes from a sampler without a batch sampler of its own in an epoch."""
        return self.sweep_length * self.size

    def shuffled(self, items: list[T]) -> list[T]:
        """Shuffles what has been read."""
        return [items[i] for i in torch.randperm(len(items), generator=self.generator, device="cpu").tolist()]

    def permutation(self, length: int) -> Iterator[int]:
        """Draws a random order of so many numbers; what it costs is bounded, but for what is read of it."""
        if length <= _AT_ONCE:
            yield from self.shuffled(list(range(length)))
            return
        moved: dict[int, int] = {}  # Fisher and Yates' shuffle, of which only what differs from the identity is kept
        for i in range(length):
            j = i + int(torch.randint(length - i, (), generator=self.generator, device="cpu"))
            here = moved.pop(i, i)
            yield here if j == i else moved.get(j, j)
            if j > i:
                moved[j] = here


def _sequential(order: Order) -> Callable[[int], Iterator[Any]]:
    """A fixed order has no randomness to draw from: shuffle the samples that training takes from it."""
    length = min(len(order.sampler), order.per_sweep)
    return lambda sweep: order.permutation(length)


def _distributed(order: Order) -> Callable[[int], Iterator[Any]]:
    sampler = order.sampler
    assert isinstance(sampler, DistributedSampler)

    def indices(sweep: int) -> Iterator[Any]:
        sampler.set_epoch(order.epoch + sweep)  # the same on every rank, and no epoch that training will ever see
        if sampler.shuffle:
            return iter(sampler)
        if type(sampler) is DistributedSampler:  # which has made a list of all anyway
            taken = list(islice(sampler, order.per_sweep))
            return (taken[i] for i in order.permutation(len(taken)))
        windows = _chunks(islice(sampler, order.per_sweep), LOOK_AHEAD * order.size)
        return chain.from_iterable(map(order.shuffled, windows))

    return indices


def _seeded(order: Order) -> Callable[[int], Iterator[Any]]:
    sampler = order.sampler
    sampler.generator = order.generator
    if type(sampler) is RandomSampler and not sampler.replacement and len(sampler.data_source) > _AT_ONCE:
        return lambda sweep: islice(_permutations(order, len(sampler.data_source)), sampler.num_samples)
    return lambda sweep: iter(sampler)


def _permutations(order: Order, length: int) -> Iterator[int]:
    return chain.from_iterable(order.permutation(length) for _ in count())


def _samples(order: Order) -> tuple[Callable[[int], Iterator[Any]], bool]:
    """Returns what gives the order of the samples in each sweep, and whether that order is random."""
    sampler = order.sampler
    if isinstance(sampler, DistributedSampler):
        return _distributed(order), True
    if type(sampler) is SequentialSampler:
        return _sequential(order), True
    return (_seeded(order), True) if type(sampler) in _SEEDED else (lambda sweep: iter(sampler), False)


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _in_random_order(batches: Callable[[int], Iterator[Any]], order: Order) -> Callable[[int], Iterator[Any]]:
    """Shuffles each sweep's batches, window after window; a smaller one at its end stays there, as in an epoch."""

    def shuffled(sweep: int) -> Iterator[Any]:
        left = order.sweep_length
        for window in _chunks(islice(batches(sweep), left), LOOK_AHEAD):
            left -= len(window)
            is_last = left == 0 or len(window) < LOOK_AHEAD
            last = [window.pop()] if is_last and is_cut_short(order.loader, order.sweep_length) else []
            yield from order.shuffled(window) + last

    return shuffled


def batches_in_order(order: Order) -> Callable[[int], Iterator[Any]]:
    """Returns what gives each sweep's loader batches as lists of indices (single indices without collation).

    The batches of samplers that only their author knows are taken in a random order: the first ones of a sorted data
    set would not stand for the rest. No more than ``LOOK_AHEAD`` of them are read before the first one is handed out.
    """
    size = loader_batch_size(order.loader)
    if size is None and order.loader.batch_sampler is not None:
        return _in_random_order(lambda sweep: iter(order.loader.batch_sampler), order)  # type: ignore[arg-type]
    samples, is_random = _samples(order)
    batches = samples if size is None else lambda sweep: _chunks(samples(sweep), size)
    return batches if is_random else _in_random_order(batches, order)
