"""From observed gradient noise to a report; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from . import functional
from .functional.surrogate import gaussian_surrogate
from .noise.engine import GroupNoise, NoiseObservation
from .records import Histogram, Measurement, Report, TailIndexEstimate

__all__ = ["Estimator", "analyse", "resolve_estimators"]


class Estimator(Protocol):
    """From a sample along dim 0 to a tail index, per series or pooled over all of them."""

    def __call__(self, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
        """Estimates from draws ``[n, ...]``."""


@dataclass(frozen=True)
class _Bins:
    low: float
    high: float
    count: int

    def edges(self) -> tuple[float, ...]:
        return tuple(self.low + (self.high - self.low) * i / self.count for i in range(self.count + 1))

    def summarize(self, values: Tensor) -> Tensor:
        """Returns the counts, the sum and the sum of squares as one vector on the values' device."""
        kept = values[~values.isnan()].clamp(self.low, self.high).float()
        index = ((kept - self.low) * (self.count / (self.high - self.low))).long().clamp(max=self.count - 1)
        counts = torch.bincount(index, minlength=self.count).to(kept.dtype)
        return torch.cat([counts, torch.stack([kept.sum(), kept.square().sum()])])

    def unpack(self, numbers: list[float]) -> Histogram:
        return Histogram(self.edges(), tuple(int(c) for c in numbers[: self.count]), numbers[-2], numbers[-1])


_ALPHA_BINS = _Bins(0.0, 2.5, 50)
_NOISE_BINS = _Bins(-10.0, 10.0, 80)


def _name(estimator: str | Estimator) -> str:
    return estimator if isinstance(estimator, str) else getattr(estimator, "__name__", type(estimator).__name__)


def resolve_estimators(estimators: str | Estimator | Sequence[str | Estimator]) -> dict[str, Estimator]:
    """Finds estimators by their names.

    Args:
        estimators: One or several names of :mod:`lightning_tailindex.functional`, or functions of the same form.

    Returns:
        The functions by name, in the order given.

    Raises:
        ValueError: If a name is unknown, given twice, or none is given.
    """
    wanted = [estimators] if isinstance(estimators, str) or callable(estimators) else list(estimators)
    names = [_name(estimator) for estimator in wanted]
    if not wanted or len(set(names)) < len(names):
        raise ValueError(f"estimators must be one or several different ones, got {names}.")
    unknown = [e for e in wanted if isinstance(e, str) and e not in functional.__all__]
    if unknown:
        raise ValueError(f"estimators must be among {sorted(functional.__all__)} or functions, got {unknown[0]!r}.")
    return {n: getattr(functional, e) if isinstance(e, str) else e for n, e in zip(names, wanted, strict=True)}


@dataclass(frozen=True)
class _Pending:
    """A measurement whose numbers are still on the device."""

    group: GroupNoise
    estimator: str
    numbers: Tensor
    note: str


def _note(group: GroupNoise, estimate: TailIndexEstimate) -> str:
    if group.gradients.numel() and not group.gradients.any():
        return "no gradient reached this group"
    return estimate.note


def _standardized(noise: Tensor, scale: Tensor) -> Tensor:
    """Centres each coordinate by its median draw and divides it by its scale; zeros are left out as NaN."""
    kept = torch.where(noise == 0, torch.nan, noise)
    return (kept - kept.nanmedian(dim=0).values) / scale


def _pending(group: GroupNoise, name: str, estimator: Estimator, generator: torch.Generator) -> _Pending:
    noise = group.nonzero_noise
    estimate = estimator(noise, pooled=True)
    surrogate = estimator(gaussian_surrogate(group.noise, generator), pooled=True)
    alphas = estimator(noise, pooled=False).alpha
    scalars = (
        estimate.alpha,
        estimate.low,
        estimate.high,
        surrogate.alpha,
        estimate.scale.nanmedian(),
        estimate.effective_series,
        estimate.zero_share,
        group.gradient_norm,
        group.noise_norm,
        estimate.gain,
        surrogate.gain,
    )
    histograms = (_ALPHA_BINS.summarize(alphas), _NOISE_BINS.summarize(_standardized(noise, estimate.scale)))
    numbers = torch.cat([torch.stack([value.to(noise.dtype) for value in scalars]), *histograms])
    return _Pending(group, name, numbers, _note(group, estimate))


def _measurement(pending: _Pending, numbers: list[float]) -> Measurement:
    alpha, low, high, gaussian_alpha, scale, effective, zeros, gradient, noise, gain, gaussian_gain = numbers[:11]
    split = 11 + _ALPHA_BINS.count + 2
    n, d = pending.group.gradients.shape
    return Measurement(
        group=pending.group.name,
        estimator=pending.estimator,
        alpha=alpha,
        low=low,
        high=high,
        gaussian_alpha=gaussian_alpha,
        scale=scale,
        num_draws=n,
        num_coordinates=d,
        group_size=pending.group.num_coordinates,
        effective_coordinates=effective,
        zero_share=zeros,
        gradient_norm=gradient,
        noise_norm=noise,
        gain=gain,
        gaussian_gain=gaussian_gain,
        note=pending.note,
        coordinate_alphas=_ALPHA_BINS.unpack(numbers[11:split]),
        standardized_noise=_NOISE_BINS.unpack(numbers[split:]),
    )


def _all_pending(
    observation: NoiseObservation, estimators: dict[str, Estimator], generator: torch.Generator
) -> Iterator[_Pending]:
    for group in observation.groups:
        for name, estimator in estimators.items():
            yield _pending(group, name, estimator, generator)


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
    device = observation.groups[0].gradients.device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        pending = list(_all_pending(observation, estimators, generator))
        numbers = torch.stack([item.numbers for item in pending]).tolist()  # the one transfer of a report
    return Report(
        step=step,
        measurements=tuple(map(_measurement, pending, numbers)),
        num_full_minibatches=observation.num_full_minibatches,
        minibatch_size=observation.minibatch_size,
        seconds=clock(),
        note=note,
    )
