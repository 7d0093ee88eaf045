"""Samplers again, with state of their own."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from .copying import copy_data
from .reaching import reachable

__all__ = ["own_samplers"]

_HOLDING = (list, dict, set, deque)
_WRITABLE = (*_HOLDING, np.ndarray, Tensor)
_MOST_SAMPLERS = 1000
_LARGEST = 1 << 28
"""An array of more bytes is no order of samples that a sampler would shuffle in place."""
_READING = (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
"""Samplers that do not write to what they hold."""


def _wraps_samplers(item: object) -> bool:
    if isinstance(item, Sampler):
        return True
    is_short = isinstance(item, (list, tuple)) and len(item) <= _MOST_SAMPLERS
    parts: Any = item if is_short else getattr(item, "__dict__", {}).values()
    return any(isinstance(part, Sampler) for part in parts)


def _samplers(roots: tuple[object, ...]) -> Iterator[object]:
    """Yields samplers and what wraps them, outermost first."""
    ids = {id(roots), *map(id, roots)}
    found = reachable(roots, lambda item: id(item) not in ids and not _wraps_samplers(item))
    return (item for item in found if item is not roots and (id(item) in ids or _wraps_samplers(item)))


def _is_order(value: object) -> bool:
    """Whether it is what a sampler may shuffle in place."""
    is_array = isinstance(value, (np.ndarray, Tensor)) and not isinstance(value, np.memmap)
    return value.nbytes <= _LARGEST if is_array else isinstance(value, _HOLDING)  # type: ignore[attr-defined]


def _places(container: Any) -> Iterable[tuple[Any, Any]]:
    """Where a container has what; in a list of the items of a dictionary, which may reorder itself when it is set."""
    return list(container.items()) if isinstance(container, dict) else enumerate(container)


def _holds_orders(value: object) -> bool:
    """Whether its items may be orders, too; asked of their types, because there may be millions of them."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(issubclass(kind, _WRITABLE) for kind in set(map(type, items)))


def _own(theirs: Any, ours: Any, known: dict[int, object], depth: int = 2) -> Any:
    """Returns what stands in a copy for a part of a sampler: no list, dictionary or array that is the original's.

    What lists and dictionaries hold is looked at, too: the batches of a list, the samples of each class.
    """
    if id(theirs) in known:
        return known[id(theirs)]
    if depth == 0 or not _is_order(theirs):
        return ours
    if ours is theirs:
        ours = copy.copy(theirs) if isinstance(theirs, _HOLDING) else copy.deepcopy(theirs)
    known[id(theirs)] = ours
    if _holds_orders(theirs):
        for (_, part), (place, own) in zip(_places(theirs), _places(ours), strict=False):
            if _is_order(part):
                ours[place] = _own(part, own, known, depth - 1)
    return ours


def own_samplers(loader: DataLoader[Any], dataset: object) -> tuple[Any, Any]:
    """Copies the samplers of a loader; what the copies draw, count and write is their own.

    Args:
        loader: The loader.
        dataset: What stands for its data set in the copies: to tell its length it may draw, too.

    Returns:
        The copies of the sampler and of the batch sampler.

    Raises:
        TypeError: If one of them holds an iterator, which can neither be copied nor shared.
        RuntimeError: If one of them holds a queue of several processes, which can neither.
    """
    originals = (loader.sampler, loader.batch_sampler)
    stock = (vars(each) for each in _samplers(originals) if type(each) in _READING)
    sources = (own[name] for own in stock for name in ("data_source", "dataset") if name in own)
    copies = copy_data(originals, share=(loader.dataset, *sources))
    known: dict[int, object] = {id(loader.dataset): dataset}
    # one that says itself how it is copied may have less in its copy
    for theirs, ours in zip(_samplers(originals), _samplers(copies), strict=False):
        held, own = getattr(theirs, "__dict__", {}), getattr(ours, "__dict__", {})
        if ours is not theirs and isinstance(ours, type(theirs)):
            depth = 0 if type(theirs) in _READING else 2
            own.update({name: _own(value, own[name], known, depth) for name, value in held.items() if name in own})
    return copies
