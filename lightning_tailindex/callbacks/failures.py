"""What becomes of a measurement that fails."""

from __future__ import annotations

import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType

from lightning_tailindex.noise.processes import OtherProcessError
from lightning_tailindex.trainer import tell
from lightning_tailindex.trainer.flavour import rank_zero_warn

__all__ = ["Failures"]


def _kind(error: Exception) -> str:
    """Names an error's type and place; its text may have a number or a file name that changes every time."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} {frame.f_code.co_filename}:{line}"


class Failures:
    """Keeps errors from ending training, and tells each kind of them once.

    Args:
        who: Whose failures they are.
        are_fatal: Whether an error ends training after all.
    """

    def __init__(self, who: str, are_fatal: bool) -> None:
        self._who = who
        self._are_fatal = are_fatal
        self._kinds: set[str] = set()

    def told(self, what: str) -> AbstractContextManager[object]:
        """Drops what fails inside; interruptions are no errors and pass.

        Args:
            what: What an error inside means.

        Returns:
            What to do it in.
        """
        return nullcontext() if self._are_fatal else _Told(self, what)

    def tell(self, error: Exception, what: str) -> None:
        """Warns of an error, if it is the first of its kind.

        Args:
            error: The error.
            what: What it means.
        """
        kind = _kind(error)
        if kind not in self._kinds:
            self._kinds.add(kind)
            warn = rank_zero_warn if isinstance(error, OtherProcessError) else warnings.warn
            cause = f"{type(error).__name__}: {error}"
            said = f"{self._who}: {what}, training goes on: {cause} (on_error='raise' shows where)"
            try:
                warn(said)
            except Warning:  # where warnings are errors, as by python -W error, this one is none
                tell(said)


@dataclass(frozen=True)
class _Told(AbstractContextManager[object]):
    """Drops errors; no generator, because one that does leaves them in a cycle with their frames from Python 3.12 on.

    Attributes:
        failures: Tells of them.
        what: What they mean.
    """

    failures: Failures
    what: str

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failures.tell(error, self.what)
        # the frames hold the shadow, its gradients and perhaps the error itself: training needs the memory now
        traceback.clear_frames(frames)
        return True
