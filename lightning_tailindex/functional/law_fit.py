"""Which law fits a sample: Gaussian, stable, Student's t or Laplace's, on the cells of grouped maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_tailindex.records import LawFit, TailIndexEstimate

from ._calibration import gaussian_p_value, surrogate_p_values
from ._checks import checked_count, checked_sample
from ._counts import PER_OCTAVE, count_values
from ._each import fit_each
from ._estimates import left_out
from ._laws import expected_counts, marginals, profiles
from ._pooled import Pooled
from ._scan import cumulative_sum
from ._search import Groups
from ._series import each_class, sums_of_groups
from .grouped_mle import counted_groups, pooled_estimates

__all__ = ["LAWS", "law_fit", "law_fits"]

LAWS = ("gaussian", "stable", "student_t", "laplace")
_SHAPE_PARAMETERS = (0, 1, 1, 0)


def law_fit(
    x: Tensor, *, pooled: bool = False, num_surrogates: int = 99, generator: torch.Generator | None = None
) -> LawFit:
    r"""Compares the Gaussian, the symmetric stable, Student's t and Laplace's law, and tests the first.

    .. math::
        g_k = \frac{1}{N} \Bigl( \max_\theta \log L_k(\theta) - \max_\theta \log L_{\text{Gauss}}(\theta) \Bigr),
        \qquad \text{best} = \arg\max_k \Bigl( N' g_k - \frac{p_k}{2} \log N' \Bigr)

    All likelihoods are those of counts in the cells of :func:`grouped_mle`, each law symmetric about the median draw,
    its scale free (integrated out where pooled); :math:`p_k` is 1 for the laws that have a shape. :math:`N'` is the
    number N of values, over the dispersion of the pooled score where series are pooled: Schwarz's criterion, for the
    number of values that would tell as much if they were independent.

    The p-value is that of the likelihood ratio of the stable law against the Gaussian. Since 2 is the end of the
    range of alpha, the ratio has no chi-square law: 5 % of Gaussian series of 1000 exceed 0.8, not 2.71. A series
    is compared with simulated Gaussian ones. Pooled series, up to 64 of them evenly spaced, are compared with
    Gaussian surrogates of the same covariance, whose coordinates depend on each other as those of ``x`` do, by the
    likelihood at 1.89 or 1.97, whichever is larger, over that at 2: heavier tails raise both, so no maximum has to
    be looked for. Exact zeros that lie scattered weaken the covariances that the surrogates are drawn from: in
    Gaussian samples of rank 2 of which half the values are zeros, 9 to 12 % of p-values were below 5 %.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are independent series.
        pooled: Whether one law is sought for all series, the scale of each left free.
        num_surrogates: Gaussian surrogates behind a pooled p-value, at least 1; it is a multiple of
            1 / (``num_surrogates`` + 1).
        generator: Source of the surrogates' randomness on the device of ``x``; None takes torch's default one.

    Returns:
        The fit, its fields of shape ``[...]``, or ``[]`` where pooled.

    Raises:
        TypeError: If ``x`` is no dense tensor of real floating point.
        ValueError: If ``x`` has no dimension or no draws, or ``num_surrogates`` is below 1.

    References:
        Schwarz, Estimating the Dimension of a Model, Annals of Statistics 6, 1978, for the criterion.
        Davison, Hinkley, Bootstrap Methods and their Application, 1997, chapter 4, for p-values from surrogates.

    Example:
        >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
        >>> law_fit(x).name
        'gaussian'
        >>> law_fit(x.exp() - (-x).exp()).p_value < 0.001
        tensor(True)
    """
    checked_count("law_fit", 1, num_surrogates=num_surrogates)
    x = checked_sample("law_fit", x)
    if pooled:
        pooled_fit = Pooled(groups := counted_groups([x]))
        estimates, expected = pooled_estimates(pooled_fit), pooled_fit.expected_counts()
        return law_fits(groups, estimates, expected, num_surrogates=num_surrogates, generator=generator)[0]
    cells = count_values(x.reshape(len(x), -1), "median", PER_OCTAVE)
    fit = fit_each(cells, PER_OCTAVE)
    classes = each_class(cells, PER_OCTAVE)
    others = profiles(cells, classes)
    ratio = 2 * fit.gain * cells.num_values
    expected = expected_counts(cells, classes, fit.alpha)
    return _record(
        _gains(fit.log_likelihood, fit.gain, others, cells.num_values),
        cells.num_values.double(),
        gaussian_p_value(ratio, cells.num_values),
        _distance(cells.counts, expected),
        x.dtype,
        x.shape[1:],
        left_out(cells, [len(cells.usable)])[0],
    )


def law_fits(
    groups: Groups,
    estimates: Sequence[TailIndexEstimate],
    expected: Tensor,
    *,
    num_surrogates: int,
    generator: torch.Generator | None,
) -> list[LawFit]:
    """Compares the laws on each of several groups of series, from counts and estimates that are at hand.

    Args:
        groups: What :func:`.grouped_mle.counted_groups` made of the samples.
        estimates: The pooled estimate of each group.
        expected: Counts that these lead to expect, ``[groups, cells]``.
        num_surrogates: As in :func:`law_fit`.
        generator: As in :func:`law_fit`; the groups take from it together.

    Returns:
        What ``law_fit(sample, pooled=True)`` returns for each sample.
    """
    cells, found, sizes = groups.cells, groups.search, groups.sizes
    value, gain, effective = (
        torch.stack([getattr(estimate, name) for estimate in estimates])
        for name in ("log_likelihood", "gain", "effective_series")
    )
    others = marginals(cells, found.classes, len(sizes))
    p_values = surrogate_p_values(groups, num_surrogates, generator)
    counts = torch.where(cells.usable[:, None], cells.counts, 0)
    counts = sums_of_groups(counts.T, torch.tensor(sizes, device=counts.device)).T
    together = _record(
        _gains(value, gain, others, found.num_values),
        found.num_values * effective / found.num_series,
        p_values,
        _distance(counts, expected),
        groups.x.dtype,
        torch.Size([len(sizes)]),
        "",
    )
    fields = zip(
        together.gains.T, together.best, together.p_value, together.kolmogorov_distance, estimates, strict=True
    )
    return [LawFit(LAWS, gains, best, p, distance, estimate.note) for gains, best, p, distance, estimate in fields]


def _gains(stable: Tensor, gain: Tensor, others: Tensor, num_values: Tensor) -> Tensor:
    """Mean log-likelihood of a value above that under the best Gaussian, for each law, shape [laws, ...]."""
    beside = (others - (stable - gain * num_values)) / num_values
    return torch.cat([torch.stack([0 * gain, gain]), beside])


def _record(
    gains: Tensor,
    effective: Tensor,
    p_value: Tensor,
    distance: Tensor,
    dtype: torch.dtype,
    shape: torch.Size,
    note: str,
) -> LawFit:
    """The record, with the best law by Schwarz's criterion, -1 where there is none."""
    penalty = gains.new_tensor(_SHAPE_PARAMETERS).reshape(-1, *[1] * (gains.ndim - 1)) * effective.log() / 2
    criterion = gains * effective - penalty
    best = torch.where(gains.isnan().any(0), -1, criterion.nan_to_num(-math.inf).argmax(0))
    return LawFit(
        laws=LAWS,
        gains=gains.to(dtype).reshape(len(LAWS), *shape),
        best=best.reshape(shape),
        p_value=p_value.to(dtype).reshape(shape),
        kolmogorov_distance=distance.to(dtype).reshape(shape),
        note=note,
    )


def _distance(counts: Tensor, expected: Tensor) -> Tensor:
    """Largest distance of the distribution functions of |x| at the limits of the cells, from [..., cells]."""
    total = counts.sum(-1)
    difference = cumulative_sum((counts.double() - expected).movedim(-1, 0)).abs().amax(0) / total
    return torch.where(expected.isnan().any(-1) | (total == 0), torch.nan, difference)
