"""Deep copies that share what is large or must not be copied, and keep nothing of the original in closures."""

from __future__ import annotations

import copy
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.managers import BaseProxy
from pickle import PicklingError
from typing import TypeVar

from torch import Tensor, nn

from .disarming import is_armed, says_how_it_is_copied
from .handles import LONG, WEAK, is_file, is_large, is_taken_once, uncopied
from .namespaces import Namespaces
from .reaching import ATOMS, CONTAINERS, MAPPINGS, defaults, reachable, uncompiled
from .rebuilding import answers_for_names, is_its_own_namespace, rebuildable
from .twins import CopyAs, Plan, Twins

__all__ = ["CopyAs", "copy_data", "copy_with"]

T = TypeVar("T")
Replace = Callable[[object], object | None]

_WORDLESS = (LookupError, AttributeError, RecursionError, PicklingError, copy.Error)
"""Errors that name nothing that a user would know; Python's own words for what it refuses name its class."""
_PLAIN = frozenset((*ATOMS, *MAPPINGS, *CONTAINERS))
_DATA = (Tensor, types.ModuleType, *MAPPINGS, *CONTAINERS)
"""Nothing happens to these when what holds them is deleted."""
_MANY_ARMED = 100
"""Objects that may end something, of which each can still be followed to whatever it leads to."""
_MANY = 20_000
"""After so many objects whatever container follows is data too."""
_OF_MODULES, _OF_DATA_MODULES = "_trainer", "trainer"
"""Attributes by which Lightning's modules and data modules know their trainer."""


def _captures(item: object) -> bool:
    if not isinstance(item, types.FunctionType):
        return False
    return bool(item.__closure__) or not all(map(_is_plain, (*defaults(item), *vars(item).values())))


def _is_plain(value: object) -> bool:
    values = value if type(value) is tuple else (value,)
    return all(isinstance(each, ATOMS) for each in values)


def _class_of(item: object) -> type:
    """Returns the class that a copy will be of: of a proxy's, that of what it stands for."""
    return item.__class__ if type(item) in weakref.ProxyTypes else type(item)


def _planned(root: object, replace: Replace, is_rebuilt: Callable[[object], bool], found: Namespaces) -> Plan:
    plan = Plan()

    def is_leaf(item: object) -> bool:
        if isinstance(item, types.ModuleType):
            plan.replaced[id(item)] = item
            return True
        found.remember(item)
        replacement = replace(item)
        if replacement is None and is_file(item):
            replacement = item
        if replacement is None and isinstance(item, BaseProxy):
            raise TypeError(f"cannot copy a {type(item).__name__}, which leads to what a process of its own has.")
        if (replacement is None or isinstance(replacement, CopyAs)) and is_armed(_class_of(item)):
            plan.disarmed.prepare(_class_of(item))
            plan.armed.append(item)
        if isinstance(replacement, CopyAs):
            plan.recast.append((item, replacement))
            return False
        if replacement is not None:
            plan.replaced[id(item)] = replacement
        elif uncompiled(item) is not None:
            plan.compiled.append(item)
        elif isinstance(item, types.FunctionType) and _captures(item):
            plan.functions.append(item)
        elif isinstance(item, types.MethodType) and _captures(item.__func__):
            if getattr(type(item.__self__), item.__func__.__name__, None) is item.__func__:
                return False  # found on the class again by whoever has the copy
            plan.methods.append(item)
        elif isinstance(item, weakref.ref) and type(item) in WEAK:
            plan.references.append(item)
        elif isinstance(item, (types.MappingProxyType, threading.local)):
            plan.views.append(item)
        elif is_rebuilt(item):
            reduced = rebuildable(item)
            if reduced is not None:
                plan.rebuilt.append((item, reduced))
        return replacement is not None or isinstance(item, (Tensor, weakref.WeakSet))  # which makes its own references

    for _ in reachable(root, is_leaf):
        pass  # walking is what fills the plan
    return plan


def copy_with(root: T, replace: Replace) -> T:
    """Copies an object graph, with some of its objects replaced.

    Args:
        root: The object to copy.
        replace: Gives for an object what stands for it in the copy (the object itself shares it), or None for a
            copy of its own; :class:`CopyAs` for one of another class, which has to have a ``__setstate__``.

    Returns:
        The copy. Functions that captured parts of the original capture their copies.

    Raises:
        TypeError: If the graph holds an iterator, which can neither be copied nor shared.
        RuntimeError: If it holds a queue of several processes, which can neither.
    """
    found = Namespaces()
    plan = _planned(root, replace, is_its_own_namespace, found)
    known = {**plan.replaced, **{id(item): as_ for item, as_ in plan.recast}}

    def shared(item: object) -> object | None:
        return known[id(item)] if id(item) in known else uncopied(item)

    try:
        with suppress(Exception):  # whatever a class of the user's raises
            return _copied(root, plan)
        found.put_back()
        return _carefully_copied(root, shared, found)  # here, where what the first try copied is gone
    finally:
        found.put_back()


