"""Copies of what ``deepcopy`` would ask for names that it knows nothing of, or copy in two parts."""

from __future__ import annotations

import copy
import copyreg
from typing import Any

from torch import nn

__all__ = ["Reduced", "answers_for_names", "is_its_own_namespace", "rebuildable", "refilled"]

Reduced = tuple[Any, ...]
"""What pickling knows of an object: how it is made, of what class, and what is put into it."""


def is_its_own_namespace(item: object) -> bool:
    """Whether a dictionary's attributes are its items, as by ``self.__dict__ = self``."""
    return isinstance(item, dict) and type(item) is not dict and getattr(item, "__dict__", None) is item


def answers_for_names(item: object) -> bool:
    """Whether its class has a ``__getattr__``: asked of a copy that is empty yet, it may fail or have no end."""
    return callable(getattr(type(item), "__getattr__", None)) and not isinstance(item, nn.Module)


def rebuildable(item: object) -> Reduced | None:
    """Returns what an object is rebuilt of; None where its class says itself how it is copied."""
    kind: Any = type(item)
    if callable(getattr(kind, "__deepcopy__", None)):
        return None
    reduced = kind.__reduce_ex__(item, 4)
    is_usual = isinstance(reduced, tuple) and reduced[:2] == (vars(copyreg)["__newobj__"], (kind,))
    return (*reduced, None, None, None)[2:5] if is_usual else None


def refilled(twin: Any, item: object, reduced: Reduced, memo: dict[int, Any]) -> None:
    """Puts copies of what an object holds into its empty twin, which is asked for no name.

    Args:
        twin: What stands for the object in the copy.
        item: The object.
        reduced: What it is rebuilt of.
        memo: What has been copied.
    """
    state, items, pairs = reduced
    set_state = getattr(type(twin), "__setstate__", None)
    if state is item:
        object.__setattr__(twin, "__dict__", twin)
    elif state is not None and callable(set_state):
        set_state(twin, copy.deepcopy(state, memo))
    elif state is not None:
        own, slots = state if isinstance(state, tuple) else (state, None)
        if own:
            object.__getattribute__(twin, "__dict__").update(copy.deepcopy(own, memo))
        for name, value in (slots or {}).items():
            object.__setattr__(twin, name, copy.deepcopy(value, memo))
    for each in items or ():
        twin.append(copy.deepcopy(each, memo))
    for key, value in pairs or ():
        twin[copy.deepcopy(key, memo)] = copy.deepcopy(value, memo)
