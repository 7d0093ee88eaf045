"""Tells of writes to tensors: to those of training, of which a warning speaks, and to gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .groups import listed

__all__ = ["FoundGradients", "told_if_touched"]


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


@contextmanager
def told_if_touched(module: nn.Module, tell: Callable[[str], object]) -> Iterator[None]:
    """Says which parameters, gradients and buffers of a module were written to within.

    Nothing is undone: what they were before is not kept, which would take as much memory as the module.

    Args:
        module: The module in training.
        tell: Says a sentence to the user.
    """
    before = _versions(module)
    try:
        yield
    finally:
        after = _versions(module)
        touched = [name for name, version in before.items() if after.get(name, version) != version]
        if touched:
            tell(
                f"a measurement wrote to {listed(touched)} of the module in training, which is no longer what it would"
                " be without it: the training step writes to them by hand, or reaches them by what cannot be copied."
            )
