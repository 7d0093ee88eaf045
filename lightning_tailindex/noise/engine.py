"""From minibatches to their gradients: one backward pass per loader batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .coordinates import sample_coordinates
from .groups import Grouping, group_names
from .minibatches import Minibatch
from .recorder import Recorder, flat_gradient, real_coordinates

__all__ = ["collect_gradients"]

_LOSS_SCALE = 1024.0
"""Half-precision gradients underflow below 6e-8; a power of two is divided out again without rounding."""

_TOO_COARSE = (torch.half, torch.bfloat16)
"""Types of parameters in which sums of many gradients would be nothing but rounding."""

Loss = Callable[[object], Tensor | None]


def _unscaled(gradient: Tensor, scale: float) -> Tensor:
    flat = flat_gradient(gradient)
    return flat if scale == 1 else flat.to(torch.promote_types(flat.dtype, torch.float32)) / scale


def _backward(minibatch: Minibatch, loss_fn: Loss, factor: float) -> bool:
    """Adds a minibatch's gradient, averaged over its loader batches as accumulation does, times a factor to ``.grad``.

    ``backward`` on the shadow's own leaves, and not ``autograd.grad``, because reentrant activation checkpointing
    works with nothing else. False where no batch had a loss.
    """
    losses = 0
    for batch in minibatch.batches:
        loss = loss_fn(batch)
        if loss is not None:
            # scaling what is propagated back, and not the loss, which itself could overflow
            torch.autograd.backward(loss, torch.full_like(loss, factor / len(minibatch.batches)))
            losses += 1
    return losses > 0


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
    beside a gradient.

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
    scale = _LOSS_SCALE if scale_loss else 1.0
    recorder = Recorder(measured, groups, sample, num_draws, scale)
    can_lend = all(parameter.dtype not in _TOO_COARSE for parameter in measured.values())
    with torch.inference_mode(False), torch.enable_grad():
        for minibatch in minibatches:
            for parameter in module.parameters():
                parameter.grad = None
            if can_lend and not minibatch.is_draw:
                recorder.lend()
                if _backward(minibatch, loss_fn, scale * recorder.share(minibatch)):
                    recorder.take_back(minibatch)
            elif _backward(minibatch, loss_fn, scale):
                reached = {name: parameter.grad for name, parameter in measured.items() if parameter.grad is not None}
                recorder.record(minibatch, {name: _unscaled(gradient, scale) for name, gradient in reached.items()})
    return recorder
