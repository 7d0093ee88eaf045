"""The alias shadow: a copy of a module that shares its trainable weights and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from .copying import CopyAs, copy_with
from .reaching import is_a, uncompiled
from .resharding import gather_no_more, shard_again, sharded_parts, without_shards

__all__ = ["alias_shadow"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def _alias(parameter: nn.Parameter, is_written: bool) -> nn.Parameter:
    data, kind = parameter.detach().clone() if is_written else parameter.detach(), type(parameter)
    is_special = issubclass(kind, nn.Parameter) and kind is not nn.Parameter  # its constructor may take anything
    alias = torch.Tensor._make_subclass(kind, data, True) if is_special else nn.Parameter(data, requires_grad=True)
    vars(alias).update(vars(parameter))
    return alias


def _written(module: nn.Module) -> Iterator[Tensor]:
    """Finds weights that passes write: averages, and embeddings with ``max_norm``, which shorten what they look up."""
    for part in module.modules():
        if isinstance(part, AveragedModel):
            yield from part.parameters()
        elif isinstance(part, (nn.Embedding, nn.EmbeddingBag)) and part.max_norm is not None:
            yield part.weight


def _uninitialized(buffer: UninitializedBuffer) -> UninitializedBuffer:
    """Copies a buffer whose shape is not known yet, which deepcopy refuses, though not such parameters."""
    kind: Any = type(buffer)
    own: UninitializedBuffer = kind(buffer.requires_grad, buffer.data.device, buffer.data.dtype)
    vars(own).update(vars(buffer))
    return own


def _replacement(item: object, shared: Collection[int]) -> object | None:
    if isinstance(item, nn.Parameter):
        is_measured = item.requires_grad and not is_lazy(item)
        return _alias(item, id(item) not in shared) if is_measured else None
    if isinstance(item, UninitializedBuffer):
        return _uninitialized(item)
    if isinstance(item, Tensor) and item.grad_fn is not None:
        return item.detach().clone()  # deepcopy refuses tensors that are not leaves
    return item if isinstance(item, (Dataset, DataLoader)) else None


def _cut(shadow: nn.Module) -> None:
    """Makes leaves of copies that depend on the original: TorchScript copies parameters by differentiable functions."""
    for parameter in shadow.parameters():
        if not parameter.is_leaf:
            parameter.detach_().requires_grad_()


def _is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` made it; importing its class would take seconds."""
    return is_a(module, "OptimizedModule")


def _uncompile(shadow: nn.Module) -> None:
    """Gives copies the methods that their class compiled as they were before; those on instances are copied so."""
    for part in shadow.modules():
        for name in {name for kind in type(part).__mro__ for name, value in vars(kind).items() if uncompiled(value)}:
            original: Any = uncompiled(getattr(type(part), name))
            if original is not None:
                vars(part).setdefault(name, MethodType(original, part))


def _allow_backward(shadow: nn.Module) -> None:
    """Lets wrappers of Fabric in mixed precision forget that only ``fabric.backward`` may be called."""
    for part in shadow.modules():
        if is_a(part, "_FabricModule"):
            vars(part)["_register_backward_hook"] = _unchanged


def _unchanged(output: Tensor) -> Tensor:
    return output


def _kept_by_compiler(module: nn.Module) -> set[int]:
    """Finds what compiled submodules hold beside their modules: the compiler's state, which cannot be copied."""
    usual = vars(nn.Module())
    compiled = filter(_is_compiled, module.modules())
    return {id(value) for part in compiled for name, value in vars(part).items() if name not in usual}


def alias_shadow(
    module: ModuleT,
    replace: Callable[[object], object | None] = lambda item: None,
    stepped: Collection[int] | None = None,
) -> ModuleT:
    """Copies a module so that computing on the copy leaves no trace in the original.

    Parameters that optimizers step become new leaves that share the original's storage: no such weight is copied, but
    torch's averages of weights, and embeddings with ``max_norm``, which a forward pass writes, and no ``.grad`` and no
    hook of the original's parameters is touched. Everything else, buffers, metrics, Python attributes and what closures
    captured, is the copy's own. Other parameters are copied too, because a training step may write them (momentum
    encoders do). Data sets, loaders and what Python cannot copy (locks, open files) are shared. The shadow of a module
    that ``fully_shard`` has sharded (FSDP2) is sharded the same way, around the same shards. What ``torch.compile``
    compiled runs uncompiled in the shadow: compiling it for other sizes could change the kernels that training uses.

    Args:
        module: The module to copy.
        replace: Gives for an object what stands for it in the copy, or None for the rules above.
        stepped: Ids of the parameters that optimizers step; others may be written by a training step, and are copied.
            None for all that the module has: those that hide from it, in lists say, are others.

    Returns:
        The shadow, in the same mode and on the same device.

    Raises:
        TypeError: If the module holds an iterator, which can neither be copied nor shared.
        RuntimeError: If it holds a queue of several processes, which can neither.
    """
    kept, parts = _kept_by_compiler(module), sharded_parts(module)
    shared = set(map(id, module.parameters()) if stepped is None else stepped) - set(map(id, _written(module)))
    gather_no_more(module)

    def rule(item: object) -> object | None:
        replacement = item if id(item) in kept else replace(item)
        if replacement is None and parts:
            replacement = without_shards(item)
            if replacement is None and isinstance(item, nn.Module) and _is_compiled(item):
                # it answers for what is sharded within, also when asked to be copied
                replacement = CopyAs(type(item))
        return _replacement(item, shared) if replacement is None else replacement

    shadow = copy_with(module, rule)
    _cut(shadow)
    _uncompile(shadow)
    _allow_backward(shadow)
    for part in filter(_is_compiled, shadow.modules()):
        vars(part)["forward"] = part.get_submodule("_orig_mod").__call__
    if parts:
        shard_again(module, shadow)
    return shadow
