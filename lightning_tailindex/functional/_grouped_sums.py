"""Sums of groups of draws: what they say of 1/alpha in each series, and how far that is from the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import t as t_law
from torch import Tensor

from ._checks import FEWEST_VALUES, screened
from ._values import Usable


def mean_log(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the logarithms of the norms that are not zero, and their number, of vectors of shape [n, series, d]."""
    log, present = _logs(x)
    return log.sum(0) / present.sum(0), present.sum(0)


def summarize(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Splits vectors of shape [n, series, d] into groups of consecutive draws.

    Returns the contribution of each group, whose mean is 1/alpha, shape [groups, series], and the number of groups
    whose sum is not zero, shape [series].
    """
    values = x[: len(x) // size * size].reshape(len(x) // size, size, *x.shape[1:])
    log_value, present = _logs(values)
    log_sum, sum_present = _logs(values.sum(1))
    num_values, num_sums = present.sum((0, 1)), sum_present.sum(0)
    mean_value, mean_sum = log_value.sum((0, 1)) / num_values, log_sum.sum(0) / num_sums
    # Each group's departure from the means is weighted so that zeros, which are left out, keep the mean unbiased.
    departure = torch.where(sum_present, log_sum - mean_sum, 0.0) / num_sums
    departure = departure - torch.where(present, log_value - mean_value, 0.0).sum(1) / num_values
    return (mean_sum - mean_value + len(values) * departure) / math.log(size), num_sums


def _logs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the norms of vectors along the last dimension, 0 where the norm is, and where it is not."""
    norm = values[..., 0].abs() if values.shape[-1] == 1 else torch.linalg.vector_norm(values, dim=-1)
    present = norm != 0
    return torch.where(present, norm, 1.0).log(), present


def screen(x: Tensor, num_values: Tensor, num_sums: Tensor, shape: torch.Size) -> Usable:
    """Finds which series of vectors, shape [n, series, d], give an estimate, of the shape given."""
    finite, varies = x.isfinite().all(-1).all(0), (x != x[0]).any(-1).any(0)
    reasons = {
        f"fewer than {FEWEST_VALUES} usable values": num_values < FEWEST_VALUES,
        "fewer than 2 groups": num_sums < 2,
    }
    mask, note = screened(finite, varies, reasons)
    zero_share = torch.where(finite, (x == 0).all(-1).to(x.dtype).mean(0), torch.nan)
    return Usable(mask, torch.where(finite, num_values, 0), zero_share, note, shape)


@dataclass(frozen=True)
class Inverse:
    """1/alpha of each series and, last, of their mean, with its variance over draws.

    Attributes:
        mean: 1/alpha, shape [series + 1].
        variance: Variance of that, same shape.
        degrees: Degrees of freedom of the variance.
    """

    mean: Tensor
    variance: Tensor
    degrees: int

    def student(self) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate and 95 % interval of alpha; NaN where 1/alpha is not positive."""
        mean, half = self.mean, float(t_law.ppf(0.975, self.degrees)) * self.variance.sqrt()
        alpha = torch.where(mean > 0, 1 / mean, torch.nan)
        high = torch.where(mean > half, 1 / (mean - half), torch.inf)
        return alpha, 1 / torch.where(mean > 0, mean + half, torch.nan), torch.where(mean > 0, high, torch.nan)

    def effective_series(self) -> Tensor:
        """How many independent series would vary as little on average as the given ones do, at most their number."""
        series = len(self.variance) - 1
        return (self.variance[:-1].mean() / self.variance[-1]).clamp(max=float(series))


def from_consecutive(x: Tensor, size: int) -> Inverse:
    """1/alpha of each series, and of their mean last, from the groups of consecutive draws, which are independent."""
    inverse = _with_mean(summarize(x, size)[0])
    return Inverse(inverse.mean(0), _variance(inverse) / len(inverse), len(inverse) - 1)


def from_permutations(x: Tensor, size: int, orders: list[Tensor]) -> Inverse:
    """1/alpha of each series, and of their mean last, from the groups in several orders of the draws.

    With all orders, 1/alpha would be a U-statistic of a kernel of ``size`` draws, with variance size^2 zeta / n where
    zeta is the covariance of groups that share one draw (Hoeffding 1948): that of the contributions of the groups
    that hold a draw in two orders. Of the variance of one order, P of them leave one P-th of what is above that.
    """
    count, mean = len(orders), x.new_zeros(())
    total, squares = x.new_zeros(len(x), x.shape[1] + 1), x.new_zeros(x.shape[1] + 1)
    for order in orders:
        inverse = _with_mean(summarize(x[order], size)[0])
        departure = (inverse - inverse.mean(0)).repeat_interleave(size, 0)
        mean = mean + inverse.mean(0) / count
        total[order[: len(departure)]] += departure
        squares += departure.square().sum(0)
    used = len(x) // size * size
    alone = size * squares / (count * used * max(used - size, 1))
    shared = size**2 * (total.square().sum(0) - squares).clamp(min=0) / (max(count * (count - 1), 1) * used**2)
    return Inverse(mean, (1 - 1 / count) * shared + alone / count, used // size - 1)


def _with_mean(inverse: Tensor) -> Tensor:
    return torch.cat([inverse, inverse.mean(1, keepdim=True)], dim=1)


def _variance(inverse: Tensor) -> Tensor:
    """Variance along dim 0, of no groups too, where torch's own warns."""
    return (inverse - inverse.mean(0)).square().sum(0) / max(len(inverse) - 1, 1)


def median(values: Tensor) -> Tensor:
    """Median along dim 0, NaN counting as the largest; the mean of both middle ones where their number is even."""
    ordered = values.sort(0).values
    middle = (len(values) - 1) // 2
    return (ordered[middle] + ordered[len(values) // 2]) / 2
