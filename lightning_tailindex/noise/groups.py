"""Which parameters are measured, and which of them together."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import nn
from torch.nn.parameter import is_lazy

__all__ = [
    "GROUPINGS",
    "WHOLE_MODEL",
    "GroupingName",
    "check_grouping",
    "check_patterns",
    "compile_patterns",
    "group_names",
    "is_wanted",
    "listed",
    "measured_parameters",
    "resolve_grouping",
]

WHOLE_MODEL = "whole_model"
"""Name of the group of all measured parameters; no submodule is called so, while many are called ``model``."""

_MOST_LISTED = 8

Grouping = Callable[[str], str]
GroupingName = Literal["module", "parameter", "model"]


def by_module(parameter_name: str) -> str:
    """Groups the parameters of one submodule.

    Args:
        parameter_name: Dotted name of a parameter.

    Returns:
        The module's path; the parameter's own name where it belongs to the root, whose path is empty.

    Example:
        >>> by_module("encoder.conv1.weight"), by_module("temperature")
        ('encoder.conv1', 'temperature')
    """
    return parameter_name.rpartition(".")[0] or parameter_name


def by_parameter(parameter_name: str) -> str:
    """Makes each parameter a group of its own.

    Args:
        parameter_name: Dotted name of a parameter.

    Returns:
        The name.
    """
    return parameter_name


def by_model(parameter_name: str) -> str:
    """Measures the whole model and nothing finer.

    Args:
        parameter_name: Dotted name of a parameter.

    Returns:
        The name of the group of all parameters.
    """
    return WHOLE_MODEL


GROUPINGS: Mapping[str, Grouping] = {"module": by_module, "parameter": by_parameter, "model": by_model}


def resolve_grouping(group_by: str | Grouping) -> Grouping:
    """Finds a grouping by its name.

    Args:
        group_by: One of the names in :data:`GROUPINGS`, or a function from a parameter's name to its group's.

    Returns:
        The function.

    Raises:
        ValueError: If no grouping has that name.
    """
    if callable(group_by):
        return group_by
    if not isinstance(group_by, str) or group_by not in GROUPINGS:
        raise ValueError(f"group_by must be one of {sorted(GROUPINGS)} or a function, got {group_by!r}.")
    return GROUPINGS[group_by]


def compile_patterns(parameters: str | Sequence[str] | None) -> tuple[re.Pattern[str], ...]:
    """Compiles the regular expressions that choose parameters.

    Args:
        parameters: One expression, several, or None for every parameter.

    Returns:
        The compiled expressions; none of them stands for every parameter.

    Raises:
        ValueError: If an expression is not valid, or the list is empty.
    """
    if parameters is None:
        return ()
    expressions: tuple[Any, ...] = (parameters,)
    if isinstance(parameters, Sequence) and not isinstance(parameters, str):
        expressions = tuple(parameters)
    if not expressions or not all(isinstance(expression, str) and expression for expression in expressions):
        raise ValueError(f"parameters must be None or at least one regular expression, got {parameters!r}.")
    return tuple(map(_compiled, expressions))


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise ValueError(f"parameters must be regular expressions, got {expression!r}: {error}.") from error


def measured_parameters(module: nn.Module, patterns: Iterable[re.Pattern[str]] = ()) -> dict[str, nn.Parameter]:
    """Lists the parameters whose gradients are measured.

    Frozen parameters have no gradient and lazy ones no shape yet; shared (tied) ones are listed once, under the first
    of their names.

    Args:
        module: The module.
        patterns: Expressions, one of which has to be found in a parameter's name; none for every parameter.

    Returns:
        The parameters by name, in the order of the module.

    Raises:
        ValueError: If nothing is left to measure.
    """
    wanted = tuple(patterns)
    trainable = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and not is_lazy(parameter)
    }
    chosen = {name: parameter for name, parameter in trainable.items() if is_wanted(name, wanted)}
    if not chosen:
        rule = (
            f" that match {[pattern.pattern for pattern in wanted]}; it has {listed(list(trainable))}" if wanted else ""
        )
        raise ValueError(f"{type(module).__name__} has no trainable parameters to measure{rule}.")
    return chosen


def is_wanted(name: str, patterns: Collection[re.Pattern[str]]) -> bool:
    """Whether a parameter of that name is asked for; without expressions every one is."""
    return not patterns or any(pattern.search(name) for pattern in patterns)


def check_patterns(module: nn.Module, patterns: Iterable[re.Pattern[str]]) -> None:
    """Refuses expressions that no parameter's name matches, be the parameter frozen or lazy.

    Args:
        module: The module.
        patterns: The expressions.

    Raises:
        ValueError: If an expression matches nothing.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(pattern.search(name) for name in names):
            raise ValueError(
                f"parameters: {pattern.pattern!r} matches no parameter of {type(module).__name__},"
                f" it has {listed(names)}."
            )


def check_grouping(module: nn.Module, patterns: Iterable[re.Pattern[str]], grouping: Grouping) -> None:
    """Refuses a grouping that does not work for the names of the trainable parameters, be they lazy.

    Args:
        module: The module.
        patterns: Expressions of the names of the parameters to measure; none for all.
        grouping: Function from a parameter's name to its group's.

    Raises:
        ValueError: If it fails, gives something that is no name, or the whole model's name to some of them.
    """
    wanted = tuple(patterns)
    trainable = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    group_names([name for name in trainable if is_wanted(name, wanted)], grouping)


def listed(names: Sequence[str]) -> str:
    """Lists a few names, and says how many more there are.

    Example:
        >>> listed(["a", "b"]), listed(list("abcdefghij"))[-14:]
        ("'a', 'b'", "'h' and 2 more")
    """
    more = len(names) - _MOST_LISTED
    return ", ".join(map(repr, names[:_MOST_LISTED])) + (f" and {more} more" if more > 0 else "")


def group_names(parameter_names: Iterable[str], grouping: Grouping) -> dict[str, tuple[str, ...]]:
    """Collects the parameters of each group; the whole model comes last, always.

    Args:
        parameter_names: Names of the measured parameters.
        grouping: Function from a parameter's name to its group's.

    Returns:
        The names of the parameters of each group.

    Raises:
        ValueError: If the function fails, or a group's name is not a text, or is that of the whole model without
            being it.

    Example:
        >>> group_names(["a.weight", "a.bias", "b.weight"], by_module)["a"]
        ('a.weight', 'a.bias')
    """
    names = tuple(parameter_names)
    groups: dict[str, list[str]] = {}
    for name in names:
        try:
            group = grouping(name)
        except Exception as error:
            raise ValueError(f"group_by failed for {name!r}: {type(error).__name__}: {error}.") from error
        if not isinstance(group, str) or not group:
            raise ValueError(f"group_by must give each parameter the name of its group, got {group!r} for {name!r}.")
        groups.setdefault(group, []).append(name)
    if len(groups.pop(WHOLE_MODEL, names)) != len(names):
        raise ValueError(f"group_by must keep the name {WHOLE_MODEL!r} for the group of all parameters.")
    return {**{group: tuple(members) for group, members in groups.items()}, WHOLE_MODEL: names}
