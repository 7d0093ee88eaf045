"""What stands where a measurement would log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

from lightning_tailindex.noise.copying import copy_data

from .flavour import DummyLogger, Logger

__all__ = ["Silence", "SilentLogger"]


_DATA = (str, bytes, Number, os.PathLike, Mapping, list, tuple, set, frozenset, type(None))
"""What a step computes with: an answer that is no answer would be an error there."""
_MISSING = object()


def _told(value: object) -> Any:
    """A copy of data, which a step may write to (elements of large containers are shared); silence for the rest."""
    return copy_data(value, is_read=False, is_written=True) if isinstance(value, _DATA) else Silence(value)


class Silence:
    """Takes everything and keeps nothing; what is no data of what it stands for is silent too.

    Args:
        of: What it stands for, whose data can be read; None for nothing.
    """

    def __init__(self, of: object = None) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols of Python, which ask whether it has a part in them
            raise AttributeError(name)
        value = getattr(vars(self).get("_of"), name, _MISSING)
        return self if value is _MISSING else _told(value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Silence:
        return self  # what it stands for may have threads and files

    def __call__(self, *args: object, **kwargs: object) -> Silence:
        """Does nothing."""
        return self

    def __enter__(self) -> Silence:
        """Begins nothing, as Comet's ``with self.logger.experiment.train()``."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends nothing."""

    def __iter__(self) -> Iterator[Silence]:
        return iter(())

    def __getitem__(self, key: object) -> Any:
        """Reads data of what it stands for, as W&B's ``run.config["lr"]``."""
        try:
            value = self._of[key]  # type: ignore[index]
        except Exception:  # of whatever kind: it has no such item, or none at all
            return self
        return _told(value)

    def __contains__(self, key: object) -> bool:
        try:
            return key in self._of  # type: ignore[operator]
        except Exception:
            return False

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
        return Silence(getattr(self._stood_for, "experiment", None))

    @property
    def name(self) -> str | None:  # type: ignore[override]
        """The logger's name."""
        return self._stood_for.name

    @property
    def version(self) -> int | str | None:  # type: ignore[override]
        """The logger's version."""
        return self._stood_for.version

    @property
    def save_dir(self) -> str | None:
        """Where the logger saves."""
        return self._stood_for.save_dir

    @property
    def log_dir(self) -> str | None:
        """Where the logger writes."""
        return self._stood_for.log_dir

    @property
    def root_dir(self) -> str | None:
        """Where the logger's runs are."""
        return getattr(self._stood_for, "root_dir", None)

    def __getattr__(self, name: str) -> Any:
        """What the logger knows of its run, as its hyperparameters; its methods do nothing."""
        value = _MISSING if name == "_stood_for" else getattr(self._stood_for, name, _MISSING)
        is_method = callable(value) and not isinstance(value, _DATA)
        return super().__getattr__(name) if value is _MISSING or is_method else _told(value)
