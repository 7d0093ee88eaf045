"""The alias shadow: a copy of a module that shares its trainable weights and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.data import DataLoader, Dataset

from .copying import copy_with, is_lock

__all__ = ["alias_shadow"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_REBOUND = ("training_step", "gradient_noise_step", "forward")
"""Instance attributes of these names (torch.compile leaves some) would still call the original module."""


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    alias = nn.Parameter(parameter.detach(), requires_grad=True)
    vars(alias).update(vars(parameter))
    return alias


def _replacement(item: object) -> object | None:
    if isinstance(item, nn.Parameter):
        is_measured = item.requires_grad and not isinstance(item, UninitializedParameter)
        return _alias(item) if is_measured else None
    if isinstance(item, Tensor) and item.grad_fn is not None:
        return item.detach().clone()  # deepcopy refuses tensors that are not leaves
    if isinstance(item, (Dataset, DataLoader)) or is_lock(item):
        return item
    return None


def alias_shadow(module: ModuleT, share: Iterable[object] = ()) -> ModuleT:
    """Copies a module so that computing on the copy leaves no trace in the original.

    Trainable parameters become new leaves that share the original's storage: no weight is copied, and no ``.grad``
    and no hook of the original's parameters is touched. Everything else, buffers, metrics and Python attributes, is
    the copy's own. Parameters that do not require a gradient are copied too, because a training step may write them
    (momentum encoders do).

    Args:
        module: The module to copy.
        share: Objects that the copy refers to instead of copying them.

    Returns:
        The shadow, in the same mode and on the same device.

    Raises:
        TypeError: If the module holds an object that Python cannot copy.
    """
    shared = {id(item): item for item in share}
    shadow = copy_with(module, lambda item: item if id(item) in shared else _replacement(item))
    for name in _REBOUND:
        vars(shadow).pop(name, None)
    return shadow
