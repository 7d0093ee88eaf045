"""Notes of records: what a reader has to know, in words."""

from __future__ import annotations

__all__ = ["joined"]


def joined(*notes: str) -> str:
    """Makes one note of those that say something.

    Example:
        >>> joined("no draws", "", "1 of 2 series left out")
        'no draws; 1 of 2 series left out'
    """
    return "; ".join(filter(None, notes))
