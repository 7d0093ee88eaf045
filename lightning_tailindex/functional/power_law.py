"""The power law of Clauset, Shalizi and Newman, from the value on where it fits best."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import FEWEST_VALUES, checked_sample
from ._pareto import Statistic, Tail, estimate, mean_excess
from ._tails import Sizes, closest_of_all, sort_sizes, without_ties

__all__ = ["power_law"]


def power_law(x: Tensor, *, x_min: float | None = None, pooled: bool = False) -> TailIndexEstimate:
    r"""Estimates the tail index of a power law from the absolute values of at least x_min.

    .. math::
        \hat\alpha = m \Bigl/ \sum_{|x_i| \ge x_\mathrm{min}} \log \frac{|x_i|}{x_\mathrm{min}}, \qquad
        m = \#\{i : |x_i| \ge x_\mathrm{min}\}

    This is the tail index, P(\|X\| > x) ~ x^-alpha: one less than the exponent of the density, which Clauset,
    Shalizi and Newman, the package powerlaw and WeightWatcher call alpha. For iterates, norms and spectra; it is no
    estimator of the index of a stable law above about 1.5. Nothing is subtracted; exact zeros are left out.

    Without ``x_min``, every distinct absolute value but the largest is tried in each series, and that is taken from
    which on the Kolmogorov-Smirnov distance to the fitted law is smallest, the empirical distribution taken just
    below each value; of equally good ones the smallest. So does powerlaw up to version 1.5; from version 2.0 on it
    leaves out, unless told otherwise, thresholds where the tail index would exceed 2.

    Where the tail is a power law, alpha times the sum follows Gamma(m), or Gamma(m - 1) where x_min is one of the
    values, which gives the interval, exact for a given x_min. That x_min was chosen by the data is not in it: then
    it covers the truth in 0.91 of samples of 900 Pareto draws. The draws have to be independent.

    Pooled, 1/alpha is averaged over the series, and the interval is a jackknife's over 16 blocks of draws, which
    series share. The data choose x_min once for each series, from all draws; where a block is left out, it is the
    same share of the non-zero values that is the tail. The choice pulls 1/alpha down where draws are few, and the
    interval does not know: of 300 series a tail index of 1.5 reads 1.56 at 64 draws and 1.52 at 256; give x_min there.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are independent series. Half
            precision is computed in float32.
        x_min: Where the tail starts, positive, in the unit of ``x``, the same in each series. None chooses it for
            each series.
        pooled: Whether 1/alpha is averaged over the series into one estimate.

    Returns:
        The estimate, of shape ``[...]``, or ``[]`` where pooled. ``scale`` is x_min; ``num_values`` is m, pooled its
        sum; ``log_likelihood`` is that of the tail under the Pareto law from x_min on; ``gain`` is NaN. NaN, with a
        note, for series with NaN or infinity, constant ones, fewer than 8 non-zero values, or no \|x\| beyond x_min.

    Raises:
        TypeError: If ``x`` is no dense tensor of real floating point.
        ValueError: If ``x`` has no dimension or no draws, or ``x_min`` is not positive and finite, also in the
            precision of the computation.

    References:
        Clauset, Shalizi, Newman, Power-Law Distributions in Empirical Data, SIAM Review 51, 2009, sections 3.1 and
        3.3. Alstott, Bullmore, Plenz, powerlaw: A Python Package for Analysis of Heavy-Tailed Distributions, PLoS
        ONE 9, 2014.

    Example:
        >>> u = torch.rand(2000, generator=torch.Generator().manual_seed(0))
        >>> estimate = power_law(3 * u ** (-1 / 1.5), x_min=3.0)
        >>> bool(estimate.low < 1.5 < estimate.high)
        True
    """
    if x_min is not None and not 0 < x_min < math.inf:
        raise ValueError(f"power_law needs a positive, finite x_min, got x_min={x_min}.")
    x = checked_sample("power_law", x)
    if x_min is not None and not torch.finfo(x.dtype).tiny <= x_min <= torch.finfo(x.dtype).max:
        raise ValueError(f"power_law needs an x_min that {x.dtype} can tell from 0 and infinity, got x_min={x_min}.")
    if x_min is None:
        return estimate(x, pooled, FEWEST_VALUES, _best_tail, partial(mean_excess, skip=0))
    return estimate(
        x, pooled, FEWEST_VALUES, lambda sizes: _tail_from(sizes, x_min), lambda *_: _mean_excess_from(x_min)
    )


def _best_tail(sizes: Sizes) -> Tail:
    """The tail of each series that is closest to a power law."""
    place = closest_of_all(sizes)
    number = len(sizes.log) - place
    total = number * sizes.inverse(place[None], skip=0)[0]
    return Tail(sizes.threshold(place), total, number, number - 1, torch.zeros_like(total))


def _tail_from(sizes: Sizes, x_min: float) -> Tail:
    """The tail of each series from a given value on."""
    within, start = sizes.size >= x_min, math.log(x_min) - sizes.unit
    number = within.sum(0)
    total = without_ties(torch.where(within, sizes.log - start, 0.0).sum(0), number, start)
    return Tail(torch.full_like(start, x_min), total, number, number, torch.zeros_like(start))


def _mean_excess_from(x_min: float) -> Statistic:
    """The statistic 1/alpha of series whose tails start at a given value."""

    def statistic(x: Tensor) -> Tensor:
        tail = _tail_from(sort_sizes(x), x_min)
        return tail.total / tail.number

    return statistic
