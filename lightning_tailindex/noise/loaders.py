"""The training data once more, in an order of its own, with the loader that training uses left alone."""

from __future__ import annotations

import copy
import operator
from collections import deque
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from .cloning import full_clone
from .disarming import disarmed
from .minibatches import LoaderBatch, guess_size
from .orders import Order, batches_in_order
from .random_state import derived_seed

__all__ = ["can_be_cloned", "shuffled_batches"]


def can_be_cloned(loader: object) -> bool:
    """Whether a loader's data can be read a second time without changing what training reads.

    Args:
        loader: Any iterable.

    Returns:
        True for a DataLoader over a map-style data set; streams cannot be read twice.
    """
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def _samples_of(indices: Any) -> tuple[int, ...]:
    """Which samples a batch has, as numbers of Python; nothing if its sampler names them by anything but numbers."""
    try:
        return tuple(operator.index(i) for i in indices)
    except TypeError:
        return ()


class _IndexStream:
    """A sampler that shuffles again and again and remembers size and samples of each batch it handed out."""

    def __init__(self, order: Order) -> None:
        self._sweep = batches_in_order(order)
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


def _reading(own: DataLoader[Any], indices: _IndexStream, generator: torch.Generator) -> DataLoader[Any]:
    """Copies the measurement's own loader once more, reading in the given order."""
    clone = disarmed(copy.copy(own))
    vars(clone).update(generator=generator, in_order=True)  # sizes are told in the order of the indices
    vars(clone)["sampler" if own.batch_sampler is None else "batch_sampler"] = indices
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
    own = full_clone(loader)
    indices = _IndexStream(Order(own, sweep_length, generator, epoch))
    clone = _reading(own, indices, generator)
    is_empty = False
    while not is_empty:
        is_empty = True
        indices.handed_out.clear()
        for data in clone:
            is_empty = False
            size, samples = indices.handed_out.popleft()
            yield LoaderBatch(data, guess_size(data) if size is None else size, samples=samples)
