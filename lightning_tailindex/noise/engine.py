"""From minibatches to their gradients: one backward pass per loader batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .coordinates import sample_coordinates
from .groups import Grouping, group_names
from .minibatches import Minibatch
from .recorder import Recorder, real_coordinates

__all__ = ["collect_gradients"]

_LOSS_SCALE = 1024.0
"""Half-precision gradients underflow below 6e-8; a power of two is divided out again without rounding."""

Loss = Callable[[object], Tensor | None]


def _flat(gradient: Tensor, scale: float) -> Tensor:
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    flat = (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1)
    return flat if scale == 1 else flat.to(torch.promote_types(flat.dtype, torch.float32)) / scale


def _gradients(
    minibatch: Minibatch, loss_fn: Loss, module: nn.Module, measured: Mapping[str, nn.Parameter], scale: float
) -> dict[str, Tensor] | None:
    """Computes a minibatch's gradient, averaged over its loader batches as accumulation does.

    ``backward`` on the shadow's own leaves, and not ``autograd.grad``, because reentrant activation checkpointing
    works with nothing else. None where no batch had a loss.
    """
    for parameter in module.parameters():
        parameter.grad = None
    losses = 0
    for batch in minibatch.batches:
        loss = loss_fn(batch)
        if loss is not None:
            # scaling what is propagated back, and not the loss, which itself could overflow
            torch.autograd.backward(loss, torch.full_like(loss, scale / len(minibatch.batches)))
            losses += 1
    reached = {name: parameter.grad for name, parameter in measured.items() if parameter.grad is not None}
    return {name: _flat(gradient, scale) for name, gradient in reached.items()} if losses else None


def collect_gradients(
    module: nn.Module,
    measured: Mapping[str, nn.Parameter],
    grouping: Grouping,
    minibatches: Iterable[Minibatch],
    loss_fn: Loss,
    *,
    num_draws: int,
    max_coordinates: int | None,
    seed: int,
    scale_loss: bool = False,
) -> Recorder:
    """Computes the gradients of minibatches and keeps what the noise's analysis needs of them.

    Memory: the draws' sampled coordinates, ``[n, d]``, and three vectors of the size of the measured parameters
    beside the gradient itself.

    Args:
        module: The shadow, whose parameters' ``.grad`` nobody else uses.
        measured: Its measured parameters by name.
        grouping: Function from a parameter's name to its group's.
        minibatches: The minibatches, each marked with its use.
        loss_fn: From a loader batch to its mean loss; None skips the batch.
        num_draws: Draws at most among the minibatches.
        max_coordinates: Coordinates sampled per group; None for every one.
        seed: Seed of the sampled coordinates.
        scale_loss: Whether to scale the loss against underflow in half precision.

    Returns:
        What was recorded, in this process.
    """
    groups = group_names(measured, grouping)
    sizes = tuple((name, real_coordinates(parameter)) for name, parameter in measured.items())
    sample = sample_coordinates(sizes, tuple(groups.items()), max_coordinates, seed)
    recorder = Recorder(measured, groups, sample, num_draws)
    scale = _LOSS_SCALE if scale_loss else 1.0
    with torch.inference_mode(False), torch.enable_grad():
        for minibatch in minibatches:
            gradients = _gradients(minibatch, loss_fn, module, measured, scale)
            if gradients is not None:
                recorder.record(minibatch, gradients)
    return recorder
