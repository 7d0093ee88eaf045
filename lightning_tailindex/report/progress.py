"""How far a long report is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

__all__ = ["Progress", "shown", "silent"]

T = TypeVar("T")


class Progress(Protocol):
    """What hands items on, one after the other, and may show how many of them there were."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        """Hands items on.

        Args:
            items: The items.
            what: What is done with them, in a word.

        Returns:
            The items.
        """


def silent(items: Sequence[T], what: str) -> Iterable[T]:
    """Hands items on and shows nothing."""
    return items


def shown(items: Sequence[T], what: str) -> Iterable[T]:
    """Hands items on under a bar, where there are several; on a terminal only, and it leaves nothing there."""
    bar: Any = tqdm(items, desc=what, unit="run", leave=False, disable=None if len(items) > 1 else True)
    return bar  # type: ignore[no-any-return]
