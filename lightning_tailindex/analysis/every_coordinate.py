"""What all coordinates of a group say, where their draws were seen in pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_tailindex.functional._checks import FEWEST_VALUES
from lightning_tailindex.functional.log_moment import EULER_GAMMA, alpha_of_log_variance
from lightning_tailindex.functional.sequential import PairStream, sequential_fit, sequential_of
from lightning_tailindex.noise.pairs import PairNoise

from .bins import ALPHA_BINS, Bins

__all__ = ["EveryCoordinate", "every_coordinate", "sums_over_coordinates"]

_CHUNK = 1 << 20
_SUMS = ("told", "values", "possible", "defined", "inverses")
"""Coordinates with a contrast, their differences, as many as without zeros; tail indices, and 1 over them."""
_FINE_ALPHAS = Bins(ALPHA_BINS.low, ALPHA_BINS.high, ALPHA_BINS.count * 100)
_LOGARITHMS = Bins(-100.0, 100.0, 20_000)  # of differences; single precision ends within


@dataclass(frozen=True)
class EveryCoordinate:
    """Numbers of a measurement that all coordinates of the group stand behind.

    Attributes:
        scalars: Fields of a measurement, scalars on the device.
        coordinate_alphas: Summary by the bins of tail indices.
    """

    scalars: dict[str, Tensor]
    coordinate_alphas: Tensor


def sums_over_coordinates(groups: Sequence[PairNoise]) -> Iterator[Tensor]:
    """Adds up over all coordinates of each group, those that other processes hold among them.

    Args:
        groups: What the coordinates told; the last group is the whole model, made up of the others if there are any.

    Yields:
        The sums :data:`_SUMS` and, behind them, two histograms. Each process has to ask for those of all groups.
    """
    *parts, whole = groups
    total: Tensor | None = None
    for pairs in parts or [whole]:
        sums = pairs.whole(torch.stack([part for stream in pairs.streams for part in _sums(stream)]).sum(0))
        total = sums if total is None else total + sums
        yield sums
    if parts and total is not None:
        yield total


def every_coordinate(pairs: PairNoise, sums: Tensor, effective: Tensor, surrogate: Tensor) -> EveryCoordinate:
    """Estimates from all coordinates of a group.

    Args:
        pairs: What they told.
        sums: The group's of :func:`sums_over_coordinates`.
        effective: Effective number of independent ones among them, from a sample whose draws were kept.
        surrogate: The Gaussian surrogate of that sample's noise, ``[n, d]``.

    Returns:
        The numbers.
    """
    told, values, possible, defined, inverses = sums[: len(_SUMS)]
    alphas, logarithms = torch.split(sums[len(_SUMS) :], [_FINE_ALPHAS.width, _LOGARITHMS.width])
    fit, gaussian = sequential_fit(pairs.curves, pairs.num_contrasts, told, effective), sequential_of(surrogate)
    # the scale is that of the draws; a difference of two has 2 ** (1 / alpha) times theirs
    middle = _LOGARITHMS.median(logarithms) - EULER_GAMMA * (1 / fit.alpha - 1) - math.log(2) / fit.alpha
    scalars = {
        "alpha": fit.alpha,
        "low": fit.low,
        "high": fit.high,
        "gaussian_alpha": gaussian.alpha,
        "scale": middle.exp(),
        "effective_coordinates": fit.effective,
        "zero_share": 1 - values / possible,
        "gain": fit.gain,
        "gaussian_gain": gaussian.gain,
        "coordinate_median": _FINE_ALPHAS.median(alphas),
        "coordinate_harmonic_mean": defined / inverses,
    }
    return EveryCoordinate(scalars, _FINE_ALPHAS.coarser(alphas, ALPHA_BINS))


def _sums(stream: PairStream) -> Iterator[Tensor]:
    """What adds up over coordinates, for some of them at a time: see :data:`_SUMS`, and two histograms behind."""
    pairs = len(stream.curves)
    for start in range(0, max(len(stream.count), 1), _CHUNK):
        count, mean, squares = (t[start : start + _CHUNK] for t in (stream.count, stream.mean, stream.squares))
        finite = mean.isfinite()
        told = finite & (count > 1)
        alphas = torch.where(finite & (count >= FEWEST_VALUES), alpha_of_log_variance(squares / (count - 1)), torch.nan)
        numbers = (told, count * finite, pairs * finite, ~alphas.isnan(), (1 / alphas).nan_to_num(0.0))
        size, logarithms = [len(count)], torch.where(told, mean, torch.nan)
        histograms = _FINE_ALPHAS.summarize(alphas[None], size)[0], _LOGARITHMS.summarize(logarithms[None], size)[0]
        yield torch.cat([torch.stack([number.sum().double() for number in numbers]), *(h.double() for h in histograms)])
