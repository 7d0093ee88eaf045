"""Copies that neither end what training uses too, when they are deleted, nor wait for threads that do not know them."""

from __future__ import annotations

import copyreg
import threading
import types
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from .reaching import COPYING

__all__ = ["Disarmed", "disarmed", "is_armed", "says_how_it_is_copied"]

T = TypeVar("T")


def _nothing(copied: object) -> None:
    """Stands in the place of a finalizer."""


def _refused_wait(copied: object, timeout: float | None = None) -> bool:
    """Stands in the place of waiting, which with a time limit, again and again, may have no end either."""
    if timeout is not None and timeout <= 0:
        return False
    raise RuntimeError(
        "a measurement would wait for another thread, which knows training's own and not the copy of it."
    )


def _new(kind: Any, *arguments: object) -> object:
    """Makes an object as pickling does, which refuses to by its own function where the class is another one."""
    return kind.__new__(kind, *arguments)


def _reduced(copied: object, protocol: int) -> Any:
    """Pickles a copy as one of its original's class: worker processes close what is theirs."""
    kind: Any = type(copied)
    reduced = kind.__base__.__reduce_ex__(copied, protocol)
    if isinstance(reduced, str):
        return reduced
    make, arguments, *state = reduced
    return (
        _new if make is vars(copyreg)["__newobj__"] else kind.__base__ if make is kind else make,
        tuple(kind.__base__ if each is kind else each for each in arguments),
        *state,
    )


def is_armed(kind: type) -> bool:
    """Whether copies of such objects would end or wait for something.

    Args:
        kind: Their class.

    Returns:
        True where it says in Python what happens when they are deleted (others leave alone what is shared), and for
        conditions, by which queues, events, semaphores and futures wait.
    """
    finalizer = getattr(kind, "__del__", None)
    has_finalizer = callable(finalizer) and not isinstance(finalizer, types.WrapperDescriptorType)
    return has_finalizer or issubclass(kind, threading.Condition)


def says_how_it_is_copied(kind: type) -> bool:
    """Whether a class that ends something, or one derived from it, says what a copy is made of: handles of its own."""
    base = next((base for base in kind.__mro__ if "__del__" in vars(base)), None)
    if base is None:
        return False
    aware = kind.__mro__[: kind.__mro__.index(base) + 1]
    return any(name in vars(each) for each in aware for name in COPYING)


def _is_disarmed(kind: type) -> bool:
    return getattr(kind, "__del__", None) is _nothing


def _disarmed(kind: type) -> type:
    if next(base for base in kind.__mro__ if "__init_subclass__" in vars(base)) not in (object, Generic, Protocol):
        raise TypeError(
            f"cannot copy {kind.__name__}: it ends something in __del__, and may keep a list in __init_subclass__."
        )
    names = ("__module__", "__qualname__", "__doc__")
    body: dict[str, object] = {"__slots__": (), "__del__": _nothing, "__reduce_ex__": _reduced}
    if issubclass(kind, threading.Condition):
        body["wait"] = _refused_wait
    # not by calling the class's own class, which may keep a list of what it makes
    return type.__new__(type(kind), kind.__name__, (kind,), {**{name: getattr(kind, name) for name in names}, **body})


class Disarmed:
    """Makes the classes that copies are of, each once."""

    def __init__(self) -> None:
        self._made: dict[type, type] = {}

    def prepare(self, kind: type) -> None:
        """Makes what copies of objects of a class will be of, while there are none yet.

        Args:
            kind: A class for which :func:`is_armed` is true.

        Raises:
            TypeError: If nothing may derive from it.
        """
        if kind not in self._made and not _is_disarmed(kind):
            self._made[kind] = _disarmed(kind)

    def take(self, copied: object) -> None:
        """Takes from a copy its finalizer, or that it waits; else it is of the class that it was of.

        Python calls the finalizers of all objects, also of those that nobody made by calling their class. That of a
        copy closes the archive that training reads, frees its memory and deletes its files.

        Args:
            copied: A copy that nobody else knows.
        """
        kind = type(copied)
        if is_armed(kind) and not _is_disarmed(kind):
            self.prepare(kind)
            object.__setattr__(copied, "__class__", self._made[kind])
        if isinstance(copied, threading.Condition):
            vars(copied)["_waiters"] = deque()  # else it would wake those who wait for the original


def disarmed(copied: T) -> T:
    """Takes the finalizer from a single copy and returns it."""
    Disarmed().take(copied)
    return copied
