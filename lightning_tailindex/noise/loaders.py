"""The training data once more, in an order of its own, with the loader that training uses left alone."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypeVar

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from .cloning import fresh_clone
from .copying import copy_data
from .minibatches import LoaderBatch, guess_size
from .random_state import derived_seed

__all__ = ["can_be_cloned", "ends_short", "loader_batch_size", "shuffled_batches"]

T = TypeVar("T")

_SEEDED = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def can_be_cloned(loader: object) -> bool:
    """Whether a loader's data can be read a second time without changing what training reads.

    Args:
        loader: Any iterable.

    Returns:
        True for a DataLoader over a map-style data set; streams cannot be read twice.
    """
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def loader_batch_size(loader: DataLoader[Any]) -> int | None:
    """Returns the samples in a complete batch; None where the loader's batches are of its own making.

    Args:
        loader: The loader.

    Returns:
        The number that its stock batch sampler uses.
    """
    return loader.batch_sampler.batch_size if type(loader.batch_sampler) is BatchSampler else None


def ends_short(loader: DataLoader[Any], sweep_length: int) -> bool:
    """Whether the last of so many batches is known to have fewer samples than the others.

    Args:
        loader: The loader.
        sweep_length: Loader batches that training takes from it in an epoch.

    Returns:
        False also where nobody knows.
    """
    size, batch_sampler = loader_batch_size(loader), loader.batch_sampler
    if size is None or not isinstance(batch_sampler, BatchSampler) or batch_sampler.drop_last:
        return False
    return sweep_length * size > len(batch_sampler.sampler)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Order:
    """What the order of the clone depends on."""

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
    def per_sweep(self) -> int:
        """Samples that training takes from a sampler without a batch sampler of its own in an epoch."""
        return self.sweep_length * (loader_batch_size(self.loader) or 1)

    def copied(self, item: T) -> T:
        """Copies a sampler or batch sampler, which may refer to the data."""
        return copy_data(item, share=(self.loader.dataset,))


def _shuffled(indices: list[Any], generator: torch.Generator) -> list[Any]:
    return [indices[i] for i in torch.randperm(len(indices), generator=generator, device="cpu").tolist()]


def _sequential(order: _Order) -> Callable[[int], Iterator[Any]]:
    """A fixed order has no randomness to draw from: shuffle the samples that training takes from it."""
    indices = list(islice(order.sampler, order.per_sweep))
    return lambda sweep: iter(_shuffled(indices, order.generator))


def _distributed(order: _Order) -> Callable[[int], Iterator[Any]]:
    sampler = order.copied(order.sampler)
    assert isinstance(sampler, DistributedSampler)

    def indices(sweep: int) -> Iterator[Any]:
        sampler.set_epoch(order.epoch + sweep)  # the same on every rank, and no epoch that training will ever see
        fixed = [] if sampler.shuffle else list(islice(sampler, order.per_sweep))
        return iter(sampler) if sampler.shuffle else iter(_shuffled(fixed, order.generator))

    return indices


def _seeded(order: _Order) -> Callable[[int], Iterator[Any]]:
    sampler: Any = copy.copy(order.sampler)
    sampler.generator = order.generator
    return lambda sweep: iter(sampler)


def _custom(order: _Order) -> Callable[[int], Iterator[Any]]:
    sampler = order.copied(order.sampler)
    return lambda sweep: iter(sampler)


def _samples(order: _Order) -> tuple[Callable[[int], Iterator[Any]], bool]:
    """Returns what gives the order of the samples in each sweep, and whether that order is random."""
    sampler = order.sampler
    if isinstance(sampler, DistributedSampler):
        return _distributed(order), True
    if type(sampler) is SequentialSampler:
        return _sequential(order), True
    return (_seeded(order), True) if type(sampler) in _SEEDED else (_custom(order), False)


def _chunks(samples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(samples, size)):
        yield chunk


def _in_random_order(batches: Callable[[int], Iterator[Any]], order: _Order) -> Callable[[int], Iterator[Any]]:
    """Shuffles each sweep's batches; a last one that is smaller stays the last, as in a training epoch."""

    def shuffled(sweep: int) -> Iterator[Any]:
        whole = list(islice(batches(sweep), order.sweep_length))
        last = [whole.pop()] if whole and ends_short(order.loader, order.sweep_length) else []
        return iter(_shuffled(whole, order.generator) + last)

    return shuffled


