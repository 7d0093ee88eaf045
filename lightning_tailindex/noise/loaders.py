"""The training data once more, in an order of its own, with the loader that training uses left alone."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

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

from .copying import copy_data
from .minibatches import LoaderBatch
from .random_state import derived_seed

__all__ = ["can_be_cloned", "shuffled_batches"]

_SEEDED = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def can_be_cloned(loader: object) -> bool:
    """Whether a loader's data can be read a second time without changing what training reads.

    Args:
        loader: Any iterable.

    Returns:
        True for a DataLoader over a map-style data set; streams cannot be read twice.
    """
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


@dataclass(frozen=True)
class _Order:
    """What the order of the clone depends on."""

    loader: DataLoader[Any]
    sweep_length: int
    generator: torch.Generator
    epoch: int


def _shuffled(indices: list[Any], generator: torch.Generator) -> list[Any]:
    return [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]


def _sequential(order: _Order) -> Callable[[int], Iterator[Any]]:
    """A fixed order has no randomness to draw from: shuffle the samples that training takes from it."""
    per_sweep = order.sweep_length * (order.loader.batch_size or 1)
    indices = list(islice(order.loader.sampler, per_sweep))
    return lambda sweep: iter(_shuffled(indices, order.generator))


def _distributed(order: _Order) -> Callable[[int], Iterator[Any]]:
    sampler = copy_data(order.loader.sampler, share=(order.loader.dataset,))
    assert isinstance(sampler, DistributedSampler)

    def indices(sweep: int) -> Iterator[Any]:
        sampler.set_epoch(order.epoch + sweep)  # the same on every rank, and no epoch that training will ever see
        return iter(sampler) if sampler.shuffle else iter(_shuffled(list(sampler), order.generator))

    return indices


def _seeded(order: _Order) -> Callable[[int], Iterator[Any]]:
    sampler: Any = copy.copy(order.loader.sampler)
    sampler.generator = order.generator
    return lambda sweep: iter(sampler)


def _custom(order: _Order) -> Callable[[int], Iterator[Any]]:
    """A sampler that only its author knows is followed as it is, in a copy."""
    sampler = copy_data(order.loader.sampler, share=(order.loader.dataset,))
    return lambda sweep: iter(sampler)


def _samples(order: _Order) -> Callable[[int], Iterator[Any]]:
    """Returns what gives the order of the samples in each sweep."""
    sampler = order.loader.sampler
    if isinstance(sampler, DistributedSampler):
        return _distributed(order)
    if type(sampler) is SequentialSampler:
        return _sequential(order)
    return _seeded(order) if type(sampler) in _SEEDED else _custom(order)


def _chunks(samples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(samples, size)):
        yield chunk


def _batches(order: _Order) -> Callable[[int], Iterator[Any]]:
    """Returns what gives each sweep's loader batches as lists of indices (single indices without collation)."""
    loader = order.loader
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        batch_sampler = copy_data(loader.batch_sampler, share=(loader.dataset,))
        return lambda sweep: iter(batch_sampler)
    samples = _samples(order)
    if loader.batch_size is None:
        return samples
    size = loader.batch_size
    return lambda sweep: _chunks(samples(sweep), size)


class _IndexStream:
    """A sampler that shuffles again and again and remembers the size of each batch it handed out."""

    def __init__(self, order: _Order) -> None:
        self._sweep = _batches(order)
        self._length = order.sweep_length
        self.sizes: deque[int | None] = deque()

    def __iter__(self) -> Iterator[Any]:
        for sweep in count():
            for indices in islice(self._sweep(sweep), self._length):
                self.sizes.append(len(indices) if isinstance(indices, (list, tuple)) else None)
                yield indices


def _clone(loader: DataLoader[Any], indices: _IndexStream, generator: torch.Generator) -> DataLoader[Any]:
    """Copies a loader without its running iterator, reading in the given order.

    Iterating the original would restart the running epoch where workers persist. ``DataLoader`` refuses these
    attributes to be set by name after construction, and constructing a subclass anew would need its arguments.
    """
    clone = copy.copy(loader)
    is_in_process = loader.num_workers == 0  # worker processes have a data set of their own anyway
    vars(clone).update(
        dataset=copy_data(loader.dataset) if is_in_process else loader.dataset,
        generator=generator,
        persistent_workers=False,
        _iterator=None,
    )
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
        The batches with their sizes.
    """
    generator = torch.Generator().manual_seed(derived_seed(*seed, rank))
    epoch = derived_seed(*seed) % 2**31
    indices = _IndexStream(_Order(loader, sweep_length, generator, epoch))
    for data in _clone(loader, indices, generator):
        yield LoaderBatch(data, indices.sizes.popleft())
