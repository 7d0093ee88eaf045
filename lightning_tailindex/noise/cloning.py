"""A loader again, with state of its own."""

from __future__ import annotations

import copy
from typing import Any

from torch.utils.data import DataLoader

from .copying import copy_data
from .disarming import disarmed
from .handles import leads_elsewhere
from .samplers import own_samplers

__all__ = ["fresh_clone", "full_clone"]

_STOCK = frozenset(vars(DataLoader(()))) | {"_iterator"}  # type: ignore[arg-type]
"""What every loader has."""


def _own_state(loader: DataLoader[Any]) -> dict[str, Any]:
    """Copies what a subclass added, such as its place in the data."""
    stock = {name: value for name, value in vars(loader).items() if name in _STOCK}
    own = {name: value for name, value in vars(loader).items() if name not in stock and not name.startswith("__pl_")}
    return copy_data(own, share=(loader, *stock.values()))


def fresh_clone(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Copies a loader without its running iterator; iterating the copy changes nothing that the loader uses.

    Iterating the original would restart the running epoch where workers persist. ``DataLoader`` refuses these
    attributes to be set by name after construction, and constructing a subclass anew would need its arguments.

    Args:
        loader: The loader.

    Returns:
        The copy, of the same class.
    """
    clone = disarmed(copy.copy(loader))
    vars(clone).update(_own_state(loader), persistent_workers=False, _iterator=None)
    vars(clone).update(zip(("dataset", "collate_fn"), _own_reading(loader), strict=True))
    return clone


def full_clone(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Copies a loader and its samplers: to iterate them and to ask for lengths, too, changes nothing that it uses.

    Args:
        loader: The loader.

    Returns:
        The copy, of the same class.

    Raises:
        TypeError: If a part of it holds an iterator, a queue or a future, which can neither be copied nor shared.
        RuntimeError: If a part of it holds a queue of several processes, which can neither.
    """
    clone = fresh_clone(loader)
    vars(clone).update(zip(("sampler", "batch_sampler"), own_samplers(loader, clone.dataset), strict=True))
    return clone


def _own_reading(loader: DataLoader[Any]) -> tuple[Any, Any]:
    """Copies the data set and what makes batches of its samples, which may draw from a generator of its own.

    Worker processes have copies, too, but for what lies in shared memory and what leads to another process.
    """
    reading = (loader.dataset, loader.collate_fn)
    if loader.num_workers > 0 and leads_elsewhere(reading):
        raise TypeError("cannot read what training's worker processes read: they share a file, a queue or a manager.")
    try:
        return copy_data(reading)
    except Exception:  # one of both holds an iterator or a queue
        if loader.num_workers == 0:
            raise
        return reading
