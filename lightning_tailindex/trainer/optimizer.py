"""What optimizers do at each step: step sizes and momenta of their parameter groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer

from lightning_tailindex.records import ParameterGroup

from .flavour import Trainer

__all__ = ["StepSizes", "momentum", "step_size", "step_sizes"]


def step_size(group: Mapping[str, Any]) -> float:
    """Returns the step size of a parameter group; NaN where there is none, or None, as where steps find their own."""
    size = group.get("lr")
    return math.nan if size is None else float(size)


def momentum(group: Mapping[str, Any]) -> float:
    """Returns the momentum of a parameter group; 0 where there is none, or None."""
    return float(group.get("momentum") or 0)


def step_sizes(trainer: Trainer) -> tuple[float, ...]:
    """Returns the step size of each parameter group of each optimizer, in their order, for the next step; or NaN."""
    groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
    return tuple(map(step_size, groups))


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
        return float(group["betas"][0] or 0), "beta1"
    return momentum(group), "momentum"


class _Seen(NamedTuple):
    """Mean, number and last of a parameter group's step sizes, and the momentum of the last step with its name."""

    mean: float
    steps: int
    last: float
    momentum: tuple[float, str]


class StepSizes:
    """Averages the step sizes that optimizers take, whatever schedules, and however many optimizers there are.

    They and the momenta are read when a step is about to be made: a schedule that moves at every step, as
    ``OneCycleLR`` moves both, has moved on after it.

    Args:
        optimizers: The optimizers.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._seen: dict[tuple[int, int], _Seen] = {}

    def see(self, optimizer: Optimizer) -> None:
        """Takes the step sizes of an optimizer that is about to step."""
        place = next((i for i, known in enumerate(self._optimizers) if known is optimizer), None)
        if place is None:
            self._optimizers.append(optimizer)
            place = len(self._optimizers) - 1
        for i, group in enumerate(optimizer.param_groups):
            before, last = self._seen.get((place, i), _Seen(0.0, 0, math.nan, (0.0, ""))), step_size(group)
            count = before.steps + 1
            self._seen[place, i] = _Seen(before.mean + (last - before.mean) / count, count, last, _momentum(group))

    @property
    def most(self) -> int:
        """Steps of the optimizer that made most of them."""
        return max((seen.steps for seen in self._seen.values()), default=0)

    def read(self) -> tuple[ParameterGroup, ...]:
        """Returns what was seen of each parameter group."""
        return tuple(
            self._read(place, i, name)
            for place, names in enumerate(_names(self._optimizers))
            for i, name in enumerate(names)
        )

    def _read(self, place: int, i: int, name: str) -> ParameterGroup:
        known = self._seen.get((place, i))
        if known is None:
            return ParameterGroup(name, math.nan, math.nan, *_momentum(self._optimizers[place].param_groups[i]))
        return ParameterGroup(name, known.mean, known.last, *known.momentum)
