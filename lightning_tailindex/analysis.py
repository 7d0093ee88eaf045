"""From observed gradient noise to a report; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from . import functional
from .functional.median import nonzero_median
from .functional.surrogate import gaussian_surrogate
from .noise.observation import GroupNoise, NoiseObservation
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

    @property
    def width(self) -> int:
        """Numbers in a summary."""
        return self.count + 2

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
    wanted: list[Any] = [estimators]
    if isinstance(estimators, Sequence) and not isinstance(estimators, str):
        wanted = list(estimators)
    bad = [estimator for estimator in wanted if not isinstance(estimator, str) and not callable(estimator)]
    if bad:
        raise ValueError(f"estimators must be names or functions, got {bad[0]!r}.")
    names = [_name(estimator) for estimator in wanted]
    if not wanted or len(set(names)) < len(names):
        raise ValueError(f"estimators must be one or several different ones, got {names}.")
    unknown = [e for e in wanted if isinstance(e, str) and e not in functional.__all__]
    if unknown:
        raise ValueError(f"estimators must be among {sorted(functional.__all__)} or functions, got {unknown[0]!r}.")
    return {n: getattr(functional, e) if isinstance(e, str) else e for n, e in zip(names, wanted, strict=True)}


@dataclass(frozen=True)
class _Pending:
    """A measurement whose numbers are still on the device.

    Attributes:
        words: Its fields that were never on the device.
        scalars: Names of its other fields, in the order of the numbers.
        numbers: The scalars and, behind them, the two histograms.
    """

    words: dict[str, Any]
    scalars: tuple[str, ...]
    numbers: Tensor


def _note(group: GroupNoise, estimate: TailIndexEstimate) -> str:
    if len(group.gradients) == 0:
        return "no minibatch gave a draw"
    if not group.gradients.any():
        return "no gradient reached this group"
    if group.is_rounding:
        return "the noise is no more than the rounding of the gradient"
    return estimate.note


def _standardized(noise: Tensor, scale: Tensor) -> Tensor:
    """Centres each coordinate by its median draw and divides it by its scale; zeros are left out as NaN."""
    return torch.where(noise == 0, torch.nan, noise - nonzero_median(noise)) / scale


def _pending(group: GroupNoise, name: str, estimator: Estimator, generator: torch.Generator) -> _Pending:
    is_empty = len(group.gradients) == 0 or group.is_rounding
    # where there is no noise to speak of, one draw of NaN makes every estimator say that it cannot say anything
    noise = torch.full_like(group.full_gradient, torch.nan)[None] if is_empty else group.nonzero_noise
    estimate = estimator(noise, pooled=True)
    surrogate = estimator(gaussian_surrogate(noise if is_empty else group.noise, generator), pooled=True)
    scalars = {
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
    words = {
        "group": group.name,
        "estimator": name,
        "num_draws": len(group.gradients),
        "num_coordinates": group.gradients.shape[1],
        "group_size": group.num_coordinates,
        "note": _note(group, estimate),
    }
    alphas = _ALPHA_BINS.summarize(estimator(noise, pooled=False).alpha)
    values = _NOISE_BINS.summarize(_standardized(noise, estimate.scale))
    numbers = torch.stack([scalar.to(noise) for scalar in scalars.values()])
    return _Pending(words, tuple(scalars), torch.cat([numbers, alphas.to(noise), values.to(noise)]))


def _measurement(pending: _Pending, numbers: list[float]) -> Measurement:
    first = len(pending.scalars)
    second = first + _ALPHA_BINS.width
    fields: dict[str, Any] = {**pending.words, **dict(zip(pending.scalars, numbers[:first], strict=True))}
    return Measurement(
        **fields,
        coordinate_alphas=_ALPHA_BINS.unpack(numbers[first:second]),
        standardized_noise=_NOISE_BINS.unpack(numbers[second:]),
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
        numbers = torch.stack([item.numbers for item in pending]).tolist()  # all numbers in one transfer
    return Report(
        step=step,
        measurements=tuple(map(_measurement, pending, numbers)),
        num_full_minibatches=observation.num_full_minibatches,
        minibatch_size=observation.minibatch_size,
        seconds=clock(),
        note=note,
    )
