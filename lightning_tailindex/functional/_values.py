"""What estimators that look at single values share: which values count, their quantiles, and the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate
from lightning_tailindex.records.notes import joined

from ._checks import FEWEST_VALUES, screened
from ._jackknife import UNDEFINED
from ._tables import LOWEST_ALPHA

NORMAL = 1.959963984540054  # two-sided 95 % point
AT_LOWER_END = f"α at the lower end of its range, {LOWEST_ALPHA}"


@dataclass(frozen=True)
class Usable:
    """What is known of the series of a sample before any estimate.

    Attributes:
        mask: Whether a series can be estimated, shape [series].
        num_values: Values that count, shape [series].
        zero_share: Share of exact zeros, shape [series]; NaN where a value is not finite.
        note: What was left out.
        shape: Shape of the estimates.
    """

    mask: Tensor
    num_values: Tensor
    zero_share: Tensor
    note: str
    shape: torch.Size


def as_series(x: Tensor) -> Tensor:
    """The sample, shape [n, ...], as [n, series]."""
    return x.flatten(1) if x.ndim > 1 else x[:, None]


def examine(x: Tensor, present: Tensor, more: dict[str, Tensor] | None = None, dropped: int = 0) -> Usable:
    """Finds which series are usable, from the sample, the mask [n, series] of values that count, and more reasons.

    A value that was ``dropped`` because it became the centre is not a zero of the data.
    """
    series, num_values = as_series(x), present.sum(0)
    finite, varies = series.isfinite().all(0), (series != series[0]).any(0)
    reasons = {f"fewer than {FEWEST_VALUES} usable values": num_values < FEWEST_VALUES, **(more or {})}
    mask, note = screened(finite, varies, reasons)
    possible = max(len(x) - dropped, 1)
    zero_share = (possible - num_values).clamp(min=0).to(x.dtype) / possible
    return Usable(
        mask=mask,
        num_values=torch.where(finite, num_values, 0),
        zero_share=torch.where(finite, zero_share, torch.nan),
        note=note,
        shape=x.shape[1:],
    )


def quantiles(
    x: Tensor, present: Tensor, *probabilities: float, of: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """Sample quantiles of the values that count, shape [probabilities, series].

    The i-th smallest of n values stands at the probability (i - 1/2) / n, with straight lines between, which are
    drawn through a function ``of`` the values.
    """
    ordered = torch.where(present, x, torch.inf).T.contiguous().sort(1).values
    count = present.sum(0)[:, None]
    place = torch.tensor(probabilities, dtype=x.dtype, device=x.device) * count - 0.5
    place = place.clamp(min=0).minimum((count - 1).clamp(min=0).to(x.dtype))
    below = place.floor()
    low, high = (of(ordered.gather(1, index.long())) / 2 for index in (below, place.ceil()))  # may lie far apart
    return 2 * (low + (place - below) * (high - low)).T


def record_each(
    usable: Usable, alpha: Tensor, low: Tensor, high: Tensor, scale: Tensor, more: str
) -> TailIndexEstimate:
    """The record of one estimate per series, each of shape [series], NaN where the series is not usable."""
    alpha, low, high, scale = (
        torch.where(usable.mask, value, torch.nan).reshape(usable.shape) for value in (alpha, low, high, scale)
    )
    nan = torch.full_like(alpha, torch.nan)
    return TailIndexEstimate(
        alpha=alpha,
        low=low,
        high=high,
        scale=scale,
        log_likelihood=nan,
        gain=nan,
        num_values=usable.num_values.reshape(usable.shape),
        zero_share=usable.zero_share.reshape(usable.shape),
        effective_series=nan,
        note=joined(usable.note, more),
    )


def record_pooled(
    usable: Usable, pooled: tuple[Tensor, Tensor, Tensor, Tensor], scale: Tensor, more: str
) -> TailIndexEstimate:
    """The record of one estimate for all series: alpha, low, high, effective series; scale has shape [series]."""
    alpha, low, high, effective = pooled
    nan = torch.full_like(alpha, torch.nan)
    if bool(alpha.isnan()) and bool(usable.mask.any()) and not more:
        more = UNDEFINED
    return TailIndexEstimate(
        alpha=alpha,
        low=low,
        high=high,
        scale=torch.where(usable.mask, scale, torch.nan).reshape(usable.shape),
        log_likelihood=nan,
        gain=nan,
        num_values=usable.num_values[usable.mask].sum(),
        zero_share=usable.zero_share[usable.mask].mean(),
        effective_series=effective,
        note=joined(usable.note, more),
    )


def record_nothing(like: Tensor, pooled: bool, note: str) -> TailIndexEstimate:
    """The record of series, of the shape, the precision and the device of ``like``, of which nothing is known."""
    each = torch.full_like(like, torch.nan)
    one = like.new_tensor(torch.nan) if pooled else each
    return TailIndexEstimate(one, one, one, each, one, one, torch.zeros_like(one, dtype=torch.long), one, one, note)


def at_lower_end(alpha: Tensor) -> str:
    """Says that a tail index stopped at the smallest one that is looked for, where one did."""
    return AT_LOWER_END if bool((alpha <= LOWEST_ALPHA).any()) else ""


def interpolate(at: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Straight lines through values [nodes, ...] over ascending nodes, constant beyond, NaN at NaN."""
    nodes, values = nodes.to(at), values.to(at)
    right = torch.searchsorted(nodes, at.contiguous()).clamp(1, len(nodes) - 1)
    share = ((at - nodes[right - 1]) / (nodes[right] - nodes[right - 1])).clamp(0, 1)
    share = share.reshape(share.shape + (1,) * (values.ndim - 1))
    return values[right - 1] + share * (values[right] - values[right - 1])
