"""A bar under Lightning's own, for measurements that take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lightning_tailindex.noise.reaching import is_a

from .flavour import Trainer

__all__ = ["MeasurementBar"]

T = TypeVar("T")

_DELAY = 2.0
"""Seconds that pass before a bar appears: one that flickers past tells nothing."""


class MeasurementBar:
    """Shows how far a measurement is, below the bars of the trainer's own kind; nothing where these are off.

    Args:
        title: What stands before the bar.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._rich: tuple[Any, Any] | None = None

    def over(self, items: Iterable[T], trainer: Trainer, total: int) -> Generator[T, None, None]:
        """Hands items on, and shows how many of them there were.

        Args:
            items: The items.
            trainer: The trainer, whose progress bar decides.
            total: Their number.

        Yields:
            The items.
        """
        with self._shown(trainer.progress_bar_callback, total) as advance:
            for item in items:
                yield item
                advance()

    @contextmanager
    def _shown(self, bar: Any, total: int) -> Iterator[Callable[[], object]]:
        if is_a(bar, "TQDMProgressBar") and bar.is_enabled:
            with self._tqdm(bar, total) as own:
                yield own.update
        elif is_a(bar, "RichProgressBar") and bar.is_enabled and bar.progress is not None:
            with self._task(bar, total) as advance:
                yield advance
        else:
            yield lambda: None

    def _tqdm(self, bar: Any, total: int) -> Any:
        """Makes a bar of the class of the trainer's, where that of the validation stands at other times."""
        trained = bar.train_progress_bar
        return type(trained)(
            desc=self._title,
            total=total,
            delay=_DELAY,
            disable=trained.disable,
            position=2 * bar.process_position + 1,
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
        )

    @contextmanager
    def _task(self, bar: Any, total: int) -> Iterator[Callable[[], None]]:
        """Shows a task, and hides it in the end: Lightning finds its own by their places, so none may go."""
        progress = bar.progress
        if self._rich is None or self._rich[0] is not progress:
            self._rich = progress, progress.add_task(self._title, total=total, visible=False)
        task, start = self._rich[1], time.monotonic()
        progress.reset(task, total=total, visible=False)

        def advance() -> None:
            progress.update(task, advance=1, visible=time.monotonic() - start > _DELAY)
            bar.refresh()

        try:
            yield advance
        finally:
            progress.update(task, visible=False)
            bar.refresh()
