"""How much a loader gives, asked of a copy: to tell it, samplers and data sets may draw random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader

from .cloning import full_clone
from .random_state import isolated_random_state

__all__ = ["ends_short", "is_cut_short", "known_length", "last_batch_size", "length_if_copied", "loader_batch_size"]


@contextmanager
def _to_be_asked(item: Any) -> Iterator[Any]:
    """Lends a copy of a loader, or the object itself where it is none or cannot be copied."""
    with isolated_random_state(0, torch.device("cpu")):
        try:
            asked = full_clone(item) if isinstance(item, DataLoader) else item
        except Exception:  # a part of it holds an iterator, a queue, a pointer
            asked = item
        yield asked


def known_length(item: object) -> int | None:
    """Returns a length, and leaves random states and, of a loader, its samplers and its data as they are.

    Args:
        item: A loader or any other iterable.

    Returns:
        Its length; None where nobody knows.
    """
    with _to_be_asked(item) as asked:
        return _first_length(asked, item)


def length_if_copied(loader: DataLoader[Any]) -> int | None:
    """Returns the length of a loader that can be copied with all that it reads with; iterators and queues cannot.

    Args:
        loader: The loader, which is copied once.

    Returns:
        What :func:`known_length` does; None, too, where it cannot be copied, and nothing is asked.
    """
    with _to_be_asked(loader) as asked:
        return None if asked is loader else _first_length(asked, loader)


def _first_length(*candidates: Any) -> int | None:
    for each in candidates:
        try:
            return len(each)
        except (TypeError, NotImplementedError):
            return None
        except Exception:  # a copy may lack what tells it: data sets leave handles behind
            continue
    return None


def loader_batch_size(loader: DataLoader[Any]) -> int | None:
    """Returns the samples in a complete batch; None where the loader's batches are of its own making.

    Args:
        loader: The loader.

    Returns:
        The number that its stock batch sampler uses.
    """
    return loader.batch_sampler.batch_size if type(loader.batch_sampler) is BatchSampler else None


def is_cut_short(loader: DataLoader[Any], sweep_length: int) -> bool:
    """Whether the last of so many batches is known to have fewer samples than the others.

    Args:
        loader: The measurement's own copy of a loader.
        sweep_length: Loader batches that training takes from the original in an epoch.

    Returns:
        False also where nobody knows.
    """
    batch_sampler: Any = loader.batch_sampler
    length = known_length(batch_sampler.sampler) if _may_be_short(loader) else None
    return length is not None and sweep_length * batch_sampler.batch_size > length


def ends_short(loader: DataLoader[Any], sweep_length: int) -> bool:
    """Says what :func:`is_cut_short` does of a loader that training uses."""
    if not _may_be_short(loader):
        return False
    with _to_be_asked(loader) as asked:
        return is_cut_short(asked, sweep_length)


def last_batch_size(loader: DataLoader[Any], sweep_length: float) -> int | None:
    """Returns the samples in the last of the batches that training takes in an epoch.

    Args:
        loader: The loader that training uses, with a stock batch sampler.
        sweep_length: Loader batches that training takes from it in an epoch.

    Returns:
        The number; None where nobody knows, as of streams, and where the loader was begun anew on the way.
    """
    sampler: Any = loader.batch_sampler
    if sampler.drop_last:
        return int(sampler.batch_size)
    with _to_be_asked(loader) as asked:
        length = known_length(asked.batch_sampler.sampler)
    rest = 0 if length is None else length - (sweep_length - 1) * sampler.batch_size
    return int(min(rest, sampler.batch_size)) if rest > 0 else None


def _may_be_short(loader: DataLoader[Any]) -> bool:
    """Whether a stock batch sampler makes the batches and keeps an epoch's last ones, without asking for lengths."""
    sampler: Any = loader.batch_sampler
    return loader_batch_size(loader) is not None and not sampler.drop_last
