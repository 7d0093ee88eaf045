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
    proxies: list[Any] = [each for each in (sys.stdout, sys.stderr) if getattr(each, "rich_proxied_file", None)]
    moved = [(each, proxy) for each in _handlers() for proxy in proxies if each.stream is proxy.rich_proxied_file]
    for handler, proxy in moved:
        handler.setStream(proxy)
    try:
        yield
    finally:
        for handler, proxy in moved:
            handler.setStream(proxy.rich_proxied_file)


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    """Lists what shows the lines of Lightning's log."""
    logger: logging.Logger | None = rank_zero.log
    while logger is not None:
        yield from (each for each in logger.handlers if isinstance(each, logging.StreamHandler))
        logger = logger.parent if logger.propagate else None
