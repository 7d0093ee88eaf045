"""Power laws fitted to the tails of series: the exponent, its interval, and the record of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import gamma
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import screened
from ._jackknife import pool
from ._tails import Sizes, sort_sizes
from ._values import Usable, as_series, record_each, record_pooled

Statistic = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tail:
    """The tail of each series, every field of shape [series].

    Attributes:
        threshold: Value from which the tail starts, in the unit of the data.
        total: Sum of log(value / threshold) over the tail.
        number: Values in the tail.
        free: Values in the tail that were not themselves taken as the threshold.
        log_share: Logarithm of what the reported scale over the threshold is, to the power of alpha.
    """

    threshold: Tensor
    total: Tensor
    number: Tensor
    free: Tensor
    log_share: Tensor

    def __getitem__(self, series: Tensor) -> Tail:
        """The tails of some of the series."""
        fields = (self.threshold, self.total, self.number, self.free, self.log_share)
        return Tail(*(field[series] for field in fields))

    def log_likelihood(self, alpha: Tensor) -> Tensor:
        """Log-likelihood of the tail under the Pareto law that starts at its threshold."""
        return self.number * (alpha.log() - self.threshold.log()) - (alpha + 1) * self.total

    def scale(self, alpha: Tensor) -> Tensor:
        """The reported scale."""
        return self.threshold * (self.log_share / alpha).exp()


def estimate(
    x: Tensor,
    pooled: bool,
    fewest: int,
    choose: Callable[[Sizes], Tail],
    statistic: Callable[[Tail, Tensor], Statistic],
) -> TailIndexEstimate:
    """Fits the tails that ``choose`` finds; ``statistic`` says how a pooled fit finds them among fewer draws."""
    shape, x = x.shape[1:], as_series(x)
    present, finite, varies = (x != 0).sum(0), x.isfinite().all(0), (x != x[0]).any(0)
    few = present < fewest
    candidates = finite & varies & ~few
    tail = choose(sort_sizes(x[:, candidates]))
    decays = tail.total > 0
    flat = candidates.masked_scatter(candidates, ~decays)
    mask, note = screened(
        finite, varies, {f"fewer than {fewest} usable values": few, "no |x| beyond the threshold": flat}
    )
    tail = tail[decays]

    def spread(value: Tensor) -> Tensor:
        return value.new_zeros(mask.shape).masked_scatter(mask, value)

    zero_share = torch.where(finite, (x == 0).to(x.dtype).mean(0), torch.nan)
    usable = Usable(mask, spread(tail.number), zero_share, note, shape)
    if pooled:
        found = pool(x[:, mask], statistic(tail, present[mask]), _alpha)
        likelihood = torch.where(mask.any(), tail.log_likelihood(found[0]).sum(), torch.nan)
        return replace(record_pooled(usable, found, spread(tail.scale(found[0])), ""), log_likelihood=likelihood)
    alpha = tail.number / tail.total
    low, high = _interval(tail)
    likelihood = torch.where(mask, spread(tail.log_likelihood(alpha)), torch.nan).reshape(shape)
    record = record_each(usable, spread(alpha), spread(low), spread(high), spread(tail.scale(alpha)), "")
    return replace(record, log_likelihood=likelihood)


def _alpha(inverse: Tensor) -> Tensor:
    """Alpha of a mean of 1/alpha; infinite at 0, which the lower end of an interval of 1/alpha may pass."""
    return 1 / inverse.clamp(min=0)


def _interval(tail: Tail) -> tuple[Tensor, Tensor]:
    """95 % interval of alpha: alpha times the total is a sum of independent standard exponentials."""
    numbers, which = np.unique(tail.free.cpu().numpy(), return_inverse=True)
    ends = gamma.ppf(np.array([[0.025], [0.975]]), np.maximum(numbers, 1))[:, which]
    low, high = torch.as_tensor(ends, dtype=tail.total.dtype, device=tail.total.device)
    return low / tail.total, high / tail.total


def mean_excess(tail: Tail, num_values: Tensor, skip: int) -> Statistic:
    """The statistic 1/alpha of series of which the same share of the non-zero values is the tail as now."""
    share = tail.number.to(tail.total) / num_values  # two integers would give the default dtype

    def statistic(x: Tensor) -> Tensor:
        sizes = sort_sizes(x)
        largest = (sizes.num_values - skip).clamp(min=1)
        number = torch.minimum((share * sizes.num_values).round().long().clamp(min=1), largest)
        return sizes.inverse((len(x) - skip - number).clamp(min=0)[None], skip)[0]

    return statistic
