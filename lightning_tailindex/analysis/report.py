"""All groups by all estimators, as one report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.functional._search import Groups
from lightning_tailindex.functional._stream import pair_factor
from lightning_tailindex.functional.grouped_mle import separate_alphas
from lightning_tailindex.functional.law_fit import LAWS
from lightning_tailindex.functional.median import standardized
from lightning_tailindex.noise.observation import GroupNoise, NoiseObservation
from lightning_tailindex.noise.pairs import PairNoise
from lightning_tailindex.records import AggregatedTailIndex, DrawSamples, LawFit, Measurement, Report, TailIndexEstimate
from lightning_tailindex.records.notes import joined

from .aggregation import FIELDS, aggregated_alphas, sizes, thinned
from .bins import ALPHA_BINS, NOISE_BINS
from .estimators import Estimator
from .every_coordinate import every_coordinate, sums_over_coordinates
from .groups import Group, batches, observed_groups
from .notes import group_note, misfit
from .transfer import on_host

__all__ = ["analyse"]

_LARGEST = 8  # draws whose samples a report keeps: it is to stay small


@dataclass(frozen=True)
class _Pending:
    """A measurement whose numbers are still on the device.

    Attributes:
        words: Its fields that were never on the device.
        scalars: Its fields that are scalars.
        aggregated: The numbers of :func:`.aggregation.aggregated_alphas`.
        coordinate_alphas: Summary by :data:`.bins.ALPHA_BINS`.
        standardized_noise: Summary by :data:`.bins.NOISE_BINS`.
    """

    words: dict[str, Any]
    scalars: dict[str, Tensor]
    aggregated: Tensor
    coordinate_alphas: Tensor
    standardized_noise: Tensor

    def numbers(self) -> tuple[Tensor, ...]:
        """All that is on the device, in flat tensors."""
        scalars = torch.stack([scalar.to(self.aggregated) for scalar in self.scalars.values()])
        return scalars, self.aggregated, self.coordinate_alphas, self.standardized_noise


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
    # draws of training are differences of two over the root of 2
    of_draws = 1.0 if group.left_out is None else math.sqrt(2) / pair_factor(estimate.alpha)
    return {
        "alpha": estimate.alpha,
        "low": estimate.low,
        "high": estimate.high,
        "gaussian_alpha": surrogate.alpha,
        "scale": estimate.scale.nanmedian() * of_draws,
        "effective_coordinates": estimate.effective_series,
        "zero_share": estimate.zero_share,
        "gradient_norm": group.gradient_norm,
        "noise_norm": group.noise_norm,
        "gain": estimate.gain,
        "gaussian_gain": surrogate.gain,
    }


def _pending(
    group: Group, name: str, estimate: TailIndexEstimate, surrogate: TailIndexEstimate, alphas: Tensor, *more: Tensor
) -> _Pending:
    observed = group.observed
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
    return _Pending(words, scalars, *(numbers.to(group.noise) for numbers in more))


def _measurement(pending: _Pending, numbers: Iterator[list[float]]) -> Measurement:
    """Takes the numbers of :meth:`_Pending.numbers`, which are on the host now."""
    scalars, averages, alphas, noise = islice(numbers, 4)
    fields: dict[str, Any] = {**pending.words, **dict(zip(pending.scalars, scalars, strict=True))}
    law, num_draws, width = fields.pop("law"), fields["num_draws"], len(FIELDS)
    found = Measurement(
        **fields,
        law=LAWS[int(law)] if law >= 0 else "none",
        aggregated=tuple(
            AggregatedTailIndex(size, num_draws // size, *averages[i * width : (i + 1) * width])
            for i, size in enumerate(sizes(num_draws))
        ),
        coordinate_alphas=ALPHA_BINS.unpack(alphas),
        standardized_noise=NOISE_BINS.unpack(noise),
    )
    return replace(found, note=joined(found.note, misfit(found)))


def _all_pending(
    observation: NoiseObservation, estimators: dict[str, Estimator], seed: int
) -> Iterator[tuple[_Pending, ...]]:
    """Estimates all groups by one estimator after the other; what belongs to one group comes together."""
    generator = torch.Generator(observation.groups[0].gradients.device).manual_seed(seed)
    # those of the whole model are made of those of the groups, which are not in one batch
    all_sums = sums_over_coordinates([group.pairs for group in observation.groups if group.pairs is not None])
    for some in batches(observation.groups):
        groups, counted = observed_groups(some, seed, generator)
        columns = [_column(groups, counted, name, estimator) for name, estimator in estimators.items()]
        pairs = [group.pairs for group in some if group.pairs is not None]
        if pairs:
            rows = zip(groups, columns[0], pairs, islice(all_sums, len(pairs)), strict=True)
            columns.insert(0, [_of_all(*row) for row in rows])
        yield from zip(*columns, strict=True)


def _of_all(group: Group, sample: _Pending, pairs: PairNoise, sums: Tensor) -> _Pending:
    """The measurement of all coordinates of a group: of a sample of them is only what needs all draws at once."""
    found = every_coordinate(pairs, sums, group.estimate.effective_series, thinned(group.surrogate))
    is_known = ~group.noise.isnan().all()  # but for draws of nothing but rounding
    own = {name: torch.where(is_known, value, torch.nan) for name, value in found.scalars.items()}
    return replace(
        sample,
        words={**sample.words, "estimator": "sequential_mle", "num_coordinates": group.observed.num_coordinates},
        scalars={**sample.scalars, **own},
        coordinate_alphas=found.coordinate_alphas * is_known,
    )


def _column(groups: list[Group], counted: Groups, name: str, estimator: Estimator) -> list[_Pending]:
    noises, surrogates = [group.noise for group in groups], [group.surrogate for group in groups]
    if estimator is functional.grouped_mle:
        estimates, gaussian = [group.estimate for group in groups], [group.gaussian for group in groups]
        alphas = separate_alphas(counted)
    else:
        estimates = [estimator(noise, pooled=True) for noise in noises]
        gaussian = [estimator(thinned(surrogate), pooled=True) for surrogate in surrogates]
        together = estimator(torch.cat(noises, dim=1), pooled=False).alpha
        alphas = list(torch.split(together, list(counted.sizes)))
    relative = standardized(counted.x, counted.cells.middle, torch.cat([estimate.scale for estimate in estimates]))
    more = (
        aggregated_alphas(estimator, noises, surrogates),
        ALPHA_BINS.summarize(torch.cat(alphas)[None], counted.sizes),
        NOISE_BINS.summarize(relative, counted.sizes),
    )
    rows = zip(groups, estimates, gaussian, alphas, *more, strict=True)
    return [_pending(group, name, *row) for group, *row in rows]


def _largest(norms: Sequence[float], samples: Sequence[tuple[int, ...]]) -> tuple[DrawSamples, ...]:
    """The samples of the largest draws, where they are known."""
    known = [draw for draw, own in enumerate(samples) if own and norms[draw] > 0]
    largest = sorted(known, key=lambda draw: -norms[draw])[:_LARGEST]
    return tuple(DrawSamples(draw, samples[draw]) for draw in largest)


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
    with torch.inference_mode():  # thousands of small operations, each a tenth cheaper than without gradients alone
        pending = [item for row in _all_pending(observation, estimators, seed) for item in row]
        norms = torch.linalg.vector_norm(observation.groups[-1].noise, dim=1)
        *rows, draw_norms = on_host([*(piece for item in pending for piece in item.numbers()), norms])
    numbers = iter(rows)
    return Report(
        step=step,
        measurements=tuple(_measurement(item, numbers) for item in pending),
        num_full_minibatches=observation.num_full_minibatches,
        minibatch_size=observation.minibatch_size,
        noise_unit=observation.noise_unit,
        seconds=clock(),
        note=note,
        draw_norms=tuple(draw_norms),
        largest_draws=_largest(draw_norms, observation.draw_samples),
    )
