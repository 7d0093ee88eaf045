"""What a shadow holds is freed when a measurement ends, even where somebody still knows the shadow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["emptied_afterwards"]


def _may_be_emptied(kind: type) -> bool:
    """Whether modules of a class are compared, looked up and deleted without regard to what they hold."""
    is_itself = all(getattr(kind, name) is getattr(object, name) for name in ("__eq__", "__hash__"))
    return is_itself and not callable(getattr(kind, "__del__", None))


def _own_parts(shadow: nn.Module, module: nn.Module) -> list[nn.Module]:
    """Finds the parts of a shadow whose attributes are not the original's: a part may say itself how it is copied."""
    originals = {id(vars(part)) for part in module.modules()}
    own = (part for part in shadow.modules() if id(vars(part)) not in originals)
    return [part for part in own if _may_be_emptied(type(part))]


@contextmanager
def emptied_afterwards(shadow: nn.Module, module: nn.Module) -> Iterator[None]:
    """Makes empty modules of a shadow and its parts on leaving.

    ``functools.cache`` on a method keeps every module that the method was called of, for as long as the class lives:
    buffers and frozen parameters would be kept for each measurement.

    Args:
        shadow: The shadow, as it was made. What it computes may give it parts of others', which are not emptied.
        module: The original, nothing of which is emptied.
    """
    parts = _own_parts(shadow, module)
    try:
        yield
    finally:
        for part in parts:
            vars(part).clear()  # of the part's own; what its attributes held may be held by others, too
            vars(part).update(vars(nn.Module()))
