"""Weights that have no shape before a first batch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_tailindex.noise.groups import is_wanted, measured_parameters

__all__ = ["lazy_parameters", "shaped_parameters"]


def lazy_parameters(module: nn.Module, patterns: Iterable[re.Pattern[str]] = ()) -> list[str]:
    """Lists the trainable parameters that have no shape yet.

    Args:
        module: The module.
        patterns: Expressions, one of which has to be found in a parameter's name; none for every parameter.

    Returns:
        Their names.
    """
    wanted = tuple(patterns)
    lazy = [name for name, each in module.named_parameters() if each.requires_grad and is_lazy(each)]
    return [name for name in lazy if is_wanted(name, wanted)]


def shaped_parameters(module: nn.Module, patterns: Iterable[re.Pattern[str]] = ()) -> dict[str, nn.Parameter]:
    """Lists the trainable parameters that have a shape.

    Args:
        module: The module.
        patterns: Expressions, one of which has to be found in a parameter's name; none for every parameter.

    Returns:
        The parameters by name, in the order of the module; none as long as all of them are lazy.

    Raises:
        ValueError: If there is none, and none that is lazy.
    """
    wanted = tuple(patterns)
    try:
        return measured_parameters(module, wanted)
    except ValueError:
        if lazy_parameters(module, wanted):
            return {}
        raise
