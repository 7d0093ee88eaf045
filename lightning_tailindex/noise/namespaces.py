"""What objects hold, put back where they let go of it when they were asked how they are copied."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .reaching import COPYING, has_own

__all__ = ["Namespaces"]

_ASKED = (*COPYING, "__new__")
"""Methods that copying calls: one may change the object, or give it in the place of a new one, which is then filled."""


class Namespaces:
    """Remembers the attributes of objects whose classes have a say in how they are copied."""

    def __init__(self) -> None:
        self._has_say: dict[type, bool] = {}
        self._found: dict[int, tuple[Any, dict[str, object], dict[str, object]]] = {}

    def remember(self, item: object) -> None:
        """Takes down what an object has when it is shown for the first time, which is not yet what its copies get.

        Args:
            item: Any object.
        """
        kind = type(item)
        if kind not in self._has_say:
            self._has_say[kind] = not issubclass(kind, Tensor) and has_own(kind, _ASKED)
        if self._has_say[kind] and id(item) not in self._found:
            own = getattr(item, "__dict__", None)
            if isinstance(own, dict):
                self._found[id(item)] = (item, own, dict(own))

    def put_back(self) -> None:
        """Gives each object back what it let go of: what it has no longer, or None instead of.

        Other things threads may have changed meanwhile; but of what ``__new__`` gave in the place of a copy, and which
        was then filled with a copy's, everything is put back.
        """
        for item, own, before in self._found.values():
            if getattr(item, "__dict__", None) is not own:
                object.__setattr__(item, "__dict__", own)
            was_filled = has_own(type(item), ("__new__",))
            own.update({name: value for name, value in before.items() if was_filled or own.get(name) is None})
