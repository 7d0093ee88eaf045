"""What Python refuses to copy: what is shared instead, and what may not be."""

from __future__ import annotations

import ctypes
import io
import queue
import threading
import types
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from multiprocessing import queues, sharedctypes
from multiprocessing.managers import BaseProxy
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor

from .reaching import CONTAINERS, COPYING, MAPPINGS, has_own, reachable

__all__ = ["LONG", "WEAK", "is_file", "is_large", "is_taken_once", "leads_elsewhere", "uncopied"]

WEAK = (weakref.ref, weakref.WeakMethod)
"""Weak references; classes derived from them belong to containers, which make their own."""

LONG = 1000
"""A container of more items is data, not state: it is shared instead of being copied item by item."""

_LARGE = 1 << 20
"""An array of more bytes is data; a smaller one may be a counter."""

# Whoever takes from one that is shared takes from the other.
_CONSUMED = (Iterator, queue.SimpleQueue, queues.Queue, queues.SimpleQueue)
# Run what they are given; copies of their parts would be those of threads that nobody started.
_RUNNING = (threading.Thread, Executor)


def _is_array(item: object) -> bool:
    """Whether an object is an array, of any library."""
    return callable(getattr(type(item), "__array__", None))


def is_large(item: object) -> bool:
    """Whether an object is an array, or bytes that can be written to, and so large that it is data."""
    if isinstance(item, bytearray):
        return len(item) > _LARGE
    return _is_array(item) and getattr(item, "nbytes", _LARGE + 1) > _LARGE


def is_taken_once(item: object) -> bool:
    """Whether it is a queue, or a future that waits: what threads put there is for training, none comes to a copy."""
    return isinstance(item, queue.Queue) or (isinstance(item, Future) and not item.done())


def leads_elsewhere(root: object) -> bool:
    """Whether an object holds what worker processes share: a queue of theirs, a way to a manager's, an open file.

    Of a file they share the place where the next one reads.
    """
    kinds = (queues.Queue, queues.SimpleQueue, BaseProxy)
    return any(isinstance(item, kinds) or is_file(item) for item in reachable(root, _is_data))


def _is_data(item: object) -> bool:
    return isinstance(item, Tensor) or (isinstance(item, (*MAPPINGS, *CONTAINERS)) and len(item) > LONG)


def is_file(item: object) -> bool:
    """Whether it is a file to share: a copy that is deleted closes what it reads from.

    Those in memory are copied, and those whose class says how, as files of remote storage: they open their own.
    """
    may_be = callable(getattr(type(item), "__del__", None))  # as that of every file is; to ask this takes less
    if not may_be or not isinstance(item, io.IOBase) or isinstance(item, (io.BytesIO, io.StringIO)):
        return False
    return not has_own(type(item), COPYING)


def uncopied(item: object) -> object | None:
    """Finds what stands in a copy for an object that Python refuses to copy.

    Args:
        item: Any object.

    Returns:
        Of a lock, a file, a connection, a thread the object itself; of a value that processes share another one; None
        for what is copied, and for iterators and queues, which can neither be copied nor shared.
    """
    known = (Tensor, types.FunctionType, types.MethodType, threading.local, *MAPPINGS, *CONTAINERS)
    if isinstance(item, known) or _is_array(item) or type(item) in WEAK:
        return None
    if isinstance(item, _RUNNING) or getattr(item, "__reduce_ex__", None) is None:
        return item  # it runs what it is given, or answers for all names itself and not for this one
    if callable(getattr(type(item), "__deepcopy__", None)) and not _is_bound(item):
        return None  # it may refuse to be pickled and says itself how it is copied
    if isinstance(item, sharedctypes.SynchronizedBase):
        return _another(item)
    if isinstance(item, _CONSUMED) and not isinstance(item, io.IOBase):
        return None
    try:
        item.__reduce_ex__(4)
    except (TypeError, RuntimeError, ValueError, PicklingError):
        return item
    return None


def _is_bound(item: object) -> bool:
    """Whether it is of a class in C++, profilers have some, whose ``__deepcopy__`` hangs on what that class has."""
    return isinstance(item, torch._C.ScriptObject) and not isinstance(item, torch._C.ScriptModule)


def _another(item: Any) -> object:
    value = item.get_obj()
    return item if ctypes.sizeof(value) > _LARGE else sharedctypes.synchronized(sharedctypes.copy(value))
