"""Checks of arguments, whose errors name the thing, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "check_at_least",
    "check_choice",
    "check_positive",
    "given",
    "resolve_figures",
    "resolve_radii",
    "with_plain_numbers",
]

NameT = TypeVar("NameT", bound=str)
ParametersT = ParamSpec("ParametersT")


def with_plain_numbers(constructor: Callable[ParametersT, None]) -> Callable[ParametersT, None]:
    """Makes a constructor take numbers of NumPy and torch, and arrays of one dimension, as Python's numbers and lists.

    Arguments are kept in checkpoints, which are loaded with ``weights_only=True``, and in tables of hyperparameters.
    """

    @wraps(constructor)
    def constructed(*args: ParametersT.args, **kwargs: ParametersT.kwargs) -> None:
        constructor(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    return constructed


def _plain(value: Any) -> Any:
    is_of_numbers = hasattr(value, "tolist") and getattr(value, "ndim", 2) <= 1
    return value.tolist() if is_of_numbers else value


def given(names: Mapping[str, Any]) -> dict[str, Any]:
    """Finds a constructor's arguments among all names in it at its start."""
    return {name: value for name, value in names.items() if name not in ("self", "__class__")}


def resolve_figures(figures: object, known: Collection[NameT]) -> tuple[NameT, ...]:
    """Returns the names of figures, of which one or none may be given too; refuses what is not among the known."""
    several = (figures,) if isinstance(figures, str) else () if figures is None else figures
    if not isinstance(several, (list, tuple)) or any(name not in known for name in several):
        raise ValueError(f"figures must be None or among {', '.join(known)}, got {figures!r}.")
    return tuple(dict.fromkeys(several))


def resolve_radii(radii: float | Sequence[float] | None) -> tuple[float, ...]:
    """Returns radii, of which one or none may be given too, in ascending order; refuses what is not above 0."""
    several = radii if isinstance(radii, (list, tuple)) else () if radii is None else (radii,)
    numbers = [_plain(radius) for radius in several]
    for radius in numbers:
        check_positive("radii", radius)
    return tuple(sorted({float(radius) for radius in numbers}))


def check_at_least(name: str, value: object, minimum: int, *, or_none: bool = False) -> None:
    """Refuses what is not an integer of at least ``minimum`` (nor None, where that is allowed)."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not (value is None and or_none) and not (is_integer and value >= minimum):  # type: ignore[operator]
        rule = f"{'None or ' if or_none else ''}an integer of at least {minimum}"
        raise ValueError(f"{name} must be {rule}, got {value!r}.")


def check_positive(name: str, value: object) -> None:
    """Refuses what is not a finite number above 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value < math.inf):  # type: ignore[operator]
        raise ValueError(f"{name} must be a number above 0, got {value!r}.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuses what is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}.")
