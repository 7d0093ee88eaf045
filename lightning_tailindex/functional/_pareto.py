"""Power laws fitted to the tails of series: the exponent, its interval, and the record of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import gamma
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate
from lightning_tailindex.records.notes import joined

from ._checks import left_out_note
from ._jackknife import UNDEFINED, pool
from ._tails import Sizes, sort_sizes
from ._values import as_series

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
    usable = finite & varies & (present >= fewest)
    tail = choose(sort_sizes(x[:, usable]))
    decays = tail.total > 0
    flat = usable.clone()
    flat[usable] = ~decays
    usable, tail = usable & ~flat, tail[decays]
    if pooled:
        alpha, low, high, effective = pool(x[:, usable], statistic(tail, present[usable]), _alpha)
    else:
        alpha, (low, high) = tail.number / tail.total, _interval(tail)
        effective = torch.full_like(alpha, torch.nan)
    likelihood = tail.log_likelihood(alpha)
    num_values, zero_share = tail.number, torch.where(finite, (x == 0).to(x.dtype).mean(0), torch.nan)

    def spread(value: Tensor, missing: float = torch.nan) -> Tensor:
        out = torch.full(usable.shape, missing, dtype=value.dtype, device=x.device)
        out[usable] = value
        return out.reshape(shape)

    def place(value: Tensor) -> Tensor:
        return value if pooled else spread(value)

    if pooled:
        likelihood = torch.where(usable.any(), likelihood.sum(), torch.nan)
    undefined = pooled and bool(usable.any()) and bool(alpha.isnan())
    few = {f"fewer than {fewest} usable values": present < fewest, "no |x| beyond the threshold": flat}
    return TailIndexEstimate(
        alpha=place(alpha),
        low=place(low),
        high=place(high),
        scale=spread(tail.scale(alpha)),
        log_likelihood=place(likelihood),
        gain=place(torch.full_like(alpha, torch.nan)),
        num_values=num_values.sum() if pooled else spread(num_values, 0),
        zero_share=zero_share[usable].mean() if pooled else zero_share.reshape(shape),
        effective_series=place(effective),
        note=joined(left_out_note(finite, varies, few), UNDEFINED if undefined else ""),
    )


def _alpha(inverse: Tensor) -> Tensor:
    """Alpha of a mean of 1/alpha; infinite at 0, which the lower end of an interval of 1/alpha may pass."""
    return 1 / inverse.clamp(min=0)


def _interval(tail: Tail) -> tuple[Tensor, Tensor]:
    """95 % interval of alpha: alpha times the total is a sum of independent standard exponentials."""
    numbers, which = np.unique(tail.free.cpu().numpy(), return_inverse=True)
    ends = gamma.ppf(np.array([[0.025], [0.975]]), np.maximum(numbers, 1))[:, which]
    low, high = torch.as_tensor(ends, dtype=tail.total.dtype, device=tail.total.device)
    return low / tail.total, high / tail.total


def mean_excess(share: Tensor, skip: int) -> Statistic:
    """The statistic 1/alpha of series of which a given share of the non-zero values is the tail."""

    def statistic(x: Tensor) -> Tensor:
        sizes = sort_sizes(x)
        largest = (sizes.num_values - skip).clamp(min=1)
        number = torch.minimum((share * sizes.num_values).round().long().clamp(min=1), largest)
        return sizes.inverse((len(x) - skip - number).clamp(min=0)[None], skip)[0]

    return statistic
