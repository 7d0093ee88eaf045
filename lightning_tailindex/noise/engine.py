"""From minibatches to their gradients: one backward pass per loader batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, groupby, islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .coordinates import sample_parameters
from .groups import Grouping, group_names
from .minibatches import Minibatch
from .pairs import PairRecorder
from .recorder import Recorder, flat_gradient
from .stacking import shapes
from .touched import FoundGradients
from .vectorized import Vectorizer, num_together, pays

__all__ = ["Engine", "collect_gradients"]

_LOSS_SCALE = 1024.0
"""Half-precision gradients underflow below 6e-8; a power of two is divided out again without rounding."""

_TOO_COARSE = (torch.half, torch.bfloat16)
"""Types of parameters in which sums of many gradients would be nothing but rounding."""

Engine = Literal["auto", "loop", "vectorized"]
Loss = Callable[[object], Any]
"""From a loader batch to its mean loss or None; what a training step returns may be anything, so it is looked at."""


def _unscaled(gradient: Tensor, scale: float) -> Tensor:
    flat = flat_gradient(gradient)
    wide = flat.to(torch.promote_types(flat.dtype, torch.float32))  # sums in half precision would be rounding
    return wide if scale == 1 else wide / scale


def _backward(loss: Any, factor: float) -> bool:
    """Adds a loss's gradient times a factor to ``.grad``; False where there is no loss.

    ``backward`` on the shadow's own leaves, and not ``autograd.grad``, because reentrant activation checkpointing
    works with nothing else.
    """
    if loss is None:
        return False
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        what = "it has none" if isinstance(loss, Tensor) else f"got {type(loss).__name__}"
        raise ValueError(f"the loss to measure must be a tensor with a gradient, {what}.")
    if loss.numel() != 1:  # as backward itself does
        raise ValueError(f"the loss to measure must be one number, got shape {tuple(loss.shape)}.")
    # scaling what is propagated back, and not the loss, which itself could overflow
    torch.autograd.backward(loss, torch.full_like(loss, factor))
    return True


class _Loop:
    """One backward pass after the other, minibatch by minibatch.

    The loss may call ``backward`` or ``zero_grad`` itself, as adversarial training does. Gradients are then training's,
    which zeroes them between the first loss that a step accumulates and that loss's backward pass, and no more.
    """

    def __init__(
        self, module: nn.Module, measured: Mapping[str, nn.Parameter], loss_fn: Loss, scale: float, *, can_lend: bool
    ) -> None:
        self._module, self._measured, self._loss_fn, self._scale = module, measured, loss_fn, scale
        self._can_lend = can_lend

    def __call__(self, minibatch: Minibatch, recorder: Recorder) -> None:
        """Records one minibatch; one without a loss is left out."""
        # a sharded module that ran without a backward pass shows others than its shards
        for parameter in (*self._module.parameters(), *self._measured.values()):
            parameter.grad = None
        if self._can_lend and not minibatch.is_draw:
            self._add(minibatch, recorder)
        elif self._accumulate(minibatch):
            reached = {name: p.grad for name, p in self._measured.items() if p.grad is not None}
            recorder.record(minibatch, {name: _unscaled(gradient, self._scale) for name, gradient in reached.items()})

    def _add(self, minibatch: Minibatch, recorder: Recorder) -> None:
        """Adds the gradient to the recorder's sum, which no loss gets to see: it might add to it, or throw it away."""
        factor, losses = self._scale * recorder.share(minibatch) / len(minibatch.batches), 0
        for batch in minibatch.batches:
            loss = self._loss_fn(batch)
            with recorder.lent():
                losses += _backward(loss, factor)
        if losses:
            recorder.count_rest([minibatch])

    def _accumulate(self, minibatch: Minibatch) -> bool:
        """Leaves the gradient in ``.grad``, averaged over loader batches; False where no batch had a loss."""
        losses, parameters = 0, self._measured.values()
        for i, batch in enumerate(minibatch.batches):
            found = FoundGradients(parameters if i else ())
            loss = self._loss_fn(batch)
            if i == 0:
                for parameter in parameters:
                    parameter.grad = None
            elif found.are_changed():
                self._can_lend = False  # a minibatch's gradient is no sum of its losses', and is formed by itself
            losses += _backward(loss, self._scale / len(minibatch.batches))
        return losses > 0


def _vectorize(minibatches: Iterable[Minibatch], recorder: Recorder, vectorizer: Vectorizer, together: int) -> None:
    """Records minibatches in chunks of one kind and shape."""
    stream = iter(minibatches)
    first = next(stream, None)
    if first is None:
        return
    vectorizer.check(first)
    stream = chain([first], stream)
    for (is_draw, *_), kind in groupby(stream, key=lambda m: (m.is_draw, m.sweep > 0, shapes(m))):
        while chunk := list(islice(kind, together)):
            if is_draw:
                gradients = vectorizer.each(chunk)
                rows = {name: flat_gradient(gradient).view(len(chunk), -1) for name, gradient in gradients.items()}
                recorder.record_draws(chunk, rows)
            else:
                recorder.record_total(chunk, vectorizer.total(chunk, [recorder.share(m) for m in chunk]))


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
    engine: Engine = "loop",
    pairs: PairRecorder | None = None,
) -> Recorder:
    """Computes the gradients of minibatches and keeps what the noise's analysis needs of them.

    Memory: the draws' sampled coordinates, ``[n, d]``, and three vectors of the size of the measured parameters
    beside a gradient; a fourth where the parameters' precision is not the one that is kept; with the vectorized engine
    beside up to 64 gradients, of at most 4 million numbers in all; with ``pairs`` four vectors more.

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
        engine: "loop", one minibatch after the other; "vectorized", many at once where that works; "auto",
            vectorized where the module is small and has no convolutions.
        pairs: What takes all coordinates of the draws, in pairs; None where the sampled ones are enough.

    Returns:
        What was recorded, in this process.

    Raises:
        CannotVectorizeError: If the vectorized engine does not work for this module; the loop does, on a new shadow.
    """
    groups = group_names(measured, grouping)
    sample = sample_parameters(measured, groups, max_coordinates, seed)
    scale = _LOSS_SCALE if scale_loss else 1.0
    recorder = Recorder(measured, groups, sample, num_draws, scale, pairs)
    is_fine = all(parameter.dtype not in _TOO_COARSE for parameter in measured.values())
    with torch.inference_mode(False), torch.enable_grad():
        if is_fine and scale == 1 and (engine == "vectorized" or (engine == "auto" and pays(module, measured))):
            _vectorize(minibatches, recorder, Vectorizer(module, measured, loss_fn), num_together(measured))
            return recorder
        loop = _Loop(module, measured, loss_fn, scale, can_lend=is_fine)
        for minibatch in minibatches:
            loop(minibatch, recorder)
    return recorder
