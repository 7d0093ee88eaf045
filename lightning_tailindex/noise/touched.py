"""Tells of writes to tensors: to those of training, of which a warning speaks, and to gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .groups import listed
from .sharded import own_part

__all__ = ["FoundGradients", "told_if_touched"]

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By their bytes."""


def _version(tensor: Tensor | None) -> int:
    """Counts the writes to a tensor; -1 where there is none yet, or nobody counts."""
    if tensor is None or is_lazy(tensor) or tensor.is_inference():
        return -1
    return int(tensor._version)


class FoundGradients:
    """Remembers the gradients of parameters, without a copy and without a look at their numbers.

    Args:
        parameters: The parameters.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._found = [(parameter, parameter.grad, _version(parameter.grad)) for parameter in parameters]

    def are_changed(self) -> bool:
        """Whether one has been written to, put elsewhere or taken away since, as ``backward`` and ``zero_grad`` do."""
        return any(p.grad is not gradient or _version(gradient) != before for p, gradient, before in self._found)


def _versions(module: nn.Module) -> dict[str, tuple[int, ...]]:
    versions: dict[str, tuple[int, ...]] = {name: (_version(buffer),) for name, buffer in module.named_buffers()}
    for name, parameter in module.named_parameters():
        versions[name] = (_version(parameter), _version(parameter.grad))
    return versions


def _sum_of_bits(parameter: Tensor) -> Tensor:
    """Adds up what a parameter has as whole numbers, exactly; 0 for one of a kind of its own."""
    own = own_part(parameter.detach()) if not is_lazy(parameter) else parameter
    is_odd = type(own) is not Tensor or own.layout != torch.strided or own.is_quantized or own.is_nested
    if is_odd or own.is_meta or own.untyped_storage().nbytes() == 0:
        return torch.zeros((), dtype=torch.int64, device="cpu")
    # contiguous, as of what is expanded there is no view of another type
    flat = (torch.view_as_real(own.resolve_conj()) if own.is_complex() else own).contiguous().view(-1)
    together = 8 // flat.element_size()  # to convert each by itself would take twenty times as long
    flat = flat.clone() if flat.storage_offset() % together else flat
    end = len(flat) - len(flat) % together
    rest = flat[end:].view(_WHOLE_NUMBERS[flat.element_size()])
    return flat[:end].view(torch.int64).sum() + rest.sum(dtype=torch.int64)


def _sums_of_bits(module: nn.Module) -> dict[int, int]:
    """The same of all parameters, by their ids: nobody counts what is written by way of ``.data``."""
    parameters = [own for _, own in module.named_parameters()]  # some modules list but a few as their parameters()
    sums = [_sum_of_bits(parameter) for parameter in parameters]
    found: dict[int, int] = {}
    for device in {each.device for each in sums}:  # of each, one look at all numbers
        there = [i for i, each in enumerate(sums) if each.device == device]
        values = torch.stack([sums[i] for i in there]).tolist()
        found.update(zip((id(parameters[i]) for i in there), values, strict=True))
    return found


@contextmanager
def told_if_touched(module: nn.Module, tell: Callable[[str], object]) -> Iterator[None]:
    """Says which parameters, gradients and buffers of a module were written to within.

    Nothing is undone: what they were before is not kept, which would take as much memory as the module.

    Args:
        module: The module in training.
        tell: Says a sentence to the user.
    """
    before, had = _versions(module), _sums_of_bits(module)
    try:
        yield
    finally:
        after, has = _versions(module), _sums_of_bits(module)
        written = {name for name, own in module.named_parameters() if has[id(own)] != had.get(id(own), has[id(own)])}
        touched = [name for name, was in before.items() if name in written or after.get(name, was) != was]
        if touched:
            tell(
                f"a measurement wrote to {listed(touched)} of the module in training, which is no longer what it would"
                " be without it: the training step writes to them by hand, or reaches them by what cannot be copied."
            )
