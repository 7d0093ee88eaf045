"""Lines for the user, in Lightning's log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import rank_zero

from .flavour import rank_zero_info

__all__ = ["tell"]


def tell(line: str) -> None:
    """Writes a line to Lightning's log, in the first process only.

    Args:
        line: What to say.
    """
    with _above_live_bars():
        rank_zero_info(line, stacklevel=5)  # of the caller


@contextmanager
def _above_live_bars() -> Iterator[None]:
    """Lets log handlers write above rich's live bars, which overwrite what goes to the stream from before them."""
    now, hidden = sys.stderr, getattr(sys.stderr, "rich_proxied_file", None)
    moved = [] if hidden is None else [each for each in _handlers() if each.stream is hidden]
    for handler in moved:
        handler.setStream(now)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(hidden)


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    """Lists what shows the lines of Lightning's log."""
    logger: logging.Logger | None = rank_zero.log
    while logger is not None:
        yield from (each for each in logger.handlers if isinstance(each, logging.StreamHandler))
        logger = logger.parent if logger.propagate else None