def _batches(order: _Order) -> Callable[[int], Iterator[Any]]:
    """Returns what gives each sweep's loader batches as lists of indices (single indices without collation).

    The batches of samplers that only their author knows are taken in a random order: the first ones of a sorted data
    set would not stand for the rest.
    """
    size = loader_batch_size(order.loader)
    if size is None and order.loader.batch_sampler is not None:
        batch_sampler = order.copied(order.loader.batch_sampler)
        return _in_random_order(lambda sweep: iter(batch_sampler), order)
    samples, is_random = _samples(order)
    batches = samples if size is None else lambda sweep: _chunks(samples(sweep), size)
    return batches if is_random else _in_random_order(batches, order)


def _samples_of(indices: Any) -> tuple[int, ...]:
    """Which samples a batch has; nothing if its sampler names them by anything but numbers."""
    return tuple(indices) if all(isinstance(i, int) for i in indices) else ()


class _IndexStream:
    """A sampler that shuffles again and again and remembers size and samples of each batch it handed out."""

    def __init__(self, order: _Order) -> None:
        self._sweep = _batches(order)
        self._length = order.sweep_length
        self._sweeps = count()
        self.handed_out: deque[tuple[int | None, tuple[int, ...]]] = deque()

    def __len__(self) -> int:
        return self._length  # some loaders ask, and stop after as many

    def __iter__(self) -> Iterator[Any]:
        for sweep in self._sweeps:
            is_empty = True
            for indices in islice(self._sweep(sweep), self._length):
                is_empty = False
                is_batch = isinstance(indices, (list, tuple))
                self.handed_out.append((len(indices), _samples_of(indices)) if is_batch else (None, ()))
                yield indices
            if is_empty:
                return  # a sampler that can be iterated once


def _clone(loader: DataLoader[Any], indices: _IndexStream, generator: torch.Generator) -> DataLoader[Any]:
    """Copies a loader, reading in the given order."""
    clone = fresh_clone(loader)
    vars(clone).update(generator=generator, in_order=True)  # sizes are told in the order of the indices
    vars(clone)["sampler" if loader.batch_sampler is None else "batch_sampler"] = indices
    return clone


def shuffled_batches(
    loader: DataLoader[Any], sweep_length: int, seed: tuple[int, ...], rank: int = 0
) -> Iterator[LoaderBatch]:
    """Reads a loader's data in random order, shuffle after shuffle, without end.

    Stock samplers draw from a generator of the measurement's own; a sequential one is shuffled within the samples
    that training takes from it, a distributed one gets an epoch of its own, any other sampler is followed in a copy.

    Args:
        loader: The loader of the training data; it is not iterated.
        sweep_length: Loader batches that training takes from it in an epoch.
        seed: Integers that determine the order.
        rank: Rank of the process: ranks share the order of a distributed sampler and nothing else.

    Yields:
        The batches with their sizes and samples.
    """
    generator = torch.Generator().manual_seed(derived_seed(*seed, rank))
    epoch = derived_seed(*seed) % 2**31
    indices = _IndexStream(_Order(loader, sweep_length, generator, epoch))
    clone = _clone(loader, indices, generator)
    is_empty = False
    while not is_empty:
        is_empty = True
        indices.handed_out.clear()
        for data in clone:
            is_empty = False
            size, samples = indices.handed_out.popleft()
            yield LoaderBatch(data, guess_size(data) if size is None else size, samples=samples)
