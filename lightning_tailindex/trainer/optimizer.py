"""What optimizers do at each step: step sizes and momenta of their parameter groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from lightning_tailindex.records import ParameterGroup

from .flavour import Trainer

__all__ = ["StepSizes", "step_sizes"]


def step_sizes(trainer: Trainer) -> tuple[float, ...]:
    """Returns the step size of each parameter group of each optimizer, in their order, for the next step."""
    return tuple(float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups)


def _class_names(optimizers: Sequence[Optimizer]) -> list[str]:
    """Names optimizers by their classes, numbered where a class occurs twice."""
    classes = [type(optimizer).__name__ for optimizer in optimizers]
    return [name if classes.count(name) == 1 else f"{name}{classes[:i].count(name)}" for i, name in enumerate(classes)]


def _names(optimizers: Sequence[Optimizer]) -> Iterator[list[str]]:
    """Names the parameter groups of each optimizer; a slash would make folders of loggers' tags."""
    for name, optimizer in zip(_class_names(optimizers), optimizers, strict=True):
        groups = optimizer.param_groups
        own = (str(group.get("name", f"group{i}")).replace("/", "_") for i, group in enumerate(groups))
        yield [name] if len(groups) == 1 else [f"{name}_{part}" for part in own]


def _momentum(group: Mapping[str, Any]) -> tuple[float, str]:
    if "betas" in group:
        return float(group["betas"][0]), "beta1"
    return float(group.get("momentum", 0.0)), "momentum"


class StepSizes:
    """Averages the step sizes that optimizers take, whatever schedules, and however many optimizers there are.

    They are read when a step is about to be made: a schedule that moves at every step has moved on after it.

    Args:
        optimizers: The optimizers.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._seen: dict[tuple[int, int], tuple[float, int, float]] = {}  # mean, number and last of the step sizes

    def see(self, optimizer: Optimizer) -> None:
        """Takes the step sizes of an optimizer that is about to step."""
        place = next((i for i, known in enumerate(self._optimizers) if known is optimizer), None)
        if place is None:
            self._optimizers.append(optimizer)
            place = len(self._optimizers) - 1
        for i, group in enumerate(optimizer.param_groups):
            mean, count, _ = self._seen.get((place, i), (0.0, 0, math.nan))
            last = float(group["lr"])
            self._seen[place, i] = (mean + (last - mean) / (count + 1), count + 1, last)

    def read(self) -> tuple[ParameterGroup, ...]:
        """Returns what was seen of each parameter group."""
        return tuple(
            self._read(place, i, name)
            for place, names in enumerate(_names(self._optimizers))
            for i, name in enumerate(names)
        )

    def _read(self, place: int, i: int, name: str) -> ParameterGroup:
        mean, _, last = self._seen.get((place, i), (math.nan, 0, math.nan))
        return ParameterGroup(name, mean, last, *_momentum(self._optimizers[place].param_groups[i]))
