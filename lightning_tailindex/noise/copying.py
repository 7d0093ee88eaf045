"""Deep copies that share what is large or must not be copied, and keep nothing of the original in closures."""

from __future__ import annotations

import copy
import types
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from .handles import is_large, uncopied
from .reaching import ATOMS, CONTAINERS, cells, defaults, reachable

__all__ = ["CopyAs", "copy_data", "copy_with"]

T = TypeVar("T")
Replace = Callable[[object], object | None]

_LONG = 1000
"""A container of more items is data, not state: it is shared instead of being copied item by item."""
_MANY = 20_000
"""After so many objects whatever container follows is data too."""
_OF_MODULES, _OF_DATA_MODULES = "_trainer", "trainer"
"""Attributes by which Lightning's modules and data modules know their trainer."""


@dataclass(frozen=True)
class CopyAs:
    """Stands for a copy of an object's own, but of another class.

    Attributes:
        kind: The class of the copy.
    """

    kind: type


@dataclass(frozen=True)
class _Plan:
    """What a copy has to know of the original.

    Attributes:
        replaced: What stands for each replaced object, by the object's id.
        functions: Functions that captured something, in a closure or as a default argument.
        methods: Bound methods of such functions, which are not their class's.
        recast: Objects whose copies are of another class, and that class.
        references: Weak references.
    """

    replaced: dict[int, object] = field(default_factory=dict)
    functions: list[types.FunctionType] = field(default_factory=list)
    methods: list[types.MethodType] = field(default_factory=list)
    recast: list[tuple[object, CopyAs]] = field(default_factory=list)
    references: list[weakref.ref[Any]] = field(default_factory=list)


def _captures(item: object) -> bool:
    if not isinstance(item, types.FunctionType):
        return False
    return bool(item.__closure__) or not all(isinstance(default, ATOMS) for default in defaults(item))


def _planned(root: object, replace: Replace) -> _Plan:
    plan = _Plan()

    def is_leaf(item: object) -> bool:
        replacement = replace(item)
        if isinstance(replacement, CopyAs):
            plan.recast.append((item, replacement))
            return False
        if replacement is not None:
            plan.replaced[id(item)] = replacement
        elif isinstance(item, types.FunctionType) and _captures(item):
            plan.functions.append(item)
        elif isinstance(item, types.MethodType) and _captures(item.__func__):
            if getattr(type(item.__self__), item.__func__.__name__, None) is item.__func__:
                return False  # found on the class again by whoever has the copy
            plan.methods.append(item)
        elif type(item) is weakref.ref:
            plan.references.append(item)
        return replacement is not None or isinstance(item, (Tensor, weakref.WeakSet))  # which makes its own references

    for _ in reachable(root, is_leaf):
        pass  # walking is what fills the plan
    return plan


class _Bound:
    """A bound method of a function that is not its class's; function and owner are known once both are copied."""

    function: Callable[..., object]
    owner: object

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.function(self.owner, *args, **kwargs)


class _Weak:
    """A weak reference to the copy of what another one refers to; known once that is copied."""

    reference: Callable[[], object]

    def __call__(self) -> object:
        return self.reference()


class _Twins:
    """What ``deepcopy`` would not make: functions and weak references, which it shares, objects of another class.

    They stand in the memo before the copy is made, still empty, and are filled with copies of what was captured
    afterwards. Python 3.14 shares functions without asking the memo.
    """

    def __init__(self, plan: _Plan, memo: dict[int, object]) -> None:
        self._plan = plan
        self._memo = memo
        self._cells = {id(cell): types.CellType() for function in plan.functions for cell in function.__closure__ or ()}
        memo.update({id(function): self._twin(function) for function in plan.functions})
        memo.update({id(method): _Bound() for method in plan.methods})
        memo.update({id(item): object.__new__(as_.kind) for item, as_ in plan.recast})
        memo.update({id(reference): _Weak() for reference in plan.references})

    def _twin(self, original: types.FunctionType) -> types.FunctionType:
        closure = tuple(self._cells[id(cell)] for cell in original.__closure__ or ())
        return types.FunctionType(original.__code__, original.__globals__, original.__name__, None, closure)

    def fill(self) -> None:
        """Copies what was captured or is another's, once the rest is copied."""
        for item, as_ in self._plan.recast:
            recast: Any = self._memo[id(item)]
            own = getattr(item, "__getstate__", None)  # which every object has only from Python 3.11 on
            # a class that says how it is copied may refuse to be pickled, as modules with parametrizations do
            says_how = callable(getattr(as_.kind, "__deepcopy__", None))
            recast.__setstate__(copy.deepcopy(vars(item) if own is None or says_how else own(), self._memo))
        for original in self._plan.functions:
            twin = self._memo[id(original)]
            assert isinstance(twin, types.FunctionType)
            twin.__defaults__ = copy.deepcopy(original.__defaults__, self._memo)
            twin.__kwdefaults__ = copy.deepcopy(original.__kwdefaults__, self._memo)
            vars(twin).update(vars(original))
            for cell in cells(original):
                self._cells[id(cell)].cell_contents = copy.deepcopy(cell.cell_contents, self._memo)
        for method in self._plan.methods:
            bound = self._memo[id(method)]
            assert isinstance(bound, _Bound)
            bound.function = copy.deepcopy(method.__func__, self._memo)
            bound.owner = copy.deepcopy(method.__self__, self._memo)
        for reference in self._plan.references:
            weak, referent = self._memo[id(reference)], reference()
            assert isinstance(weak, _Weak)
            is_copied = referent is not None and id(referent) in self._memo
            weak.reference = weakref.ref(self._memo[id(referent)]) if is_copied else reference


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
    plan = _planned(root, replace)
    try:
        return _copied(root, plan)
    except (TypeError, RuntimeError):
        # only now, because asking every object whether it can be copied takes longer than copying
        known = {**plan.replaced, **{id(item): as_ for item, as_ in plan.recast}}
        return _copied(root, _planned(root, lambda item: known[id(item)] if id(item) in known else uncopied(item)))


def _copied(root: T, plan: _Plan) -> T:
    memo = dict(plan.replaced)
    twins = _Twins(plan, memo)
    copied = copy.deepcopy(root, memo)
    twins.fill()
    return copied


def copy_data(data: T, share: Iterable[object] = ()) -> T:
    """Copies a data set's, sampler's or data module's own state and shares what it holds.

    Reading a data set may change it (counters, caches, random generators of its own). Arrays of more than 1 MiB and
    containers of more than 1000 items are shared, so the cost does not grow with the data, and so are modules that know
    their trainer and the trainers of data modules: all of training would be copied with them.

    Args:
        data: The object to copy.
        share: Objects to share besides.

    Returns:
        The copy.

    Raises:
        TypeError: If it holds an iterator, which can neither be copied nor shared.
        RuntimeError: If it holds a queue of several processes, which can neither.
    """
    shared = {id(item) for item in share}
    visited = 0

    def replace(item: object) -> object | None:
        nonlocal visited
        visited += 1
        is_container = isinstance(item, (dict, *CONTAINERS))
        is_long = is_container and (visited > _MANY or len(item) > _LONG)  # type: ignore[arg-type]
        own = getattr(item, "__dict__", {})
        if _OF_DATA_MODULES in own:
            shared.add(id(own[_OF_DATA_MODULES]))  # which is looked at after what holds it
        return item if id(item) in shared or is_long or is_large(item) or _OF_MODULES in own else None

    return copy_with(data, replace)
