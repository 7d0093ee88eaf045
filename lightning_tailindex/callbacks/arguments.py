"""Checks of arguments, whose errors name the thing, the rule and the value."""

from __future__ import annotations

import math

__all__ = ["check_at_least", "check_choice", "check_positive", "check_source"]


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


def check_source(source: str, noise_unit: str, dataloader: object) -> None:
    """Refuses an unknown source of gradients, and what goes with extra minibatches only."""
    check_choice("source", source, ("extra", "training"))
    if source == "training" and (noise_unit != "step" or dataloader is not None):
        raise ValueError(
            'source="training" takes what optimizer steps consume: noise_unit must be "step" and dataloader None, got'
            f" {noise_unit!r} and {dataloader!r}."
        )
