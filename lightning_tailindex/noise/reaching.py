"""The objects that an object leads to: by attributes and slots, in containers and in what functions captured."""

from __future__ import annotations

import functools
import types
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "ATOMS",
    "CONTAINERS",
    "COPYING",
    "MAPPINGS",
    "cells",
    "defaults",
    "has_own",
    "is_a",
    "reachable",
    "uncompiled",
]

MAPPINGS = (dict, types.MappingProxyType)
CONTAINERS = (list, tuple, set, frozenset, deque)
_PLAIN = frozenset((dict, *CONTAINERS))  # without attributes, and most of what there is
ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.CodeType)
COPYING = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")
"""Methods by which a class says what a copy is made of."""


def is_a(item: object, name: str) -> bool:
    """Whether an object is of a class of that name, whichever package has it, which need not be imported for this."""
    return any(cls.__name__ == name for cls in type(item).__mro__)


def has_own(kind: type, names: Iterable[str]) -> bool:
    """Whether a class has one of these methods from Python, and not only as everything has it."""
    return any(isinstance(getattr(kind, name, None), types.FunctionType) for name in names)


def cells(function: types.FunctionType) -> Iterator[types.CellType]:
    """Yields the cells of a closure that hold something."""
    for cell in function.__closure__ or ():
        try:
            cell.cell_contents  # noqa: B018 -- an empty cell raises
        except ValueError:
            continue
        yield cell


def _children(item: object) -> Iterable[object]:
    if isinstance(item, types.MethodType):
        return (item.__self__, item.__func__)
    if isinstance(item, types.FunctionType):
        original = uncompiled(item)
        if original is not None:
            return (original,)  # and not what compiles it
        return (*defaults(item), *vars(item).values(), *(cell.cell_contents for cell in cells(item)))
    if type(item) in _PLAIN:
        return _items(item)
    return (*_items(item), *getattr(item, "__dict__", {}).values(), *_in_slots(item))


def _items(item: object) -> Iterable[object]:
    """Returns what a container holds, whatever attributes it has besides."""
    if isinstance(item, MAPPINGS):
        factory = (item.default_factory,) if isinstance(item, defaultdict) else ()
        return (*item.keys(), *item.values(), *factory)
    if isinstance(item, functools.partial):
        return (item.func, *item.args, *item.keywords.values())
    return item if isinstance(item, CONTAINERS) else ()


def _in_slots(item: object) -> Iterator[object]:
    """Yields what is in an object's slots, those of base classes and private ones too."""
    for kind in type(item).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            is_private = name.startswith("__") and not name.endswith("__")
            try:  # not by getattr, which would ask a __getattr__ of the user's for what is in an empty slot
                yield object.__getattribute__(item, f"_{kind.__name__.lstrip('_')}{name}" if is_private else name)
            except AttributeError:
                continue


def uncompiled(item: object) -> object | None:
    """Returns what ``torch.compile`` made a function of, None for whatever it did not make."""
    return vars(item).get("_torchdynamo_orig_callable") if isinstance(item, types.FunctionType) else None


def defaults(function: types.FunctionType) -> tuple[object, ...]:
    """Returns the values of the default arguments."""
    return (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())


def reachable(root: object, is_leaf: Callable[[object], bool]) -> Iterator[object]:
    """Yields ``root`` and what its attributes, containers and closures lead to, each object once.

    Args:
        root: Where to start.
        is_leaf: Whether to stop at an object instead of following what it leads to.

    Yields:
        The objects, each after one that leads to it; graphs of the same shape give the same order.
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
