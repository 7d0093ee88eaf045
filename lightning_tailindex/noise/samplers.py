"""Samplers again, with state of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from .copying import copy_data
from .reaching import reachable

__all__ = ["own_samplers"]


def _wraps_samplers(item: object) -> bool:
    return isinstance(item, Sampler) or any(
        isinstance(part, Sampler) for part in getattr(item, "__dict__", {}).values()
    )


def _samplers(roots: tuple[object, ...]) -> Iterator[object]:
    """Yields samplers and what wraps them, outermost first."""
    ids = {id(roots), *map(id, roots)}
    found = reachable(roots, lambda item: id(item) not in ids and not _wraps_samplers(item))
    return (item for item in found if item is not roots and (id(item) in ids or _wraps_samplers(item)))


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
    copies = copy_data(originals, share=(loader.dataset,))
    theirs = {id(item) for item in _samplers(originals)}
    for sampler in _samplers(copies):
        state = getattr(sampler, "__dict__", {}) if id(sampler) not in theirs else {}
        state.update({name: dataset for name, value in state.items() if value is loader.dataset})
    return copies
