"""All groups by all estimators, as one report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.functional.law_fit import LAWS, law_fits
from lightning_tailindex.functional.median import nonzero_median
from lightning_tailindex.functional.normality import projection_acceptance
from lightning_tailindex.functional.surrogate import gaussian_surrogate
from lightning_tailindex.noise.observation import GroupNoise, NoiseObservation
from lightning_tailindex.records import AggregatedTailIndex, LawFit, Measurement, Report, TailIndexEstimate

from .aggregation import FIELDS, aggregated_alphas, sizes, thinned
from .bins import ALPHA_BINS, NOISE_BINS
from .estimators import Estimator, estimate_groups
from .every_coordinate import every_coordinate
from .notes import group_note, misfit

__all__ = ["analyse"]

_SURROGATES = 39  # behind a p-value: enough to tell 5 %


@dataclass(frozen=True)
class _Group:
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


@dataclass(frozen=True)
class _Pending:
    """A measurement whose numbers are still on the device.

    Attributes:
        words: Its fields that were never on the device.
        scalars: Names of its other fields, in the order of the numbers.
        numbers: The scalars and, behind them, the aggregated tail indices and the two histograms.
    """

    words: dict[str, Any]
    scalars: tuple[str, ...]
    numbers: Tensor


def _standardized(noise: Tensor, scale: Tensor) -> Tensor:
    """Centres each coordinate by its median draw and divides it by its scale; zeros and centres are left out as NaN."""
    centred = noise - nonzero_median(noise)
    return torch.where((noise == 0) | (centred == 0), torch.nan, centred) / scale


def _noise_and_surrogate(group: GroupNoise, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if len(group.gradients) > 0 and not group.is_rounding:
        return group.nonzero_noise, gaussian_surrogate(group.noise, generator)
    # draws of NaN make every estimator say that it cannot say anything
    nothing = group.full_gradient.new_full((max(1, len(group.gradients)), len(group.full_gradient)), torch.nan)
    return nothing, nothing


def _groups(observation: NoiseObservation, seed: int) -> list[_Group]:
    device = observation.groups[0].gradients.device
    generator = torch.Generator(device).manual_seed(seed)
    draws = [_noise_and_surrogate(group, generator) for group in observation.groups]
    noises = [noise for noise, _ in draws]
    surrogates = [thinned(surrogate) for _, surrogate in draws]
    estimates, gaussian = estimate_groups(functional.grouped_mle, noises, surrogates)
    fits = law_fits(noises, estimates, num_surrogates=_SURROGATES, generator=generator)
    return [
        _Group(group, *drawn, estimate, surrogate, fit, _acceptance(*drawn, seed))
        for group, drawn, estimate, surrogate, fit in zip(
            observation.groups, draws, estimates, gaussian, fits, strict=True
        )
    ]


def _acceptance(noise: Tensor, surrogate: Tensor, seed: int) -> dict[str, Tensor]:
    """Both tests on the same random projections of the noise and of its surrogate."""
    shares = {}
    for prefix, draws in (("", noise), ("gaussian_", surrogate)):
        accepted = projection_acceptance(draws, generator=torch.Generator(draws.device).manual_seed(seed))
        shares[f"{prefix}anderson_darling"] = accepted.anderson_darling
        shares[f"{prefix}shapiro_wilk"] = accepted.shapiro_wilk
    return shares


def _law_scalars(fit: LawFit) -> dict[str, Tensor]:
    return {
        "law": fit.best,
        "student_t_gain": fit.gains[LAWS.index("student_t")],
        "laplace_gain": fit.gains[LAWS.index("laplace")],
        "gaussian_p_value": fit.p_value,
        "kolmogorov_distance": fit.kolmogorov_distance,
    }


def _estimate_scalars(
    group: GroupNoise, estimate: TailIndexEstimate, surrogate: TailIndexEstimate
) -> dict[str, Tensor]:
    return {
        "alpha": estimate.alpha,
        "low": estimate.low,
        "high": estimate.high,
        "gaussian_alpha": surrogate.alpha,
        "scale": estimate.scale.nanmedian(),
        "effective_coordinates": estimate.effective_series,
        "zero_share": estimate.zero_share,
        "gradient_norm": group.gradient_norm,
        "noise_norm": group.noise_norm,
        "gain": estimate.gain,
        "gaussian_gain": surrogate.gain,
    }


def _pending(
    group: _Group, name: str, estimate: TailIndexEstimate, surrogate: TailIndexEstimate, alphas: Tensor, more: Tensor
) -> _Pending:
    observed, noise = group.observed, group.noise
    scalars = {
        **_estimate_scalars(observed, estimate, surrogate),
        **_law_scalars(group.fit),
        **group.acceptance,
        "coordinate_median": alphas.nanmedian(),
        "coordinate_harmonic_mean": 1 / (1 / alphas).nanmean(),
    }
    words = {
        "group": observed.name,
        "estimator": name,
        "num_draws": len(observed.gradients),
        "num_coordinates": observed.gradients.shape[1],
        "group_size": observed.num_coordinates,
        "note": group_note(observed, estimate),
    }
    histograms = ALPHA_BINS.summarize(alphas), NOISE_BINS.summarize(_standardized(noise, estimate.scale))
    numbers = torch.stack([scalar.to(noise) for scalar in scalars.values()])
    return _Pending(words, tuple(scalars), torch.cat([numbers, more.to(noise), *(h.to(noise) for h in histograms)]))


def _measurement(pending: _Pending, numbers: list[float], num_draws: int) -> Measurement:
    averaged, width = sizes(num_draws), len(FIELDS)
    ends = [len(pending.scalars)]
    for length in (width * len(averaged), ALPHA_BINS.width, NOISE_BINS.width):
        ends.append(ends[-1] + length)
    fields: dict[str, Any] = {**pending.words, **dict(zip(pending.scalars, numbers[: ends[0]], strict=True))}
    law = fields.pop("law")
    fields["note"] = "; ".join(filter(None, [fields["note"], misfit(fields)]))
    alphas = numbers[ends[0] : ends[1]]
    return Measurement(
        **fields,
        law=LAWS[int(law)] if law >= 0 else "none",
        aggregated=tuple(
            AggregatedTailIndex(size, num_draws // size, *alphas[i * width : (i + 1) * width])
            for i, size in enumerate(averaged)
        ),
        coordinate_alphas=ALPHA_BINS.unpack(numbers[ends[1] : ends[2]]),
        standardized_noise=NOISE_BINS.unpack(numbers[ends[2] : ends[3]]),
    )


def _all_pending(
    observation: NoiseObservation, estimators: dict[str, Estimator], seed: int
) -> Iterator[tuple[_Pending, ...]]:
    """Estimates all groups by one estimator after the other; what belongs to one group comes together."""
    groups = _groups(observation, seed)
    noises, surrogates = [group.noise for group in groups], [group.surrogate for group in groups]
    columns = [_column(groups, noises, surrogates, name, estimator) for name, estimator in estimators.items()]
    if observation.groups[0].pairs is not None:
        columns.insert(0, [_of_all(group, sample) for group, sample in zip(groups, columns[0], strict=True)])
    return zip(*columns, strict=True)


def _of_all(group: _Group, sample: _Pending) -> _Pending:
    """The measurement of all coordinates of a group: of a sample of them is only what needs all draws at once."""
    pairs = group.observed.pairs
    assert pairs is not None
    found = every_coordinate(pairs, group.estimate.effective_series, thinned(group.surrogate))
    is_known = ~group.noise.isnan().all()  # but for draws of nothing but rounding
    numbers = sample.numbers.clone()
    for name, value in found.scalars.items():
        numbers[sample.scalars.index(name)] = torch.where(is_known, value, torch.nan)
    start = len(numbers) - NOISE_BINS.width - ALPHA_BINS.width
    numbers[start : start + ALPHA_BINS.width] = found.coordinate_alphas * is_known
    words = {**sample.words, "estimator": "sequential_mle", "num_coordinates": group.observed.num_coordinates}
    return _Pending(words, sample.scalars, numbers)


def _column(
    groups: list[_Group], noises: list[Tensor], surrogates: list[Tensor], name: str, estimator: Estimator
) -> list[_Pending]:
    if estimator is functional.grouped_mle:
        estimates, gaussian = [group.estimate for group in groups], [group.gaussian for group in groups]
    else:
        few = [thinned(surrogate) for surrogate in surrogates]
        estimates, gaussian = map(list, estimate_groups(estimator, noises, few))
    together = estimator(torch.cat(noises, dim=1), pooled=False).alpha
    alphas = torch.split(together, [noise.shape[1] for noise in noises])
    more = aggregated_alphas(estimator, noises, surrogates)
    rows = zip(groups, estimates, gaussian, alphas, more, strict=True)
    return [_pending(group, name, estimate, surrogate, own, rest) for group, estimate, surrogate, own, rest in rows]


def analyse(
    observation: NoiseObservation,
    estimators: dict[str, Estimator],
    *,
    step: int,
    seed: int,
    note: str = "",
    clock: Callable[[], float] = lambda: 0.0,
) -> Report:
    """Estimates the tail index of each group's noise, and of its Gaussian surrogate's.

    Args:
        observation: The noise.
        estimators: The estimators by name, the first of which speaks for the headline.
        step: Optimizer steps taken.
        seed: Seed of the Gaussian surrogates.
        note: What holds of all the measurements, in words.
        clock: Tells the seconds that measuring took, read when everything is done.

    Returns:
        The report.
    """
    with torch.no_grad():
        pending = [item for row in _all_pending(observation, estimators, seed) for item in row]
        numbers = torch.stack([item.numbers for item in pending]).tolist()  # all numbers in one transfer
    return Report(
        step=step,
        measurements=tuple(
            _measurement(item, row, len(observation.groups[0].gradients))
            for item, row in zip(pending, numbers, strict=True)
        ),
        num_full_minibatches=observation.num_full_minibatches,
        minibatch_size=observation.minibatch_size,
        noise_unit=observation.noise_unit,
        seconds=clock(),
        note=note,
    )
