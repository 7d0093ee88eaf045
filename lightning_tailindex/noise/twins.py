"""What ``deepcopy`` would not make: copies of functions, weak references and views, and of another class."""

from __future__ import annotations

import copy
import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .disarming import Disarmed
from .reaching import cells, uncompiled
from .rebuilding import Reduced, refilled

__all__ = ["CopyAs", "Plan", "Twins"]


@dataclass(frozen=True)
class CopyAs:
    """Stands for a copy of an object's own, but of another class.

    Attributes:
        kind: The class of the copy.
    """

    kind: type


@dataclass(frozen=True)
class Plan:
    """What a copy has to know of the original.

    Attributes:
        replaced: What stands for each replaced object, by the object's id.
        functions: Functions that captured something, in a closure, as a default argument or as an attribute.
        compiled: Functions that ``torch.compile`` made of others.
        methods: Bound methods of such functions, which are not their class's.
        recast: Objects whose copies are of another class, and that class.
        references: Weak references, to methods too.
        views: Views of dictionaries, and what each thread has its own of.
        rebuilt: Objects that ``deepcopy`` would mishandle, and what they are rebuilt of.
        armed: Objects whose copies would end or wait for something.
        disarmed: The classes of their copies.
    """

    replaced: dict[int, object] = field(default_factory=dict)
    functions: list[types.FunctionType] = field(default_factory=list)
    compiled: list[Any] = field(default_factory=list)
    methods: list[types.MethodType] = field(default_factory=list)
    recast: list[tuple[object, CopyAs]] = field(default_factory=list)
    references: list[weakref.ref[Any]] = field(default_factory=list)
    views: list[types.MappingProxyType[Any, Any] | threading.local] = field(default_factory=list)
    rebuilt: list[tuple[object, Reduced]] = field(default_factory=list)
    armed: list[object] = field(default_factory=list)
    disarmed: Disarmed = field(default_factory=Disarmed)


class _Later:
    """Stands in a copy for what can be called there only once it is copied.

    Compiled functions for their originals: compiled anew in each copy, they would use up how often training may do so.
    """

    __wrapped__: Callable[..., Any]  # by which its signature is found

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self.__wrapped__(*args, **kwargs)


def _empty(view: object) -> tuple[object, dict[str, object]]:
    """Makes another view or thread's own, and returns it with what it shows, still empty."""
    if isinstance(view, threading.local):
        own = type(view).__new__(type(view))
        return own, vars(own)
    shown: dict[str, object] = {}
    return types.MappingProxyType(shown), shown


class Twins:
    """What ``deepcopy`` would not make.

    Functions and weak references, which it shares, views of dictionaries, which it refuses, objects of another class.
    They stand in the memo before the copy is made, still empty, and are filled with copies of what was captured
    afterwards. Python 3.14 shares functions without asking the memo.
    """

    def __init__(self, plan: Plan, memo: dict[int, object]) -> None:
        self._plan = plan
        self._memo = memo
        self._cells = {id(cell): types.CellType() for function in plan.functions for cell in function.__closure__ or ()}
        memo.update({id(function): self._twin(function) for function in plan.functions})
        memo.update({id(item): _Later() for item in (*plan.compiled, *plan.methods, *plan.references)})
        memo.update({id(item): object.__new__(as_.kind) for item, as_ in plan.recast})
        memo.update({id(item): type(item).__new__(type(item)) for item, _ in plan.rebuilt})
        self._shown = {id(view): _empty(view) for view in plan.views}
        memo.update({view: twin for view, (twin, _) in self._shown.items()})

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
        for item, reduced in self._plan.rebuilt:
            refilled(self._memo[id(item)], item, reduced, self._memo)
        for original in self._plan.functions:
            twin = self._memo[id(original)]
            assert isinstance(twin, types.FunctionType)
            twin.__defaults__ = copy.deepcopy(original.__defaults__, self._memo)
            twin.__kwdefaults__ = copy.deepcopy(original.__kwdefaults__, self._memo)
            vars(twin).update(copy.deepcopy(vars(original), self._memo))
            for cell in cells(original):
                self._cells[id(cell)].cell_contents = copy.deepcopy(cell.cell_contents, self._memo)
        for item, called in self._called():
            later: Any = self._memo[id(item)]
            functools.update_wrapper(later, called, updated=())
        for view in self._plan.views:
            _, shown = self._shown[id(view)]
            shown.update(copy.deepcopy(vars(view) if isinstance(view, threading.local) else dict(view), self._memo))

    def _called(self) -> Iterator[tuple[object, Callable[..., Any]]]:
        """What can be called in the place of originals, now that what it is made of is copied."""
        for function in self._plan.compiled:
            original: Any = uncompiled(function)
            yield function, copy.deepcopy(original, self._memo)
        for method in self._plan.methods:
            own = copy.deepcopy(method.__func__, self._memo)
            yield method, types.MethodType(own, copy.deepcopy(method.__self__, self._memo))
        for reference in self._plan.references:
            yield reference, self._leading_to_copy(reference)

    def _leading_to_copy(self, reference: weakref.ref[Any]) -> weakref.ref[Any]:
        referent: Any = reference()
        is_method = referent is not None and isinstance(reference, weakref.WeakMethod)
        owner = referent.__self__ if is_method else referent
        if owner is None or id(owner) not in self._memo:
            return reference
        copied: Any = self._memo[id(owner)]
        return weakref.WeakMethod(types.MethodType(referent.__func__, copied)) if is_method else weakref.ref(copied)
