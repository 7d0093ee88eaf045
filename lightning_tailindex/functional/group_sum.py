"""The estimator of the published studies: how the logarithm grows when values are summed in groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import t as t_law
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import FEWEST_VALUES, checked_sample, left_out_note

__all__ = ["group_sum"]

_EULER_GAMMA = 0.5772156649015329


def group_sum(x: Tensor, *, group_size: int | None = None, pooled: bool = False) -> TailIndexEstimate:
    r"""Estimates the index of a symmetric alpha-stable law from the growth of sums of groups.

    .. math::
        \frac{1}{\hat\alpha} = \frac{1}{\log K_1} \Bigl( \frac{1}{K_2} \sum_{i=1}^{K_2} \log |Y_i|
        - \frac{1}{K_1 K_2} \sum_{k=1}^{K_1 K_2} \log |X_k| \Bigr), \qquad
        Y_i = \sum_{k=1}^{K_1} X_{(i-1) K_1 + k}

    The draws must be independent, of one law and centred at 0; nothing is subtracted. The estimate may exceed 2
    and is reported as it is. Exact zeros are left out of the means of logarithms and counted. The interval is
    Student's on 1/alpha, from the groups, which are independent; pooled, series are averaged within groups first,
    because they share draws.

    The published studies flatten the noise draw by draw: ``group_sum(noise.flatten())``. Groups then hold
    neighbouring coordinates of one minibatch, which are neither independent nor of one scale, and exactly Gaussian
    noise reads far below 2: 1.47 where coordinates of a group of 1000 correlate by 0.01, 1.57 where their scales are
    lognormal with log standard deviation 1.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are independent series. Half
            precision is computed in float32.
        group_size: Number K1 of consecutive draws in a sum, at least 2. None takes the largest divisor of n up to
            sqrt(n), or, where that is 1, sqrt(n) rounded down; draws beyond the last full group are not used.
        pooled: Whether 1/alpha is averaged over the series into one estimate.

    Returns:
        The estimate, of shape ``[...]``, or ``[]`` where pooled. NaN, with a note, for series with NaN or infinity,
        constant ones, fewer than 8 usable values, fewer than 2 groups, or 1/alpha not positive.

    Raises:
        TypeError: If ``x`` is not real floating point.
        ValueError: If ``x`` has no dimension or no draws, or ``group_size`` is below 2.

    References:
        Mohammadi, Mohammadpour, Ogata, On Estimating the Tail Index and the Spectral Measure of Multivariate
        alpha-Stable Distributions, Metrika 78, 2015, Corollary 2.4. Simsekli, Sagun, Gurbuzbalaban, A Tail-Index
        Analysis of Stochastic Gradient Noise in Deep Neural Networks, ICML 2019, for its use on gradient noise.

    Example:
        >>> x = torch.randn(10000, generator=torch.Generator().manual_seed(0))
        >>> estimate = group_sum(x)
        >>> bool(estimate.low < 2 < estimate.high)
        True
    """
    if group_size is not None and group_size < 2:
        raise ValueError(f"group_sum needs group_size >= 2, got group_size={group_size}.")
    x = checked_sample("group_sum", x)
    size = _group_size(len(x)) if group_size is None else group_size
    groups = _summarize(x.flatten(1) if x.ndim > 1 else x[:, None], size)
    return (_estimate_pooled if pooled else _estimate_each)(groups, x.shape[1:])


def _group_size(n: int) -> int:
    """The largest divisor of n up to its square root, or that root itself where n has no divisor."""
    root = math.isqrt(n)
    divisor = next((k for k in range(root, 1, -1) if n % k == 0), root)
    return max(divisor, 2)


@dataclass(frozen=True)
class _Groups:
    """What each series tells.

    Attributes:
        inverse: Contribution of each group, whose mean is 1/alpha, shape [groups, series].
        mean_log: Mean of log|x|, shape [series].
        num_values: Non-zero values in groups, shape [series].
        zero_share: Share of exact zeros, shape [series].
        usable: Whether the series gives an estimate, shape [series].
        note: What was left out.
    """

    inverse: Tensor
    mean_log: Tensor
    num_values: Tensor
    zero_share: Tensor
    usable: Tensor
    note: str


def _summarize(x: Tensor, size: int) -> _Groups:
    """Splits the series of x, shape [n, series], into groups."""
    values = x[: len(x) // size * size].reshape(len(x) // size, size, x.shape[1])
    log_value, present = _logs(values)
    log_sum, sum_present = _logs(values.sum(1))
    num_values, num_sums = present.sum((0, 1)), sum_present.sum(0)
    mean_value, mean_sum = log_value.sum((0, 1)) / num_values, log_sum.sum(0) / num_sums
    # Each group's departure from the means is weighted so that zeros, which are left out, keep the mean unbiased.
    departure = torch.where(sum_present, log_sum - mean_sum, 0.0) / num_sums
    departure = departure - torch.where(present, log_value - mean_value, 0.0).sum(1) / num_values
    inverse = (mean_sum - mean_value + len(values) * departure) / math.log(size)
    finite, varies = x.isfinite().all(0), (x != x[0]).any(0)
    reasons = {
        f"fewer than {FEWEST_VALUES} usable values": num_values < FEWEST_VALUES,
        "fewer than 2 groups": num_sums < 2,
    }
    usable = finite & varies & (num_values >= FEWEST_VALUES) & (num_sums >= 2)
    zero_share = torch.where(finite, (x == 0).to(x.dtype).mean(0), torch.nan)
    return _Groups(inverse, mean_value, num_values, zero_share, usable, left_out_note(finite, varies, reasons))


def _logs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of non-zero absolute values, 0 elsewhere, and where they are."""
    present = values != 0
    return torch.where(present, values.abs(), 1.0).log(), present


