"""Optimizers and schedulers for the shadow to read and to write: copies, which hold the shadow's parameters."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import cached_property
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from .flavour import Strategy

__all__ = ["hand_over", "held_by", "twin_of_strategy"]

T = TypeVar("T")


class _State(MutableMapping[Any, Any]):
    """The state of an optimizer, copied when somebody looks: few training steps do, and it may be large."""

    def __init__(self, make: Callable[[], dict[Any, Any]]) -> None:
        self._make = make

    @cached_property
    def _own(self) -> defaultdict[Any, Any]:
        return defaultdict(dict, self._make())

    def __getitem__(self, key: Any) -> Any:
        return self._own[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._own[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __contains__(self, key: object) -> bool:
        return key in self._own  # not by asking for it, which would make it


def _shallow(item: T) -> T:
    """Copies an object's attributes and nothing below them, past what its class makes of being copied."""
    twin = object.__new__(type(item))
    vars(twin).update(vars(item))
    return twin


def _copy_optimizer(optimizer: Optimizer, copies: dict[int, Any]) -> Any:
    """Copies an optimizer, and those that it wraps, with parameter groups of their own."""
    if id(optimizer) not in copies:
        reading = copies[id(optimizer)] = _shallow(optimizer)
        for name, wrapped in _wrapped(optimizer).items():
            vars(reading)[name] = _copy_optimizer(wrapped, copies)
        if "param_groups" in vars(optimizer):  # else a property, which reads those of the wrapped one
            vars(reading)["param_groups"] = [dict(group) for group in optimizer.param_groups]
    return copies[id(optimizer)]


def _wrapped(optimizer: Optimizer) -> dict[str, Optimizer]:
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, Optimizer)}


def _copy_scheduler(scheduler: Any, copies: dict[int, Any]) -> Any:
    """Copies a scheduler, and those that it consists of, for copies of the optimizers."""
    if id(scheduler) not in copies:
        twin = copies[id(scheduler)] = _shallow(scheduler)
        for name, value in vars(scheduler).items():
            if isinstance(value, Optimizer):
                vars(twin)[name] = copies.get(id(value), value)
            elif isinstance(value, (list, tuple)) and any(_is_scheduler(each) for each in value):
                vars(twin)[name] = [_copy_scheduler(each, copies) if _is_scheduler(each) else each for each in value]
            elif _is_scheduler(value):
                vars(twin)[name] = _copy_scheduler(value, copies)
    return copies[id(scheduler)]


def _is_scheduler(item: object) -> bool:
    """Whether it steps an optimizer's learning rate, be it torch's or of its kind."""
    return callable(getattr(item, "step", None)) and "optimizer" in getattr(item, "__dict__", {})


def held_by(optimizers: Iterable[Optimizer]) -> set[int]:
    """Finds the parameters that optimizers step, by their ids."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    return {id(parameter) for group in groups for parameter in group["params"]}


def twin_of_strategy(strategy: Strategy) -> Strategy:
    """Makes a strategy whose optimizers and schedulers can be read, and written without effect on the real ones.

    Args:
        strategy: The trainer's.

    Returns:
        The twin, whose optimizers hold training's own parameters until :func:`hand_over` is called.
    """
    twin = copy.copy(strategy)
    copies: dict[int, Any] = {}
    twin.optimizers = [_copy_optimizer(optimizer, copies) for optimizer in strategy.optimizers]
    twin.lr_scheduler_configs = [copy.copy(config) for config in strategy.lr_scheduler_configs]
    for config in twin.lr_scheduler_configs:
        config.scheduler = _copy_scheduler(config.scheduler, copies)
    return twin


def hand_over(optimizers: Iterable[Optimizer], module: nn.Module, shadow: nn.Module) -> None:
    """Gives copies of optimizers the shadow's parameters, and a state of their own, instead of training's.

    Training's own would get gradients of a penalty on them, and their optimizer an entry for the shadow's parameters.

    Args:
        optimizers: The copies.
        module: The module in training.
        shadow: Its shadow.
    """
    by_name = dict(shadow.named_parameters())
    aliases = {id(own): by_name[name] for name, own in module.named_parameters() if name in by_name}
    for optimizer in _with_wrapped(optimizers, set()):
        if "param_groups" in vars(optimizer):
            for group in optimizer.param_groups:
                group["params"] = [aliases.get(id(each), each) for each in group["params"]]
        if "state" in vars(optimizer):
            vars(optimizer)["state"] = _State(_copied_state(vars(optimizer)["state"], aliases))


def _copied_state(state: Any, aliases: dict[int, nn.Parameter]) -> Callable[[], dict[Any, Any]]:
    return lambda: {aliases.get(id(key), key): copy.deepcopy(value) for key, value in state.items()}


def _with_wrapped(optimizers: Iterable[Optimizer], seen: set[int]) -> Iterator[Optimizer]:
    for optimizer in optimizers:
        if id(optimizer) not in seen:
            seen.add(id(optimizer))
            yield optimizer
            yield from _with_wrapped(_wrapped(optimizer).values(), seen)
