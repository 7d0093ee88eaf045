"""Maximum likelihood of the symmetric alpha-stable law from pairs of draws that are seen once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._curves import CHI_SQUARE, interval, maximize
from ._pairs import PairStream, sharing
from ._tables import HIGHEST_MIDDLE, STENCIL, alpha_at

__all__ = ["PairStream", "SequentialFit", "sequential_fit", "sequential_of"]


@dataclass(frozen=True)
class SequentialFit:
    """One tail index for all coordinates of a stream, its fields scalars, NaN where there was no contrast.

    Attributes:
        alpha: Tail index.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        effective: Effective number of independent coordinates behind them.
        gain: Mean log-likelihood of a contrast above that under the Gaussian, in nats.
    """

    alpha: Tensor
    low: Tensor
    high: Tensor
    effective: Tensor
    gain: Tensor


def sequential_fit(curves: Tensor, num_contrasts: Tensor, num_series: Tensor, effective: Tensor) -> SequentialFit:
    r"""Estimates a tail index from the contrasts of pairs of draws.

    .. math::
        Y_{ij} = \log|X_{2i-1,j} - X_{2i,j}| - \frac{1}{i - 1} \sum_{l<i} \log|X_{2l-1,j} - X_{2l,j}|, \qquad
        \hat\alpha = \arg\max_\alpha \sum_{i>1} \sum_j \log P_\alpha(Y_{ij} \in c_{ij})

    The difference of two draws has no location, the contrast of its logarithm with the mean of the earlier ones no
    scale, so its law depends on alpha and on the number of earlier ones alone. Its characteristic function is
    :math:`\phi(u) \, \phi(-u / k)^k` with

    .. math::
        \phi(u) = \operatorname{E} |X|^{iu} = \frac{2^{iu}}{\sqrt\pi} \,
        \frac{\Gamma(\tfrac{1 + iu}{2}) \, \Gamma(1 - iu / \alpha)}{\Gamma(1 - iu / 2)}

    so that the probabilities of cells of a quarter in the logarithm are exact. Since draws are halved into pairs, the
    standard error is the root of 2 times that of ``grouped_mle``, which has to keep all draws.

    Contrasts of one pair depend on each other as the coordinates do, so the likelihood ratio is divided by its
    dispersion: the variance of the pairs' scores over the curvature, and no less than what an effective number of
    independent coordinates, known from elsewhere, says. Contrasts of one coordinate depend on each other by the mean
    of the earlier ones, for the likelihood takes each by itself: that widens the interval by up to 1.4 at small alpha.

    Args:
        curves: Log-likelihoods of each pair's contrasts, ``[pairs, nodes]``.
        num_contrasts: Contrasts behind each of them, ``[pairs]``.
        num_series: Coordinates that took part, a scalar.
        effective: Effective number of independent coordinates, as a sample of them has it, a scalar; NaN if unknown.

    Returns:
        The fit.

    References:
        Zolotarev, One-Dimensional Stable Distributions, 1986, section 2.6, for the moments. Gil-Pelaez, Note on the
        Inversion Theorem, Biometrika 38, 1951. Varin, Reid, Firth, An Overview of Composite Likelihood Methods,
        Statistica Sinica 21, 2011, for likelihoods that take dependent values one by one.
    """
    total, told = curves.sum(0), num_contrasts.sum()
    node, top = (found[0] for found in maximize(total[:, None], at_two=True))
    spread = torch.fmax(_dispersion(curves[num_contrasts > 0], node), num_series / effective).clamp(min=1.0)
    ends = interval(total[:, None], node[None], top[None], CHI_SQUARE * spread * sharing(node))
    fields = (alpha_at(node), *(alpha_at(end[0]) for end in ends), num_series / spread, (top - total[-1]) / told)
    return SequentialFit(*(torch.where(told > 0, field, math.nan) for field in fields))


def _dispersion(curves: Tensor, node: Tensor) -> Tensor:
    """Variance of the sum of the pairs' scores over the curvature of the log-likelihood; NaN of fewer than two."""
    if len(curves) < 2:
        return node * math.nan
    places = torch.tensor([-STENCIL, 0, STENCIL], device=node.device)
    before, here, after = curves[:, node.round().long().clamp(STENCIL, HIGHEST_MIDDLE) + places].T
    score, curvature = (after - before) / 2, -(before - 2 * here + after).sum()
    return torch.where(curvature > 0, len(curves) * score.var() / curvature, math.nan)


def sequential_of(x: Tensor) -> SequentialFit:
    """Estimates the tail index of draws ``[n, d]`` that are at hand, all coordinates together, as of a stream."""
    stream = PairStream(x.shape[1], torch.promote_types(x.dtype, torch.float32), x.device)
    for first, second in zip(x[::2], x[1::2], strict=False):
        stream.add(first, second)
    return sequential_fit(*stream.likelihood(), (stream.count > 1).sum(), x.new_tensor(math.nan))
