"""Maximum likelihood of the symmetric alpha-stable law on counts in logarithmic cells."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import FEWEST_VALUES, checked_sample, left_out_note
from ._counts import Cells, count_values
from ._pooled import fit_pooled
from ._profile import Fit, fit_each
from ._tables import LOWEST_ALPHA

__all__ = ["grouped_mle"]


def grouped_mle(x: Tensor, *, pooled: bool = False, center: Literal["median", "none"] = "median") -> TailIndexEstimate:
    r"""Estimates the index of a symmetric alpha-stable law by maximum likelihood on counts in logarithmic cells.

    .. math::
        \hat\alpha = \arg\max_\alpha \max_\sigma \sum_c n_c \log P_{\alpha, \sigma}(|X| \in c), \qquad
        \hat\alpha_\mathrm{pooled} = \arg\max_\alpha \sum_j \log
        \int \prod_c P_{\alpha, \sigma}(|X| \in c)^{n_{jc}} \, d\log\sigma

    The cells are four an octave from 1/8 to 4096 times the median of the non-zero \|x\| of a series, and two open
    ones; their probabilities are exact. At most 2 % of the precision of full maximum likelihood is lost. The
    search covers [0.2, 2], 2 included exactly.

    Pooled, one alpha is common to all series while the scale of each is integrated out. Coordinates that share
    their draws repeat each other's evidence, so the log-likelihood ratio of the pooled interval is divided by the
    dispersion of the score over draws; ``effective_series`` is the number of usable series over it. In simulations
    with 64 draws of independent series, or of series mixed from 3 or 20 heavy-tailed sources, the interval covers
    the truth in 0.91 to 1.00 of cases, but in 0.7 to 0.9 where few sources have an index of 1.8 to 1.9: samples
    without an outlier then look Gaussian, and nothing in them tells otherwise.

    The tables of cell probabilities are computed from the formulas at first use, in less than a second, and kept:
    a stored file could go stale, a formula cannot.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are independent series. Half
            precision is computed in float32.
        pooled: Whether all series share one tail index, the scale of each left free.
        center: ``"median"`` subtracts the lower median of the non-zero draws of each series and leaves out the exact
            zero that this makes; ``"none"`` takes the values as they are, for noise whose centre is known to be 0.

    Returns:
        The estimate, of shape ``[...]``, or ``[]`` where pooled. A series with NaN, infinity or fewer than 8 usable
        values gives NaN; pooling leaves it out. Exact zeros are left out and counted in ``zero_share``.

    Raises:
        TypeError: If ``x`` is not real floating point.
        ValueError: If ``x`` has no dimension or no draws, or ``center`` is unknown.

    References:
        DuMouchel, On the Asymptotic Normality of the Maximum-Likelihood Estimate when Sampling from a Stable
        Distribution, Annals of Statistics 1, 1973, for the likelihood and for grouping it. McCullagh, Nelder,
        Generalized Linear Models, 2nd edition 1989, chapter 9, for dividing it by a dispersion.

    Example:
        >>> x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        >>> grouped_mle(x).alpha
        tensor([2., 2.])
    """
    if center not in ("median", "none"):
        raise ValueError(f'grouped_mle needs center "median" or "none", got {center!r}.')
    x = checked_sample("grouped_mle", x)
    cells = count_values(x.flatten(1) if x.ndim > 1 else x[:, None], center)
    fit = fit_pooled(cells) if pooled else fit_each(cells)
    return _estimate(fit, cells, x, pooled)


def _estimate(fit: Fit, cells: Cells, x: Tensor, pooled: bool) -> TailIndexEstimate:
    """The record of a fit of the usable series, NaN where there is no fit."""
    usable, shape = cells.usable, x.shape[1:]

    def spread(value: Tensor) -> Tensor:
        out = torch.full(usable.shape, torch.nan, dtype=x.dtype, device=x.device)
        out[usable] = value.to(x)
        return out.reshape(shape)

    def place(value: Tensor) -> Tensor:
        return value.to(x).reshape(()) if pooled else spread(value)

    num_values, zero_share = cells.num_values, cells.zero_share
    if pooled:
        num_values, zero_share = num_values[usable].sum(), zero_share[usable].mean()
    return TailIndexEstimate(
        alpha=place(fit.alpha),
        low=place(fit.low),
        high=place(fit.high),
        scale=spread(fit.log_ratio.to(x).exp() * cells.unit[usable]),
        log_likelihood=place(fit.log_likelihood),
        gain=place(fit.gain),
        num_values=num_values.reshape(() if pooled else shape),
        zero_share=zero_share.reshape(() if pooled else shape),
        effective_series=fit.effective_series.to(x).reshape(())
        if pooled
        else torch.full_like(zero_share, torch.nan).reshape(shape),
        note=_note(fit, cells),
    )


def _note(fit: Fit, cells: Cells) -> str:
    """What a reader has to know, in words."""
    few = cells.num_values < FEWEST_VALUES
    note = left_out_note(cells.finite, cells.varies, {f"fewer than {FEWEST_VALUES} usable values": few})
    at_end = f"α at the lower end of the grid, {LOWEST_ALPHA}" if bool((fit.alpha <= LOWEST_ALPHA).any()) else ""
    return "; ".join(filter(None, [note, at_end]))
