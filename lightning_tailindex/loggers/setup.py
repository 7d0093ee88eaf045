"""What was measured in a run, and how, in words."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from .sink import Table

__all__ = ["hyperparameters", "setup"]

_PACKAGES = ("lightning-tailindex", "torch", "lightning", "pytorch-lightning", "numpy", "scipy")


def _versions() -> str:
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # one of Lightning's two names, or a package that is used from its sources
    return ", ".join(f"{package} {number}" for package, number in found.items())


def _plain(value: object) -> str | int | float | None:
    """Turns an argument into what every logger can keep."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_plain(item)) for item in value)
    return str(getattr(value, "__name__", type(value).__name__))


def hyperparameters(arguments: Mapping[str, object]) -> dict[str, str | int | float | None]:
    """Turns a monitor's arguments into hyperparameters.

    Args:
        arguments: The arguments by their names.

    Returns:
        The same in plain types; functions and data by their names.

    Example:
        >>> hyperparameters({"seed": 0, "estimators": ["grouped_mle", max], "parameters": None})
        {'seed': 0, 'estimators': 'grouped_mle, max', 'parameters': None}
    """
    return {name: _plain(value) for name, value in arguments.items()}


def setup(measured: Mapping[str, str], arguments: Mapping[str, object], schedule: str) -> Table:
    """Makes the table of what was measured in a run, and how.

    Args:
        measured: What was measured, by what it is of.
        arguments: The monitor's arguments by their names.
        schedule: When is measured and at what cost, in a sentence.

    Returns:
        The table.
    """
    found = {**measured, "schedule": schedule, "versions": _versions()}
    asked = {name: str(value) for name, value in hyperparameters(arguments).items()}
    return Table(("what", "how"), tuple((found | asked | found).items()))  # what was done is said rather than asked