def _estimate_each(groups: _Groups, shape: torch.Size) -> TailIndexEstimate:
    """An estimate for every series."""
    alpha, low, high = _student(groups.inverse)
    usable = groups.usable & ~alpha.isnan()
    alpha, low, high = (torch.where(usable, value, torch.nan).reshape(shape) for value in (alpha, low, high))
    nan = torch.full_like(alpha, torch.nan)
    return TailIndexEstimate(
        alpha=alpha,
        low=low,
        high=high,
        scale=_scale(groups.mean_log.reshape(shape), alpha),
        log_likelihood=nan,
        gain=nan,
        num_values=groups.num_values.reshape(shape),
        zero_share=groups.zero_share.reshape(shape),
        effective_series=nan,
        note=_join(groups.note, groups.usable & ~usable, f" in {{}} of {len(usable)} series"),
    )


def _estimate_pooled(groups: _Groups, shape: torch.Size) -> TailIndexEstimate:
    """One estimate: the mean of 1/alpha over the series that give one."""
    inverse = groups.inverse[:, groups.usable]
    alpha, low, high = _student(inverse.mean(1))
    mean_log = torch.where(groups.usable, groups.mean_log, torch.nan).reshape(shape)
    nan = torch.full_like(alpha, torch.nan)
    return TailIndexEstimate(
        alpha=alpha,
        low=low,
        high=high,
        scale=_scale(mean_log, alpha),
        log_likelihood=nan,
        gain=nan,
        num_values=groups.num_values[groups.usable].sum(),
        zero_share=groups.zero_share[groups.usable].mean(),
        effective_series=_effective_series(inverse),
        note=_join(groups.note, alpha.isnan() & groups.usable.any()),
    )


def _student(inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate and 95 % interval of alpha from contributions to 1/alpha along dim 0; NaN where 1/alpha <= 0."""
    groups, mean = len(inverse), inverse.mean(0)
    if groups < 2:
        return (torch.full_like(mean, torch.nan),) * 3
    half = float(t_law.ppf(0.975, groups - 1)) * _variance(inverse).div(groups).sqrt()
    alpha = torch.where(mean > 0, 1 / mean, torch.nan)
    high = torch.where(mean > half, 1 / (mean - half), torch.inf)
    return alpha, 1 / torch.where(mean > 0, mean + half, torch.nan), torch.where(mean > 0, high, torch.nan)


def _variance(inverse: Tensor) -> Tensor:
    """Variance along dim 0 of at least 2 groups, of no series too, where torch's own warns."""
    return (inverse - inverse.mean(0)).square().sum(0) / (len(inverse) - 1)


def _scale(mean_log: Tensor, alpha: Tensor) -> Tensor:
    """Scale by E log|X| = log(scale) + gamma (1/alpha - 1)."""
    return torch.exp(mean_log - _EULER_GAMMA * (1 / alpha - 1))


def _effective_series(inverse: Tensor) -> Tensor:
    """How many independent series would vary as little on average as the given ones do, at most their number."""
    if len(inverse) < 2:
        return inverse.new_tensor(math.nan)
    return (_variance(inverse).mean() / _variance(inverse.mean(1))).clamp(max=float(inverse.shape[1]))


def _join(note: str, undefined: Tensor, where: str = "") -> str:
    """Adds to the note that 1/alpha was not positive, where it was not."""
    count = int(undefined.sum())
    return "; ".join(filter(None, [note, "1/α not positive" + where.format(count) if count else ""]))
