"""The objects that an object leads to: by attributes, in containers and in what functions captured."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator

__all__ = ["ATOMS", "CONTAINERS", "cells", "defaults", "reachable"]

CONTAINERS = (list, tuple, set, frozenset, deque)
ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.CodeType)


def cells(function: types.FunctionType) -> Iterator[types.CellType]:
    """Yields the cells of a closure that hold something."""
    for cell in function.__closure__ or ():
        try:
            cell.cell_contents  # noqa: B018 -- an empty cell raises
        except ValueError:
            continue
        yield cell


def _children(item: object) -> Iterable[object]:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, CONTAINERS):
        return item
    if isinstance(item, types.MethodType):
        return (item.__self__, item.__func__)
    if isinstance(item, functools.partial):
        return (item.func, *item.args, *item.keywords.values())
    if isinstance(item, types.FunctionType):
        return (*defaults(item), *(cell.cell_contents for cell in cells(item)))
    slots = (getattr(item, name, None) for name in getattr(type(item), "__slots__", ()))
    return (*getattr(item, "__dict__", {}).values(), *slots)


def defaults(function: types.FunctionType) -> tuple[object, ...]:
    """Returns the values of the default arguments."""
    return (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())


def reachable(root: object, is_leaf: Callable[[object], bool]) -> Iterator[object]:
    """Yields ``root`` and what its attributes, containers and closures lead to, each object once.

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
        if isinstance(item, ATOMS) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if not is_leaf(item):
            stack.extend(_children(item))
