"""Checks of arguments, whose errors name the thing, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from lightning_tailindex.trainer import check_dataloader

__all__ = ["check_at_least", "check_choice", "check_positive", "checked", "given", "resolve_figures", "resolve_radii"]

NameT = TypeVar("NameT", bound=str)

_FEWEST_DRAWS = 16
"""With fewer draws a coordinate says too little about its own scale: in simulations the centre is biased below 16."""


def given(names: Mapping[str, Any]) -> dict[str, Any]:
    """Finds a constructor's arguments among all names in it at its start."""
    return {name: value for name, value in names.items() if name not in ("self", "__class__")}


def checked(names: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the arguments of ``TailIndexMonitor`` that nothing else checks.

    Args:
        names: All names in the constructor at its start.

    Returns:
        The arguments by name.

    Raises:
        ValueError: If one is out of its range.
    """
    arguments = given(names)
    for name in ("every_n_steps", "full_gradient_batches", "max_coordinates", "max_detailed_groups"):
        check_at_least(name, arguments[name], 1, or_none=True)
    for name, minimum in (("num_minibatches", _FEWEST_DRAWS), ("figures_every", 1), ("seed", 0)):
        check_at_least(name, arguments[name], minimum)
    check_positive("max_overhead", arguments["max_overhead"])
    check_choice("noise_unit", arguments["noise_unit"], ("step", "loader"))
    check_choice("engine", arguments["engine"], ("auto", "loop", "vectorized"))
    check_dataloader(arguments["dataloader"])
    _check_source(arguments["source"], arguments["noise_unit"], arguments["dataloader"])
    return arguments


def resolve_figures(figures: object, known: Collection[NameT]) -> tuple[NameT, ...]:
    """Returns the names of figures, of which one or none may be given too; refuses what is not among the known."""
    several = (figures,) if isinstance(figures, str) else () if figures is None else figures
    if not isinstance(several, (list, tuple)) or any(name not in known for name in several):
        raise ValueError(f"figures must be None or among {', '.join(known)}, got {figures!r}.")
    return tuple(dict.fromkeys(several))


def resolve_radii(radii: float | Sequence[float] | None) -> tuple[float, ...]:
    """Returns radii, of which one or none may be given too, in ascending order; refuses what is not above 0."""
    several = () if radii is None else radii if isinstance(radii, (list, tuple)) else (radii,)
    for radius in several:
        check_positive("radii", radius)
    return tuple(sorted({float(radius) for radius in several}))


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


def _check_source(source: str, noise_unit: str, dataloader: object) -> None:
    """Refuses an unknown source of gradients, and what goes with extra minibatches only."""
    check_choice("source", source, ("extra", "training"))
    if source == "training" and (noise_unit != "step" or dataloader is not None):
        raise ValueError(
            'source="training" takes what optimizer steps consume: noise_unit must be "step" and dataloader None, got'
            f" {noise_unit!r} and {dataloader!r}."
        )
