"""Products of the Hessian of a loss with vectors, by differentiating twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from lightning_tailindex.noise.coordinates import kept_dtype, real_coordinates
from lightning_tailindex.noise.recorder import flat_gradient

__all__ = ["Hessian", "WeightedLoss"]

WeightedLoss = tuple[float, Callable[[], Any]]
"""A weight, and what computes a loss: None where there is none, and anything where a user's code is wrong."""


def _like(flat: Tensor, parameter: Tensor) -> Tensor:
    """Gives a piece of a flat vector the shape and the type of a parameter."""
    if parameter.is_complex():
        # cloned, because a piece may begin at an odd place, which complex numbers cannot
        return torch.view_as_complex(flat.reshape(*parameter.shape, 2).clone()).to(parameter.dtype)
    return flat.view(parameter.shape).to(parameter.dtype)


class Hessian:
    r"""The Hessian of a weighted sum of losses, which is never formed.

    .. math:: H v = \sum_i w_i \, \nabla (\nabla L_i(\theta) \cdot v)

    Each product computes each loss and differentiates it twice: for neural networks, some four forward passes. A
    parameter that a loss does not depend on has zeros in its rows and columns. Other leaves of a loss gather numbers in
    their ``.grad``. Memory: one loss's graph, with that of its gradient, and five vectors as long as the parameters.

    Args:
        parameters: What is differentiated with respect to; leaves that require a gradient, and whose ``.grad`` is free
            to use.
        losses: The losses, each with its weight.
    """

    def __init__(self, parameters: Iterable[Tensor], losses: Sequence[WeightedLoss]) -> None:
        self.parameters, self._losses = tuple(parameters), tuple(losses)
        self._sizes = [real_coordinates(parameter) for parameter in self.parameters]
        self.size = sum(self._sizes)
        """Rows of the matrix; a complex number counts as two."""
        self.dtype = kept_dtype(self.parameters)
        """Type of the vectors."""
        self.device = self.parameters[0].device
        """Device of the vectors."""

    def product(self, vector: Tensor) -> Tensor:
        """Multiplies a vector.

        Args:
            vector: The vector, ``[size]``.

        Returns:
            Its product with the Hessian of the sum, then the sum itself and the sum of the weights, ``[size + 2]``; of
            losses that are there.

        Raises:
            ValueError: If what should be a loss is no scalar tensor with a gradient.
            RuntimeError: If a loss cannot be differentiated twice.
        """
        pieces = [_like(p, q) for p, q in zip(torch.split(vector, self._sizes), self.parameters, strict=True)]
        total = vector.new_zeros(self.size + 2)
        rows = torch.split(total[:-2], self._sizes)
        # other kernels for attention have no second derivative
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Composed():
            for weight, compute in self._losses:
                loss = _checked(compute())
                if loss is not None:
                    total[-2] += weight * loss.detach().to(total.dtype)
                    total[-1] += weight
                    for row, product in zip(rows, _products(loss, self.parameters, pieces), strict=True):
                        if product is not None:
                            row.add_(flat_gradient(product).to(row.dtype), alpha=weight)
        return total


class _Composed(TorchFunctionMode):
    """Computes weight norms from operations whose second derivatives are right; torch 2.13's fused one's is not."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        composed = _weight_norm if func is torch._weight_norm else func
        return composed(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _checked(loss: Any) -> Tensor | None:
    if loss is not None and not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad):
        what = f"shape {tuple(loss.shape)}, gradient {loss.requires_grad}" if isinstance(loss, Tensor) else repr(loss)
        raise ValueError(f"the loss to measure must be a scalar tensor with a gradient, got {what}.")
    return None if loss is None else loss.reshape(())


def _products(loss: Tensor, parameters: Sequence[Tensor], vector: Sequence[Tensor]) -> Sequence[Tensor | None]:
    _clear(parameters)  # what computes a loss may call backward itself
    if _hides_some(loss, parameters):
        how = "reentrant checkpointing hides parameters; with use_reentrant=False it can be"
        raise RuntimeError(f"the loss cannot be differentiated twice ({how}).")
    # a factor that requires a gradient: every honest gradient then does, too
    one = torch.ones_like(loss, requires_grad=True)
    gradients = torch.autograd.grad(loss, parameters, one, create_graph=True, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ValueError("the loss to measure depends on none of the measured parameters.")
    reached = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None and (g.requires_grad or g.any())]
    try:
        # not autograd.grad, which passes over operations that say that they have no second derivative
        torch.autograd.backward([gradient for gradient, _ in reached], [direction for _, direction in reached])
        return [parameter.grad for parameter in parameters]
    except RuntimeError as error:
        raise RuntimeError(
            f"the loss cannot be differentiated twice ({error}); an operation that it uses has a first derivative only."
        ) from error
    finally:
        _clear(parameters)


def _graph(loss: Tensor) -> set[Node]:
    seen: set[Node] = set()
    nodes = [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(following for following, _ in node.next_functions)
    return seen


def _hides_some(loss: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether reentrant checkpoints hide parameters: ``backward`` finds them more often than the graph does."""
    graph = _graph(loss)
    if not any(type(node).__name__ == "CheckpointFunctionBackward" for node in graph):
        return False
    found: Counter[int] = Counter()
    leaves: Any = parameters  # what torch says of this method has no types
    hooks = [leaf.register_post_accumulate_grad_hook(lambda own: found.update((id(own),))) for leaf in leaves]
    try:
        torch.autograd.backward(loss, retain_graph=True)
    finally:
        for hook in hooks:
            hook.remove()
        _clear(parameters)
    shown = {id(getattr(node, "variable", None)) for node in graph}
    return any(found[id(parameter)] > (id(parameter) in shown) for parameter in parameters)


def _clear(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
