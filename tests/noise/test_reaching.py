"""Wherever a function stands that captured something, the copy's function captured the copy."""

from __future__ import annotations

import collections
import functools
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import c_int, pointer
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from lightning_tailindex.noise.copying import copy_data, copy_with
from lightning_tailindex.noise.reaching import reachable

Call = Callable[[], int]


class InBase:
    __slots__ = ("call",)


class Derived(InBase):
    __slots__ = ()


class InAString:
    __slots__ = "call"


class _Private:
    __slots__ = ("__call", "__weakref__")

    def __init__(self, call: Call) -> None:
        self.__call = call

    def __call__(self) -> int:
        return self.__call()


class OwnDict(dict[str, Call]):
    call: Call


class OwnList(list[Call]):
    call: Call


class OwnLocal(threading.local):
    def __init__(self, call: Call) -> None:
        self.call = call


def with_attribute(holder: Any, call: Call) -> Any:
    holder.call = call
    return holder


def function_with_attribute(call: Call) -> Any:
    def function() -> int:
        return 0

    return with_attribute(function, call)


def wrapping(call: Call) -> Any:
    @functools.wraps(call)
    def wrapper() -> int:
        return int(wrapper.__wrapped__())

    return wrapper


# what holds a function, and how the function is called there
PLACES: dict[str, tuple[Callable[[Call], Any], Callable[[Any], int]]] = {
    "a list": (lambda call: [call], lambda held: held[0]()),
    "a slot of a base class": (lambda call: with_attribute(Derived(), call), lambda held: held.call()),
    "a slot named by a string": (lambda call: with_attribute(InAString(), call), lambda held: held.call()),
    "a private slot": (_Private, lambda held: held()),
    "a dictionary's key": (lambda call: {call: 1}, lambda held: next(iter(held))()),
    "a default factory": (lambda call: collections.defaultdict(call), lambda held: held["new"]),
    "an attribute of a dictionary": (lambda call: with_attribute(OwnDict(), call), lambda held: held.call()),
    "an attribute of a list": (lambda call: with_attribute(OwnList(), call), lambda held: held.call()),
    "an attribute of a partial": (
        lambda call: with_attribute(functools.partial(int), call),
        lambda held: held.call(),
    ),
    "an attribute of a function": (function_with_attribute, lambda held: held.call()),
    "a wrapper": (wrapping, lambda held: held()),
    "a mapping proxy": (lambda call: MappingProxyType({"call": call}), lambda held: held["call"]()),
    "a thread's own": (lambda call: with_attribute(threading.local(), call), lambda held: held.call()),
    "a thread's own, of a class": (OwnLocal, lambda held: held.call()),
}


class Counter:
    """Counts the calls of a function that captured it; a lock makes Python refuse to copy it."""

    def __init__(self, hold: Callable[[Call], Any], has_lock: bool) -> None:
        self.calls = 0
        self.held = hold(lambda: self.count())
        self.lock = threading.Lock() if has_lock else None

    def count(self) -> int:
        self.calls += 1
        return self.calls


@pytest.mark.parametrize("has_lock", [False, True])
@pytest.mark.parametrize("copied_by", [copy_data, lambda item: copy_with(item, lambda _: None)])
@pytest.mark.parametrize("place", PLACES)
def test_a_function_is_found_in(place: str, copied_by: Callable[[Counter], Counter], has_lock: bool) -> None:
    hold, call = PLACES[place]
    original = Counter(hold, has_lock)
    copied = copied_by(original)
    assert type(copied.held) is type(original.held)
    assert (call(copied.held), original.calls, copied.calls) == (1, 0, 1)
    assert call(original.held) == original.calls == 1  # the control: whoever calls it does change its owner


def test_what_a_function_counts_in_its_own_attribute_is_copied() -> None:
    original = function_with_attribute(lambda: 0)
    original.calls = 0
    copied = copy_with(original, lambda _: None)
    copied.calls += 1
    assert original.calls == 0


def test_an_empty_slot_stays_empty() -> None:
    copied = copy_with([Derived()], lambda _: None)
    with pytest.raises(AttributeError, match="call"):
        copied[0].call()


def test_a_weak_reference_to_a_method_leads_to_the_copy() -> None:
    within, beside = Counter(type, False), Counter(type, False)
    references = {"within": weakref.WeakMethod(within.count), "beside": weakref.WeakMethod(beside.count)}
    original: dict[str, Any] = {"held": within, **references}
    copied = copy_with(original, lambda _: None)
    assert (copied["within"]()(), within.calls, copied["held"].calls) == (1, 0, 1)
    assert copied["beside"]()() == beside.calls == 1
    del copied["held"]
    assert copied["within"]() is None


@pytest.mark.parametrize("held", [np.random, lambda: np.random.default_rng], ids=["attribute", "default"])
def test_python_modules_are_shared(held: Any) -> None:
    def draw(source: Any = np.random) -> Any:
        return source, module

    module = np
    copied = copy_with([held, draw, np], lambda _: None)
    assert copied[0] is np.random or copied[0]() is held()
    assert copied[1]() == (np.random, np)
    assert copied[2] is np


def test_threads_pools_and_pointers_are_shared() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(int).result() == 0
        held = [pool, threading.Thread(target=int), pointer(c_int(3))]
        copied = copy_data([*held, [0]])
        assert all(mine is theirs for mine, theirs in zip(copied, held, strict=False))
        assert copied[-1] is not held


def test_a_queue_of_threads_is_refused_in_data_and_copied_elsewhere() -> None:
    waiting: queue.Queue[int] = queue.Queue()
    waiting.put(3)
    copied = copy_with(waiting, lambda item: None)
    assert (copied.get(), waiting.qsize()) == (3, 1)
    with pytest.raises(RuntimeError, match="would wait for another thread"):
        copied.get(timeout=1)
    for taken in (waiting, queue.PriorityQueue[int](), Future[int]()):
        with pytest.raises(TypeError, match=f"cannot copy a {type(taken).__name__}, which gives what it has once"):
            copy_data([taken])
    with pytest.raises(TypeError, match="SimpleQueue"):
        copy_data([queue.SimpleQueue()])


def test_walking_asks_no_object_for_what_it_has_not() -> None:
    class Asked:
        __slots__ = ("empty",)

        def __getattr__(self, name: str) -> object:
            assert name == "__dict__", f"asked for {name}"
            raise AttributeError(name)

    assert len(list(reachable([Asked()], lambda _: False))) == 2
