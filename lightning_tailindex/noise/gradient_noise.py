"""The trainer-free way in: a module, a loss and minibatches to gradient noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor, nn

from .coordinates import sample_coordinates
from .engine import observe_noise, real_coordinates
from .groups import Grouping, compile_patterns, group_names, measured_parameters, resolve_grouping
from .minibatches import Minibatch, guess_size
from .random_state import derived_seed, isolated_random_state
from .shadow import alias_shadow

__all__ = ["gradient_noise"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def _marked(batches: Sequence[object]) -> Iterator[Minibatch]:
    """Marks every minibatch as a draw, but for one that is smaller than the first: it only counts in the mean."""
    complete = guess_size(batches[0]) if batches else None
    for batch in batches:
        size = guess_size(batch)
        is_draw = size is None or complete is None or size >= complete
        yield Minibatch((batch,), 1 if size is None else size, is_draw, in_full_gradient=True)


def gradient_noise(
    module: ModuleT,
    loss_fn: Callable[[ModuleT, object], Tensor],
    minibatches: Iterable[object],
    *,
    group_by: str | Grouping = "module",
    parameters: str | Sequence[str] | None = None,
    max_coordinates: int | None = 1024,
    seed: int = 0,
) -> dict[str, Tensor]:
    r"""Computes the stochastic gradient noise of a module over given minibatches.

    .. math:: U_i = \nabla L_i(w) - \nabla L(w), \qquad i = 1, \dots, n,

    where :math:`\nabla L` is the average of the minibatches' gradients, weighted by their sizes. The module, its
    buffers, its gradients and all random states are left as they were.

    Args:
        module: The module, on the device and in the mode in which it trains.
        loss_fn: From the module and a minibatch to its mean loss, a scalar.
        minibatches: The minibatches, on the module's device; they are held in memory at once. One that is smaller
            than the first counts in the full gradient and is no draw.
        group_by: What is analysed together: "module", "parameter", "model", or a function from a parameter's name
            to its group's.
        parameters: Regular expressions of the names of the parameters to measure; None for all.
        max_coordinates: Coordinates sampled per group, at least 1; None for every one.
        seed: Seed of the sampled coordinates and of the random numbers that the loss uses.

    Returns:
        The noise of each group, ``[n, d]`` with a draw per row; the last group, ``whole_model``, has them all.

    Raises:
        ValueError: If an argument is out of range or no parameter is left to measure.

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
    if max_coordinates is not None and max_coordinates < 1:
        raise ValueError(f"max_coordinates must be None or at least 1, got {max_coordinates}.")
    grouping, patterns = resolve_grouping(group_by), compile_patterns(parameters)
    device = next(iter(measured_parameters(module, patterns).values())).device
    with isolated_random_state(derived_seed(seed), device):
        batches = list(minibatches)
        shadow = alias_shadow(module)
        measured = measured_parameters(shadow, patterns)
        groups = group_names(measured, grouping)
        sizes = tuple((name, real_coordinates(p)) for name, p in measured.items())
        sample = sample_coordinates(sizes, tuple(groups.items()), max_coordinates, seed)
        observation = observe_noise(
            measured, groups, sample, _marked(batches), lambda batch: loss_fn(shadow, batch), num_draws=len(batches)
        )
    return {group.name: group.noise for group in observation.groups}
