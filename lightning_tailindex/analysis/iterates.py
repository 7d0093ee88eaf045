"""From a window of iterates to a report; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_tailindex.functional import gaussian_surrogate, group_sum, grouped_mle, hill
from lightning_tailindex.functional.grouped_mle import pooled_groups
from lightning_tailindex.functional.median import nonzero_median
from lightning_tailindex.iterates import GroupIterates, IterateObservation
from lightning_tailindex.records import IterateEstimate, IterateMeasurement, IterateReport, ParameterGroup
from lightning_tailindex.records import TailIndexEstimate as Estimate

from .aggregation import thinned
from .transfer import on_host

__all__ = ["analyse_iterates"]

_SIZES = (2, 5, 10, 20, 40, 50, 100, 200, 500, 1000)
"""Coordinates in a sum, as published for networks."""

_FEWEST_SUMS = 8
_FEWEST_REPETITIONS = 16


def _sizes(num_values: int) -> list[int]:
    """The published sizes that leave sums enough."""
    return [size for size in _SIZES if num_values // size >= _FEWEST_SUMS] or [2]


def _side_by_side(parts: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Makes each part a series, ``[n, parts]``: centred, with zeros where it is shorter, which estimators leave out.

    Values go to random rows: in the same few rows, short series would seem to depend on each other.
    """
    rows = parts[0].new_zeros(max(map(len, parts)), len(parts))
    for i, part in enumerate(parts):
        places = torch.randperm(len(rows), generator=generator, device=part.device)[: len(part)]
        rows[places, i] = torch.where(part == 0, part, part - nonzero_median(part))
    return rows


def _across(parts: Sequence[Tensor], generator: torch.Generator) -> Estimate:
    """Coordinates as draws, of each part with a centre and a scale of its own: mixed scales are no heavy tail."""
    if len(parts) == 1:
        return grouped_mle(parts[0])
    return pooled_groups([_side_by_side(parts, generator)], center="none")[0]


def _gaussian(part: Tensor, generator: torch.Generator) -> Tensor:
    """As many Gaussian draws, of the part's own scale."""
    draws = torch.randn(len(part), generator=generator, dtype=part.dtype, device=part.device)
    return torch.where(part == 0, part, draws * part.std(correction=0))


def _published(parts: Sequence[Tensor]) -> Estimate:
    """The published arrangement: the mean of each part subtracted, the median over several sizes of sums."""
    centred = torch.cat([part - part.mean() for part in parts])
    return group_sum(centred, group_size=_sizes(len(centred)))


def _of_rows(deviations: Tensor, generator: torch.Generator) -> Estimate:
    """Growth of norms of sums in random orders, for snapshots that follow each other move together.

    Of differences of random pairs: deviations from their own mean add up to 0, so that their sums grow too slowly and a
    Gaussian would read 2.07 from 64 of them, while differences of disjoint pairs in random order are uncorrelated.
    """
    order = torch.randperm(len(deviations), generator=generator, device=deviations.device)
    half = len(order) // 2
    differences = deviations[order[:half]] - deviations[order[half : 2 * half]]
    return group_sum(differences, group_size=4, permutations=20, vectors=True)


def _few(repetitions: Tensor) -> str:
    n = len(repetitions)
    return f"{n} ergodic averages, fewer than {_FEWEST_REPETITIONS}" if n < _FEWEST_REPETITIONS else ""


def _samples(group: GroupIterates, generator: torch.Generator) -> list[Tensor]:
    """What is pooled over coordinates: repetitions, a surrogate, and the deviations of each replica."""
    repetitions = group.repetitions
    if _few(repetitions):
        repetitions = torch.full_like(repetitions[:1], torch.nan)  # which makes the estimator say that it cannot tell
    deviations = group.deviations.to(repetitions)
    return [repetitions, thinned(gaussian_surrogate(deviations[0], generator)), *deviations]


