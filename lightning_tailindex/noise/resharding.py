"""Copies of modules that ``fully_shard`` (FSDP2) has sharded: they are sharded the same way again.

A sharded module refuses to be copied, and what makes it one, hooks with a state, belongs to the original. So the copy
is made without, of the class that the module had before, and sharded by the public ``fully_shard``. Its arguments have
to be read from the original's state, because no public function tells them.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .copying import CopyAs
from .reaching import is_a
from .sharded import is_sharded

__all__ = ["can_shard_again", "gather_no_more", "reason_against", "shard_again", "sharded_parts", "without_shards"]

_SHARED = ("torch.distributed.fsdp.", "torch.distributed.tensor.", "torch.distributed.device_mesh")
_SCALING = ("gradient_divide_factor", "reduce_scatter_reduce_op", "force_sum_reduction_for_comms")
"""Settings of a group of parameters that change its gradients; which of them there are depends on the version."""


def _is_sharded_module(item: object) -> bool:
    return isinstance(item, nn.Module) and is_a(item, "FSDPModule")


def sharded_parts(module: nn.Module) -> list[Any]:
    """Lists the submodules, itself included, to which ``fully_shard`` was applied; outer ones come first."""
    return [part for part in module.modules() if _is_sharded_module(part)]


def can_shard_again() -> bool:
    """Whether this version of torch has the public ``fully_shard``, from 2.6 on."""
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401 -- to see whether it is there
    except ImportError:
        return False
    return True


def gather_no_more(module: nn.Module) -> None:
    """Puts shards where passes without a backward pass, those of validation, left whole parameters.

    The next pass gathers them again, the very same numbers.
    """
    for part in sharded_parts(module):
        part.reshard()


def _is_of_fully_shard(item: object) -> bool:
    """Whether a function was made by ``fully_shard``: a hook, or what ``register_fsdp_forward_method`` left."""
    function = item.__func__ if isinstance(item, types.MethodType) else item
    return isinstance(function, types.FunctionType) and str(function.__globals__.get("__name__")).startswith(_SHARED[0])


def _nothing(*args: object, **kwargs: object) -> None:
    """Stands in the copy for a hook that belongs to the original."""


def without_shards(item: object) -> object | None:
    """Tells what stands for an object in a copy that is not sharded; None if that is none of sharding's business."""
    if _is_sharded_module(item):
        return CopyAs(next(cls for cls in type(item).__mro__[2:] if cls.__name__ != "FSDPModule"))
    if _is_of_fully_shard(item):
        return _nothing
    is_shared = type(item).__module__.startswith(_SHARED) and not isinstance(item, (Tensor, nn.Module))
    return item if is_shared else None


def _groups(state: Any) -> list[Any]:
    """Returns the groups of parameters of a state, one or none in older versions."""
    groups = vars(state).get("_fsdp_param_groups") or [vars(state).get("_fsdp_param_group")]
    return [group for group in groups if group is not None]


def _arguments(state: Any, mesh: Any) -> dict[str, Any]:
    """Returns what ``fully_shard`` was called with; without parameters of its own, the mesh is of no importance."""
    arguments = {"mesh": mesh, "mp_policy": state._mp_policy}
    for group in _groups(state):
        # resharding to fewer processes would need new groups of them, and changes no number
        keeps_shards = group.post_forward_mesh_info is not None
        arguments |= {"mesh": group.mesh_info.mesh, "offload_policy": group.offload_policy}
        arguments["reshard_after_forward"] = keeps_shards
    return arguments


def _states(parts: Sequence[Any]) -> dict[Any, list[Any]]:
    """Collects the submodules of each state: several where ``fully_shard`` got a list."""
    states: dict[Any, list[Any]] = {}
    for part in parts:
        states.setdefault(part._get_fsdp_state(), []).append(part)
    return states


def reason_against(module: nn.Module) -> str | None:
    """Says in words why a module's copy could not be sharded as it is; None if it can."""
    parts = sharded_parts(module)
    if not parts:
        return "fully_shard was applied to none of its submodules"
    try:
        states = _states(parts)
        is_told = any(_arguments(state, None)["mesh"] is not None for state in states)
    except (AttributeError, KeyError):
        is_told = False
    if not is_told:
        return f"fully_shard of torch {torch.__version__} does not tell how it was called"
    many = any(len(_groups(state)) > 1 for state in states)
    return "parameters of one call of fully_shard are on several meshes" if many else None


def _swap(shadow: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Puts parameters of the whole shape and without memory in the place of shards, and returns these."""
    wholes: dict[int, nn.Parameter] = {}
    places = []
    for part in shadow.modules():
        for name, shard in part.named_parameters(recurse=False, remove_duplicate=False):
            if is_sharded(shard):
                empty = torch.empty(shard.shape, dtype=shard.dtype, device="meta")
                whole = wholes.setdefault(id(shard), nn.Parameter(empty, requires_grad=shard.requires_grad))
                places.append((part, name, shard))
                part.register_parameter(name, whole)
    return places


def _forget(part: nn.Module) -> None:
    """Makes a copy forget that ``fully_shard`` was applied to its original."""
    from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY

    states, registry = vars(part)[STATE_KEY], vars(part)[REGISTRY_KEY]
    registry.pop("fully_shard")
    for key in [key for key, state in states.items() if type(state).__name__ == "FSDPState"]:
        del states[key]


def _shard(copies: Any, state: Any, mesh: Any) -> None:
    """Shards modules as those of a state are sharded, and sets what changes gradients."""
    from torch.distributed import fsdp

    fully_shard: Any = fsdp.fully_shard  # whose arguments are not the same in all versions
    plain = {p for copy in copies for p in copy.parameters() if not p.is_meta}
    ignored = {"ignored_params": plain} if plain else {}
    fully_shard(copies if len(copies) > 1 else copies[0], **_arguments(state, mesh), **ignored)
    for old, new in zip(_groups(state), _groups(copies[0]._get_fsdp_state()), strict=True):
        vars(new).update({name: vars(old)[name] for name in _SCALING if name in vars(old)})


def shard_again(module: nn.Module, shadow: nn.Module) -> None:
    """Shards a copy over the processes as its original is, around the shards that it has.

    Args:
        module: The original.
        shadow: Its copy by :func:`without_shards`, whose parameters are shards already.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    parts = sharded_parts(module)
    twins: dict[Any, Any] = dict(zip(module.modules(), shadow.modules(), strict=True))
    states = _states(parts)
    mesh = next(group.mesh_info.mesh for state in states for group in _groups(state))
    for part in parts:
        _forget(twins[part])
    places = _swap(shadow)
    for state, members in reversed(states.items()):  # inner ones first
        _shard([twins[member] for member in members], state, mesh)
    for part, name, shard in places:
        part.register_parameter(name, shard)
    for part in parts:
        for name in [name for name, value in vars(part).items() if _is_of_fully_shard(value)]:
            vars(twins[part]).pop(name, None)
            register_fsdp_forward_method(twins[part], name)
