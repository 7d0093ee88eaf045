"""What holds of the groups of an observation whatever the estimator is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_tailindex.functional._pooled import Pooled
from lightning_tailindex.functional._search import Groups
from lightning_tailindex.functional.grouped_mle import counted_groups, pooled_estimates
from lightning_tailindex.functional.law_fit import law_fits
from lightning_tailindex.functional.normality import projection_acceptances
from lightning_tailindex.functional.surrogate import gaussian_surrogate
from lightning_tailindex.noise.observation import GroupNoise
from lightning_tailindex.records import LawFit, TailIndexEstimate

from .aggregation import thinned

__all__ = ["Group", "batches", "observed_groups"]

_MOST_VALUES, _MOST_GROUPS = 1 << 20, 64
_SURROGATES = 39  # behind a p-value: enough to tell 5 %


@dataclass(frozen=True)
class Group:
    """The draws of one group, and what holds of them whatever the estimator is.

    Attributes:
        observed: The observation.
        noise: The noise, 0 where it is left out and NaN where there is none to speak of, ``[n, d]``.
        surrogate: Its Gaussian surrogate.
        estimate: The estimate by grouped maximum likelihood, which the comparison of laws starts from.
        gaussian: The same for the surrogate.
        fit: Which law fits.
        acceptance: Shares of projections that pass for Gaussian by both tests, of the noise and of its surrogate.
    """

    observed: GroupNoise
    noise: Tensor
    surrogate: Tensor
    estimate: TailIndexEstimate
    gaussian: TailIndexEstimate
    fit: LawFit
    acceptance: dict[str, Tensor]


def _noise_and_surrogate(group: GroupNoise, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if len(group.gradients) > 0 and not group.is_rounding:
        return group.nonzero_noise, gaussian_surrogate(group.noise, generator)
    # draws of NaN make every estimator say that it cannot say anything
    nothing = group.full_gradient.new_full((max(1, len(group.gradients)), len(group.full_gradient)), torch.nan)
    return nothing, nothing


def batches(groups: Sequence[GroupNoise]) -> Iterator[list[GroupNoise]]:
    """As many groups at a time as are estimated together in bounded memory; more would not be faster."""
    batch: list[GroupNoise] = []
    number = 0
    for group in groups:
        number += group.gradients.numel()
        if batch and (number > _MOST_VALUES or len(batch) == _MOST_GROUPS):
            yield batch
            batch, number = [], group.gradients.numel()
        batch.append(group)
    yield batch


def observed_groups(
    observed: Sequence[GroupNoise], seed: int, generator: torch.Generator
) -> tuple[list[Group], Groups]:
    """What holds of groups whatever the estimator is, and their counts.

    Args:
        observed: The groups.
        seed: Seed of the projections.
        generator: Source of the surrogates on the device of the draws.

    Returns:
        The groups, and their counts.
    """
    draws = [_noise_and_surrogate(group, generator) for group in observed]
    number = len(draws)
    together = counted_groups([*(noise for noise, _ in draws), *(thinned(surrogate) for _, surrogate in draws)])
    pooled = Pooled(together, intervals=[True] * number + [False] * number)
    estimates, expected = pooled_estimates(pooled), pooled.expected_counts()[:number]
    counted = together.first(number)
    fits = law_fits(counted, estimates[:number], expected, num_surrogates=_SURROGATES, generator=generator)
    return [
        Group(group, *drawn, *found)
        for group, drawn, *found in zip(
            observed,
            draws,
            estimates[:number],
            estimates[number:],
            fits,
            _acceptances(draws, seed),
            strict=True,
        )
    ], counted


def _acceptances(draws: Sequence[tuple[Tensor, Tensor]], seed: int) -> list[dict[str, Tensor]]:
    """Both tests on the same random projections of each group's noise and of its surrogate."""
    anderson, shapiro = projection_acceptances([kind for pair in draws for kind in pair], seed=seed)
    names = ("anderson_darling", "gaussian_anderson_darling", "shapiro_wilk", "gaussian_shapiro_wilk")
    columns = (shares for test in (anderson, shapiro) for shares in (test[0::2], test[1::2]))
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
