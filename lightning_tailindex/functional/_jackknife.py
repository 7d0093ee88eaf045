"""One tail index for many series that share their draws: a mean of statistics, and its interval over draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import t as t_law
from torch import Tensor

_BLOCKS = 16
UNDEFINED = "no usable series is left without each of the blocks of draws"


def pool(
    x: Tensor,
    statistic: Callable[[Tensor], Tensor],
    to_alpha: Callable[[Tensor], Tensor],
    *,
    unbiased: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pools usable series into one tail index.

    Coordinates share their minibatches, so it is draws that are left out, in blocks of consecutive ones, and not
    series. The interval is Student's on the axis of the statistic and mapped by ``to_alpha`` from there. A series
    whose statistic is not finite, or ceases to be where a block is left out, does not take part.

    Args:
        x: Draws along dim 0, shape ``[n, series]``.
        statistic: Maps draws ``[m, series]`` to one value a series, shape ``[series]``.
        to_alpha: Maps the mean of the statistic over series, shape ``[]``, to the tail index, up or down throughout.
        unbiased: Whether the bias of the statistic that falls like 1/n is taken out, as the jackknife estimates it;
            worth it for smooth statistics, whose variance does not grow by that.

    Returns:
        Tail index, both ends of its 95 % interval, and the effective number of independent series, each of shape
        ``[]``; NaN where no series takes part, all but the tail index NaN where there is no more than one draw.
    """
    if x.shape[1] == 0:
        return (x.new_tensor(math.nan),) * 4
    whole, without = statistic(x), _leave_out(x, statistic)
    taking_part = torch.cat([whole[None], without]).isfinite().all(0)
    mean, rest = whole[taking_part].mean(), without[:, taking_part].mean()
    if unbiased:
        mean = mean + (len(without) - 1) * (mean - rest)
    variance = _jackknife_variance(without[:, taking_part].mean(1))
    half = _student(len(without)) * variance.sqrt()
    alpha, *ends = (to_alpha(value) for value in (mean, mean - half, mean + half))
    effective = _jackknife_variance(without[:, taking_part]).mean() / variance
    return alpha, torch.minimum(*ends), torch.maximum(*ends), effective.clamp(max=float(taking_part.sum()))


def _leave_out(x: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """The statistic without each block of consecutive draws, shape [blocks, series]; no blocks of a single draw."""
    blocks = torch.arange(len(x), device=x.device).tensor_split(min(_BLOCKS, len(x)))
    if len(blocks) < 2:
        return x.new_empty(0, x.shape[1])
    return torch.stack([statistic(torch.cat([x[: block[0]], x[block[-1] + 1 :]])) for block in blocks])


def _jackknife_variance(without: Tensor) -> Tensor:
    """Variance of a statistic, from its values without each block along dim 0; NaN of fewer than two blocks."""
    blocks = len(without)
    scaled = (without - without.mean(0)).square().sum(0)
    return scaled * ((blocks - 1) / blocks) if blocks > 1 else torch.full_like(scaled, torch.nan)


def _student(blocks: int) -> float:
    """Two-sided 95 % point of Student's t for a variance from so many blocks."""
    return float(t_law.ppf(0.975, blocks - 1)) if blocks > 1 else math.nan