def _carefully_copied(root: T, replace: Replace, found: Namespaces) -> T:
    """Copies what has been tried; only now, because asking every object whether it can be copied takes longer."""
    try:
        return _copied(root, _planned(root, replace, is_its_own_namespace, found))
    except Exception:
        found.put_back()
    is_rebuilt: Callable[[object], bool] = lambda item: is_its_own_namespace(item) or answers_for_names(item)  # noqa: E731
    try:
        return _copied(root, _planned(root, replace, is_rebuilt, found))
    except _WORDLESS as error:
        kind = _kind_in_question(error)
        if kind is None:
            raise
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise TypeError(f"cannot copy a {kind.__name__} ({reason}).") from error


def _kind_in_question(error: BaseException) -> type | None:
    """Finds the class of what was being copied when an error came."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    copied = [frame.f_locals["x"] for frame in frames if frame.f_code is copy.deepcopy.__code__]
    return next((type(item) for item in reversed(copied) if type(item) not in _PLAIN), None)


def _copied(root: T, plan: Plan) -> T:
    memo = dict(plan.replaced)
    may_end: Callable[[object], bool] = lambda copied: False  # noqa: E731 -- what was copied before an error may not
    try:
        twins = Twins(plan, memo)
        copied = copy.deepcopy(root, memo)
        twins.fill()
        may_end = _ending(copied, plan)
    finally:
        _disarm(plan, memo, may_end)
    return copied


def _disarm(plan: Plan, memo: dict[int, object], may_end: Callable[[object], bool]) -> None:
    """Sees to it that copies end nothing and wait for nobody; what was shared or is its own copy stays as it is."""
    for item in plan.armed:
        copied = memo.get(id(item), item)
        if copied is not item and id(item) not in plan.replaced and not may_end(copied):
            plan.disarmed.take(copied)


def _ending(root: object, plan: Plan) -> Callable[[object], bool]:
    """Returns what tells which copies may end something: of classes that say how, with no handle of training's."""
    shared = {id(item): not isinstance(item, _DATA) and not is_large(item) for item in plan.replaced.values()}

    def holds_handles(copied: object) -> bool:
        return any(shared.get(id(part), False) for part in reachable(copied, lambda part: id(part) in shared))

    if len(plan.armed) == 0 or not holds_handles(root):
        return lambda copied: says_how_it_is_copied(type(copied))
    if len(plan.armed) > _MANY_ARMED:
        return lambda copied: False  # to look through all that each leads to would take long
    return lambda copied: says_how_it_is_copied(type(copied)) and not holds_handles(copied)


def copy_data(data: T, share: Iterable[object] = (), *, is_read: bool = True, is_written: bool = False) -> T:
    """Copies a data set's, sampler's or data module's own state and shares what it holds.

    Reading a data set may change it (counters, caches, random generators of its own). Arrays of more than 1 MiB and
    containers of more than 1000 items are shared, so the cost does not grow with the data, and so are modules that know
    their trainer and the trainers of data modules: all of training would be copied with them.

    Args:
        data: The object to copy.
        share: Objects to share besides.
        is_read: Whether samples are read from the copy: else queues are copied, and only to wait for them is refused.
        is_written: Whether a large container is a copy too, which shares what it holds.

    Returns:
        The copy.

    Raises:
        TypeError: If it holds an iterator, a queue or a waiting future, which can neither be copied nor shared.
        RuntimeError: If it holds a queue of several processes, which can neither.
    """
    shared = {id(item) for item in share}
    visited = 0

    def replace(item: object) -> object | None:
        nonlocal visited
        visited += 1
        if is_read and is_taken_once(item) and id(item) not in shared:
            raise TypeError(f"cannot copy a {type(item).__name__}, which gives what it has once, and to whoever asks.")
        is_container = isinstance(item, (*MAPPINGS, *CONTAINERS))
        is_long = is_container and (visited > _MANY or len(item) > LONG)  # type: ignore[arg-type]
        own = getattr(item, "__dict__", {})
        if _OF_DATA_MODULES in own:
            shared.add(id(own[_OF_DATA_MODULES]))  # which is looked at after what holds it
        is_tied = isinstance(item, nn.Module) and _OF_MODULES in own
        if is_written and is_long and id(item) not in shared and not isinstance(item, types.MappingProxyType):
            return copy.copy(item)
        return item if id(item) in shared or is_long or is_large(item) or is_tied else None

    return copy_with(data, replace)
