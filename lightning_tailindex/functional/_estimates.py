"""From fits to cells, with what is known of the cells, to records."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import FEWEST_VALUES, left_out_note
from ._counts import Cells
from ._each import Fit
from ._tables import LOWEST_ALPHA


def pooled_estimate(fit: Fit, group: int, cells: Cells, own: slice) -> TailIndexEstimate:
    """The record of one of several pooled fits, whose series are ``own`` among all, from their own cells."""
    usable, dtype = cells.usable, cells.unit.dtype
    alpha = fit.alpha[group]
    return TailIndexEstimate(
        alpha=alpha.to(dtype),
        low=fit.low[group].to(dtype),
        high=fit.high[group].to(dtype),
        scale=_scale(fit.log_ratio[own], cells),
        log_likelihood=fit.log_likelihood[group].to(dtype),
        gain=fit.gain[group].to(dtype),
        num_values=cells.num_values[usable].sum(),
        zero_share=cells.zero_share[usable].mean(),
        effective_series=fit.effective_series[group].to(dtype),
        note=_note(alpha, cells),
    )


def estimate_each(fit: Fit, cells: Cells, shape: torch.Size) -> TailIndexEstimate:
    """The record of a fit of each series."""
    dtype = cells.unit.dtype

    def each(value: Tensor) -> Tensor:
        return value.to(dtype).reshape(shape)

    return TailIndexEstimate(
        alpha=each(fit.alpha),
        low=each(fit.low),
        high=each(fit.high),
        scale=_scale(fit.log_ratio, cells).reshape(shape),
        log_likelihood=each(fit.log_likelihood),
        gain=each(fit.gain),
        num_values=cells.num_values.reshape(shape),
        zero_share=each(cells.zero_share),
        effective_series=each(fit.effective_series),
        note=_note(fit.alpha, cells),
    )


def _scale(log_ratio: Tensor, cells: Cells) -> Tensor:
    return log_ratio.to(cells.unit.dtype).exp() * cells.unit


def _note(alpha: Tensor, cells: Cells) -> str:
    """What a reader has to know, in words."""
    at_end = (
        f"α at the lower end of the grid, {LOWEST_ALPHA}" if bool((alpha <= LOWEST_ALPHA * (1 + 1e-6)).any()) else ""
    )
    return "; ".join(filter(None, [left_out(cells), at_end]))


def left_out(cells: Cells) -> str:
    """Says which series were left out, in words."""
    few = cells.num_values < FEWEST_VALUES
    return left_out_note(cells.finite, cells.varies, {f"fewer than {FEWEST_VALUES} usable values": few})
