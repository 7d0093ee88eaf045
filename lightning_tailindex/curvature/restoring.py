"""A module that computes the same function however often it is called."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["Restored"]


class Restored:
    """Puts back what passes of a module in training mode change: its buffers, frozen parameters and gradients.

    Running averages, and parameters that a training step writes (those of momentum encoders), would make the second
    pass of a minibatch another function than the first. Gradients are set to None. Memory: a copy of the buffers and of
    the frozen parameters.

    Args:
        module: The module, a shadow that nobody else uses.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: list[tuple[dict[str, Tensor | None], str, Tensor, Tensor]] = []
        for part in module.modules():
            for tensors in (part._buffers, part._parameters):
                for name, tensor in tensors.items():
                    if tensor is not None and not tensor.requires_grad and not is_lazy(tensor):
                        self._kept.append((tensors, name, tensor, tensor.clone()))  # type: ignore[arg-type]

    def __call__(self) -> None:
        """Puts all of it back."""
        for parameter in self._module.parameters():
            parameter.grad = None
        with torch.no_grad():
            for tensors, name, tensor, value in self._kept:
                if tensor.shape != value.shape:
                    tensor.resize_(value.shape)  # observers of quantization give their buffers a shape in a pass
                tensor.copy_(value)
                tensors[name] = tensor  # a pass may have put another tensor in its place