def _estimates(
    group: GroupIterates, parts: Sequence[GroupIterates], pooled: Sequence[Estimate], generator: torch.Generator
) -> Iterator[tuple[str, Estimate]]:
    """Every estimate of a group, with what it is of."""
    repetitions, gaussian, deviation, *workers = pooled
    own, averages = group.deviations[0], [part.averages[0] for part in parts]
    yield "ergodic_average", _across(averages, generator)
    yield "ergodic_average_gaussian", _across([_gaussian(x, generator) for x in averages], generator)
    yield "ergodic_average_published", _published(averages)
    yield "repetitions", replace(repetitions, note=_few(group.repetitions) or repetitions.note)
    yield "deviation", deviation
    yield "deviation_gaussian", gaussian
    yield "deviation_rows", _of_rows(own, generator)
    yield "deviation_norm", hill(torch.linalg.vector_norm(own, dim=1))
    for i, worker in enumerate(workers):
        yield f"worker_{i}", _across([part.averages[1 + i] for part in parts], generator)
        yield f"worker_{i}_deviation", worker


def _parts(groups: Sequence[GroupIterates]) -> list[Sequence[GroupIterates]]:
    """Of what each group consists: the whole model, which is the last, of the others, and these of themselves."""
    *others, whole = groups
    return [*([group] for group in others), others or [whole]]


def _norm(group: GroupIterates) -> Tensor:
    """Root mean square norm of the deviations, scaled up from the sample to all coordinates."""
    own = group.deviations[0]
    norm: Tensor = own.square().sum(1).mean().sqrt()
    return norm * math.sqrt(group.num_coordinates / max(own.shape[1], 1))


def _measurement(
    group: GroupIterates, named: Sequence[tuple[str, Estimate]], numbers: Sequence[float]
) -> IterateMeasurement:
    norm, *ends = numbers
    rows = zip(named, ends[0::3], ends[1::3], ends[2::3], strict=True)
    estimates = tuple(IterateEstimate(what, alpha, low, high, e.note) for (what, e), alpha, low, high in rows)
    return IterateMeasurement(group.name, group.averages.shape[1], group.num_coordinates, norm, estimates)


def analyse_iterates(
    observation: IterateObservation,
    *,
    step: int,
    parameter_groups: tuple[ParameterGroup, ...],
    minibatch_size: float,
    replicas: str,
    seed: int,
    clock: Callable[[], float] = lambda: 0.0,
) -> IterateReport:
    """Estimates the tail index of each group's iterates in several ways.

    Args:
        observation: The window.
        step: Optimizer steps taken at its end.
        parameter_groups: How the optimizers moved the weights.
        minibatch_size: Samples that an optimizer step consumed.
        replicas: Of which replicas it is.
        seed: Seed of the Gaussian surrogates.
        clock: Tells the seconds that measuring took, read when everything is done.

    Returns:
        The report.
    """
    groups = observation.groups
    with torch.inference_mode():
        generator = torch.Generator(groups[0].averages.device).manual_seed(seed)
        samples = [_samples(group, generator) for group in groups]
        wanted = [place != 1 for sample in samples for place in range(len(sample))]  # of surrogates, no interval
        pooled = iter(pooled_groups([x for sample in samples for x in sample], intervals=wanted))
        named = [
            list(_estimates(group, parts, [next(pooled) for _ in sample], generator))
            for group, parts, sample in zip(groups, _parts(groups), samples, strict=True)
        ]
        numbers = [
            torch.stack([_norm(group), *(v for _, e in own for v in (e.alpha, e.low, e.high))])
            for group, own in zip(groups, named, strict=True)
        ]
        rows = zip(groups, named, on_host(numbers), strict=True)
    return IterateReport(
        step=step,
        measurements=tuple(_measurement(*row) for row in rows),
        parameter_groups=parameter_groups,
        minibatch_size=minibatch_size,
        window=observation.window,
        burn_in=observation.burn_in,
        num_snapshots=groups[0].deviations.shape[1],
        num_repetitions=len(groups[0].repetitions),
        replicas=replicas,
        seconds=clock(),
        note=observation.note,
    )
