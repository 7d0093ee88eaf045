"""The trainer-free way in: a module, a loss and minibatches to gradient noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from typing import TypeVar, get_args

from torch import Tensor, nn

from .combining import combine
from .emptying import emptied_afterwards
from .engine import Engine, collect_gradients
from .groups import Grouping, compile_patterns, measured_parameters, resolve_grouping
from .minibatches import Minibatch, guess_size
from .processes import Processes
from .random_state import check_seed, derived_seed, isolated_random_state
from .recorder import Recorder
from .shadow import alias_shadow
from .sharded import is_sharded
from .touched import told_if_touched
from .vectorized import CannotVectorizeError

__all__ = ["gradient_noise"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def _marked(batches: Sequence[object]) -> Iterator[Minibatch]:
    """Marks every minibatch as a draw, but for a last one that is smaller than the first."""
    sizes = [guess_size(batch) for batch in batches]
    for i, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
        is_cut = i == len(batches) - 1 and (size or 0) < (sizes[0] or 0)
        yield Minibatch((batch,), 1 if size is None else size, not is_cut, in_full_gradient=True)


@contextmanager
def _gradients_kept(module: nn.Module) -> Iterator[None]:
    """Keeps a module's gradients out of reach: a loss may take the module itself, and not the copy that it is given."""
    kept = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


def _is_nothing(recorder: Recorder) -> bool:
    """Whether all gradients were exactly 0."""
    return not any(bool(kept.any()) for part in (recorder.first, recorder.square) for kept in part.values())


def gradient_noise(
    module: ModuleT,
    loss_fn: Callable[[ModuleT, object], Tensor],
    minibatches: Iterable[object],
    *,
    group_by: str | Grouping = "module",
    parameters: str | Sequence[str] | None = None,
    max_coordinates: int | None = 1024,
    seed: int = 0,
    engine: Engine = "auto",
) -> dict[str, Tensor]:
    r"""Computes the stochastic gradient noise of a module over given minibatches.

    .. math:: U_i = \nabla L_i(w) - \nabla L(w), \qquad i = 1, \ldots, n,

    where :math:`\nabla L` is the average of the minibatches' gradients, weighted by their sizes. The module, its
    buffers, its gradients and random states are left as they were, but for what reading the minibatches draws; a
    warning says which of its weights a loss wrote by hand.

    Args:
        module: The module, on the device and in the mode in which it trains.
        loss_fn: From the module and a minibatch to its mean loss, a scalar. The module that it is given is a copy, of
            which it has to compute the loss.
        minibatches: The minibatches, on the module's device; they are held in memory at once. A last one that is
            smaller than the first counts in the full gradient and is no draw.
        group_by: What is analysed together: "module", "parameter", "model", or a function from a parameter's name
            to its group's.
        parameters: Regular expressions of the names of the parameters to measure; None for all.
        max_coordinates: Coordinates sampled per group, at least 1; None for every one.
        seed: Seed of the sampled coordinates and of the random numbers that the loss uses, in [0, 2⁶³).
        engine: "loop", one minibatch after the other; "vectorized", many at once by torch.func where the module
            allows it; "auto", vectorized where it pays, in small modules without convolutions.

    Returns:
        The noise of each group, ``[n, d]`` with a draw per row; the last group, ``whole_model``, has them all. Where a
        minibatch's gradient is exactly 0 (dead units), its noise is minus the full gradient.

    Raises:
        ValueError: If an argument is out of range, no parameter is left to measure, the module is sharded (FSDP2), or
            no loss reaches a parameter to measure.

    References:
        Şimşekli, Sagun, Gürbüzbalaban (2019). A Tail-Index Analysis of Stochastic Gradient Noise in Deep Neural
        Networks. ICML, arXiv:1901.06053.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(3, 1)
        >>> batches = torch.randn(20, 5, 3, generator=torch.Generator().manual_seed(0))
        >>> noise = gradient_noise(layer, lambda module, x: module(x).square().mean(), batches, group_by="parameter")
        >>> {group: tuple(draws.shape) for group, draws in noise.items()}
        {'weight': (20, 3), 'bias': (20, 1), 'whole_model': (20, 4)}
    """
    is_number = isinstance(max_coordinates, Integral) and not isinstance(max_coordinates, bool)
    if max_coordinates is not None and not (is_number and max_coordinates >= 1):
        raise ValueError(f"max_coordinates must be None or an integer of at least 1, got {max_coordinates!r}.")
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be among {', '.join(get_args(Engine))}, got {engine!r}.")
    check_seed(seed)
    grouping, patterns = resolve_grouping(group_by), compile_patterns(parameters)
    measured = measured_parameters(module, patterns)
    if any(map(is_sharded, measured.values())):
        raise ValueError(f"{type(module).__name__} must not be sharded: only a Trainer knows how to merge the shards.")
    device = next(iter(measured.values())).device
    batches = list(minibatches)

    def collected(engine: Engine) -> Recorder:
        alone = isolated_random_state(derived_seed(seed), device)
        with told_if_touched(module, warnings.warn), _gradients_kept(module), alone:
            shadow = alias_shadow(module)
            with emptied_afterwards(shadow, module):
                return collect_gradients(
                    shadow,
                    measured_parameters(shadow, patterns),
                    grouping,
                    _marked(batches),
                    lambda batch: loss_fn(shadow, batch),
                    num_draws=len(batches),
                    max_coordinates=max_coordinates,
                    seed=seed,
                    engine=engine,
                )

    recorder = None
    with suppress(CannotVectorizeError):
        recorder = collected(engine)
    if recorder is None or (engine != "loop" and _is_nothing(recorder)):  # here, where what the first try kept is gone
        recorder = collected("loop")
    if batches and recorder.num_draws == 0:
        raise ValueError("loss_fn must return a loss, got None for each minibatch.")
    if recorder.num_draws and not recorder.is_reached:
        raise ValueError(
            "loss_fn must use the module that it is given, and what is measured of it, got losses that reach none."
        )
    return {group.name: group.noise for group in combine(recorder, Processes()).groups}
