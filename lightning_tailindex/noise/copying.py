"""Deep copies that share what is large or must not be copied, and keep nothing of the original in closures."""

from __future__ import annotations

import copy
import io
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

__all__ = ["copy_data", "copy_with", "reachable"]

T = TypeVar("T")
Replace = Callable[[object], object | None]

_CONTAINERS = (list, tuple, set, frozenset, deque)
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.CodeType)
_LONG = 1000
"""A container of more items is data, not state: it is shared instead of being copied item by item."""
_MANY = 20_000
"""After so many objects whatever container follows is data too."""
_LARGE = 1 << 20
"""An array of more bytes is data; a smaller one may be a counter."""


def _cells(function: types.FunctionType) -> Iterator[types.CellType]:
    for cell in function.__closure__ or ():
        try:
            cell.cell_contents  # noqa: B018 -- an empty cell raises
        except ValueError:
            continue
        yield cell


def _children(item: object) -> Iterable[object]:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, _CONTAINERS):
        return item
    if isinstance(item, types.MethodType):
        return (item.__self__,)
    if isinstance(item, types.FunctionType):
        return [cell.cell_contents for cell in _cells(item)]
    return getattr(item, "__dict__", {}).values()


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
        if isinstance(item, _ATOMS) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if not is_leaf(item):
            stack.extend(_children(item))


@dataclass(frozen=True)
class _Plan:
    """What a copy has to know of the original.

    Attributes:
        replaced: What stands for each replaced object, by the object's id.
        functions: The functions that captured something, by their ids.
    """

    replaced: dict[int, object]
    functions: dict[int, types.FunctionType]


def _planned(root: object, replace: Replace) -> _Plan:
    plan = _Plan({}, {})

    def is_leaf(item: object) -> bool:
        replacement = replace(item)
        if replacement is not None:
            plan.replaced[id(item)] = replacement
        elif isinstance(item, types.FunctionType) and item.__closure__:
            plan.functions[id(item)] = item
        return replacement is not None or isinstance(item, Tensor)

    for _ in reachable(root, is_leaf):
        pass  # walking is what fills the plan
    return plan


class _Rebinder:
    """Gives functions of a copy closures of their own; ``deepcopy`` shares every function, whatever it captured."""

    def __init__(self, plan: _Plan, memo: dict[int, object]) -> None:
        self._functions = plan.functions
        self._kept = {id(item) for item in plan.replaced.values()}
        self._memo = memo
        self._twins: dict[int, types.FunctionType] = {}

    def rebind(self, root: object) -> None:
        """Replaces the original's functions in the attributes, dictionaries and lists of a copy."""
        for item in reachable(root, lambda item: id(item) in self._kept or isinstance(item, Tensor)):
            slots = item if isinstance(item, (dict, list)) else getattr(item, "__dict__", None)
            if id(item) in self._kept or not isinstance(slots, (dict, list)):
                continue
            for key, value in list(enumerate(slots) if isinstance(slots, list) else slots.items()):
                if id(value) in self._functions:
                    slots[key] = self._twin(value)

    def _twin(self, original: types.FunctionType) -> types.FunctionType:
        if id(original) not in self._twins:
            cells = {id(cell): types.CellType() for cell in original.__closure__ or ()}
            closure = tuple(cells[id(cell)] for cell in original.__closure__ or ())
            code, name, defaults = original.__code__, original.__name__, original.__defaults__
            twin = types.FunctionType(code, original.__globals__, name, defaults, closure)
            twin.__kwdefaults__ = original.__kwdefaults__
            vars(twin).update(vars(original))
            self._twins[id(original)] = twin
            for cell in _cells(original):
                cells[id(cell)].cell_contents = self._copied(cell.cell_contents)
        return self._twins[id(original)]

    def _copied(self, item: object) -> object:
        if id(item) in self._functions:
            return self._twin(item)  # type: ignore[arg-type]
        is_known = id(item) in self._memo
        copied = copy.deepcopy(item, self._memo)
        if not is_known:
            self.rebind(copied)
        return copied


def _if_handle(item: object) -> object | None:
    """Returns an object that Python refuses to copy and that can be shared: a lock, a file, a connection."""
    if isinstance(item, (Tensor, dict, types.FunctionType, types.MethodType, *_CONTAINERS)) or _is_array(item):
        return None
    if isinstance(item, Iterator) and not isinstance(item, io.IOBase):
        return None  # whoever advances a shared iterator takes from the other
    try:
        item.__reduce_ex__(4)
    except TypeError:
        return item
    return None


def copy_with(root: T, replace: Replace) -> T:
    """Copies an object graph, with some of its objects replaced.

    Args:
        root: The object to copy.
        replace: Gives for an object what stands for it in the copy (the object itself shares it), or None for a
            copy of its own.

    Returns:
        The copy. Functions that captured parts of the original capture their copies.

    Raises:
        TypeError: If the graph holds an iterator, which can neither be copied nor shared.
    """
    plan = _planned(root, replace)
    try:
        return _copied(root, plan)
    except TypeError:  # only now, because asking every object whether it can be copied takes longer than copying
        known = plan.replaced
        return _copied(root, _planned(root, lambda item: known[id(item)] if id(item) in known else _if_handle(item)))


def _copied(root: T, plan: _Plan) -> T:
    memo = dict(plan.replaced)
    copied = copy.deepcopy(root, memo)
    _Rebinder(plan, memo).rebind(copied)
    return copied


def _is_array(item: object) -> bool:
    return callable(getattr(type(item), "__array__", None))


def copy_data(data: T, share: Iterable[object] = ()) -> T:
    """Copies a data set's, sampler's or data module's own state and shares what it holds.

    Reading a data set may change it (counters, caches, random generators of its own). Arrays of more than 1 MiB and
    containers of more than 1000 items are shared, so the cost does not grow with the data.

    Args:
        data: The object to copy.
        share: Objects to share besides.

    Returns:
        The copy.

    Raises:
        TypeError: If it holds an iterator, which can neither be copied nor shared.
    """
    shared = {id(item) for item in share}
    visited = 0

    def replace(item: object) -> object | None:
        nonlocal visited
        visited += 1
        is_container = isinstance(item, (dict, *_CONTAINERS))
        is_long = is_container and (visited > _MANY or len(item) > _LONG)  # type: ignore[arg-type]
        is_large = _is_array(item) and getattr(item, "nbytes", _LARGE + 1) > _LARGE
        return item if id(item) in shared or is_long or is_large else None

    return copy_with(data, replace)
