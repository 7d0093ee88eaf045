"""What stands where a measurement would log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .flavour import DummyLogger, Logger

__all__ = ["Silence", "SilentLogger"]


class Silence:
    """Takes everything and keeps nothing; whatever is asked of it, it is the answer."""

    def __getattr__(self, name: str) -> Silence:
        if name.startswith("__"):  # protocols of Python, which ask whether it has a part in them
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> Silence:
        """Does nothing."""
        return self

    def __iter__(self) -> Iterator[Silence]:
        return iter(())

    def __getitem__(self, key: object) -> Silence:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        pass


class SilentLogger(DummyLogger):
    """Takes everything and keeps nothing; says what the logger that it stands for is, and where it writes."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._stood_for = logger

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the logger, for steps that look it up by that; none of its methods is called."""
        return type(self._stood_for)

    @property
    def experiment(self) -> Any:
        """What a step writes to by itself."""
        return Silence()

    @property
    def name(self) -> str:
        """The logger's name."""
        return str(self._stood_for.name)

    @property
    def version(self) -> str:
        """The logger's version."""
        return str(self._stood_for.version)

    @property
    def save_dir(self) -> str | None:
        """Where the logger saves."""
        return self._stood_for.save_dir

    @property
    def log_dir(self) -> str | None:
        """Where the logger writes."""
        return self._stood_for.log_dir
