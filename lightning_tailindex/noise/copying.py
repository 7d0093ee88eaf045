"""Deep copies that share what is large or must not be copied."""

from __future__ import annotations

import copy
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

__all__ = ["copy_data", "copy_with", "reachable"]

T = TypeVar("T")

_CONTAINERS = (list, tuple, set, frozenset, deque)
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.FunctionType)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_LONG = 1000
"""A container of more items is data, not state: it is shared instead of being copied item by item."""


@runtime_checkable
class _ArrayLike(Protocol):
    def __array__(self) -> object: ...


def _children(item: object) -> Iterable[object]:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, _CONTAINERS):
        return item
    if isinstance(item, types.MethodType):
        return (item.__self__,)
    return getattr(item, "__dict__", {}).values()


def reachable(root: object, is_leaf: Callable[[object], bool]) -> Iterator[object]:
    """Yields ``root`` and what its attributes and containers lead to, each object once.

    Args:
        root: Where to start.
        is_leaf: Whether to stop at an object instead of following what it leads to.

    Yields:
        The objects, in no particular order.
    """
    seen: set[int] = set()
    stack = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, _ATOMS) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if not is_leaf(item):
            stack.extend(_children(item))


def copy_with(root: T, replace: Callable[[object], object | None]) -> T:
    """Copies an object graph, with some of its objects replaced.

    Args:
        root: The object to copy.
        replace: Gives for an object what stands for it in the copy (the object itself shares it), or None for a
            copy of its own.

    Returns:
        The copy.
    """
    memo: dict[int, object] = {}

    def is_replaced(item: object) -> bool:
        replacement = replace(item)
        if replacement is not None:
            memo[id(item)] = replacement
        return replacement is not None or isinstance(item, Tensor)

    for _ in reachable(root, is_replaced):
        pass  # walking fills the memo, which is all that deepcopy has to be told
    return copy.deepcopy(root, memo)


def is_lock(item: object) -> bool:
    """Whether an object is a lock, which cannot be copied."""
    return isinstance(item, _LOCKS)


def _share_data(item: object) -> object | None:
    is_long = isinstance(item, (dict, *_CONTAINERS)) and len(item) > _LONG
    is_array = isinstance(item, _ArrayLike) and not isinstance(item, type)
    return item if is_long or is_array or is_lock(item) else None


def copy_data(data: T, share: Iterable[object] = ()) -> T:
    """Copies a data set's, sampler's or data module's own state and shares what it holds.

    Reading a data set may change it (counters, caches, random generators of its own). Arrays, tensors and long
    containers are shared, so the copy costs neither time nor memory that grows with the data. Where something
    refuses to be copied (an open file, a database handle) the original is returned.

    Args:
        data: The object to copy.
        share: Objects to share besides.

    Returns:
        The copy, or ``data`` itself where it cannot be copied.
    """
    shared = {id(item): item for item in share}

    def replace(item: object) -> object | None:
        return item if id(item) in shared else _share_data(item)

    try:
        return copy_with(data, replace)
    except Exception:  # whatever a foreign __deepcopy__ or __reduce__ raises, it means the same: no copy
        return data
