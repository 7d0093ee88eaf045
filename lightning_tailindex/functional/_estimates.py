"""From fits to cells, with what is known of the cells, to records."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate
from lightning_tailindex.records.notes import joined

from ._checks import FEWEST_VALUES, left_out_notes
from ._counts import Cells
from ._each import Fit
from ._series import sums_of_groups
from ._tables import LOWEST_ALPHA
from ._values import AT_LOWER_END


def estimate_groups(fit: Fit, cells: Cells, sizes: Sequence[int]) -> list[TailIndexEstimate]:
    """The records of the pooled fits of several groups of series, which lie one after the other."""
    dtype, lengths = cells.unit.dtype, torch.tensor(sizes, device=cells.unit.device)
    numbers = torch.stack([cells.usable, cells.num_values * cells.usable, cells.zero_share]).double()
    usable, num_values, zeros = sums_of_groups(torch.where(cells.usable, numbers, 0), lengths)
    fields = torch.stack(
        [fit.alpha, fit.low, fit.high, fit.log_likelihood, fit.gain, fit.effective_series, zeros / usable]
    )
    alpha, low, high, value, gain, effective, zero_share = fields.to(dtype)
    scale = torch.split(_scale(fit.log_ratio, cells), list(sizes))
    rows = zip(
        alpha,
        low,
        high,
        scale,
        value,
        gain,
        num_values.long(),
        zero_share,
        effective,
        _notes(_at_end(fit.alpha), cells, sizes),
        strict=True,
    )
    return [TailIndexEstimate(*row) for row in rows]


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
        note=_notes(_at_end(fit.alpha).any()[None], cells, [len(fit.alpha)])[0],
    )


def _scale(log_ratio: Tensor, cells: Cells) -> Tensor:
    return log_ratio.to(cells.unit.dtype).exp() * cells.unit


def _at_end(alpha: Tensor) -> Tensor:
    return alpha <= LOWEST_ALPHA * (1 + 1e-6)


def _notes(is_at_end: Tensor, cells: Cells, sizes: Sequence[int]) -> list[str]:
    """What a reader has to know of each group, in words, given which have a tail index at the end of the range."""
    rows = zip(left_out(cells, sizes), is_at_end.tolist(), strict=True)
    return [joined(note, AT_LOWER_END if at_end else "") for note, at_end in rows]


def left_out(cells: Cells, sizes: Sequence[int]) -> list[str]:
    """Says which series of each group were left out, in words."""
    few = cells.num_values < FEWEST_VALUES
    reasons = {
        "sizes that are not told apart": ~cells.in_reach,
        f"fewer than {FEWEST_VALUES} usable values": few,
    }
    return left_out_notes(cells.finite, cells.varies, reasons, sizes)
