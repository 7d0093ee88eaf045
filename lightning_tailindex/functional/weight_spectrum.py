"""The eigenvalues of a weight matrix, and the power law of their density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from lightning_tailindex.records import Histogram, SpectrumMeasurement

from ._checks import FEWEST_VALUES
from .power_law import power_law

__all__ = ["Convolutions", "weight_spectrum"]

Convolutions = Literal["flattened", "slices"]
"""Which matrix a kernel of a convolution is."""

NOT_DECOMPOSED, NOT_FINITE = "not decomposed", "NaN or infinite weights"
"""What the notes begin with of matrices that have no spectrum."""

FEWEST_EIGENVALUES = FEWEST_VALUES
"""With fewer above rounding no power law is fitted."""

_FEWEST_BINS, _MOST_BINS = 10, 40
_TIES = 8  # machine epsilons, times the largest: equal singular values of a thousand came out up to two apart


@dataclass(frozen=True)
class _Fit:
    exponent: float = math.nan
    x_min: float = math.nan
    number: int = 0
    distance: float = math.nan
    note: str = ""


def weight_spectrum(
    weight: Tensor,
    *,
    name: str = "weight",
    convolutions: Convolutions = "flattened",
    normalize: bool = False,
    min_tail: int = 8,
    max_dim: int | None = None,
) -> SpectrumMeasurement:
    r"""Finds the eigenvalues of a weight matrix and fits a power law to the tail of their density.

    .. math::
        X = W^\top W \text{ or } \tfrac1N W^\top W, \qquad p(\lambda) \sim \lambda^{-e},
        \quad \lambda \ge x_\mathrm{min}

    The eigenvalues of X are the squared singular values of W, as many as its smaller dimension M; N is the larger one.
    W and its transpose have the same. e is the *density exponent*, one more than the tail index that
    :func:`power_law` gives with the :math:`x_\mathrm{min}` of Clauset, Shalizi and Newman. Singular values of at most
    the largest × N × the machine's epsilon are rounding, and count as zeros: they belong to no tail. Those that differ
    by no more than the largest × 8 epsilons count as equal: a tail of nothing but rounding would seem light.

    As WeightWatcher: the estimate, its x_min and Kolmogorov distance, the weighted exponent e × log10 of the largest
    eigenvalue, and the stable rank, of the same matrix. Not as WeightWatcher, as of 2025: it leaves out eigenvalues up
    to 1e-5 instead of rounding; it halves the eigenvalues of convolutions, which lowers their weighted exponent by
    e log10 2; it takes the slices of convolutions, which is ``convolutions="slices"`` here; its spectral norm is the
    largest eigenvalue, here it is the largest singular value.

    Args:
        weight: A matrix ``[rows, columns]`` or the kernel of a convolution ``[out, in, ...]``; half precision is
            computed in float32.
        name: What it is called.
        convolutions: Which matrix a kernel is: "flattened", the first dimension against all others,
            ``[out, in × positions]``; "slices", the matrices ``[out, in]`` of all positions of the kernel, the
            eigenvalues of which are pooled.
        normalize: Whether eigenvalues are divided by N, as in the theory of random matrices. It moves x_min, the
            largest eigenvalue and the weighted exponent, and not the density exponent.
        min_tail: Eigenvalues that a tail must have, at least 2; with fewer there is no density exponent. Nor is there
            one of a matrix with fewer than 8 above rounding.
        max_dim: The largest M that is decomposed, at least 1; None for any.

    Returns:
        The numbers of this matrix; NaN, with a note, where there are no such. With fewer eigenvalues than 8 or
        ``min_tail``, it still has norms and stable rank; with NaN or infinite weights, or a matrix larger than
        ``max_dim``, nothing.

    Raises:
        TypeError: If the weights are not real or complex floating point numbers in a dense tensor.
        ValueError: If the weights have fewer than two dimensions, or an argument is out of its range.

    References:
        Martin, Mahoney, Implicit Self-Regularization in Deep Neural Networks, JMLR 22, 2021. Martin, Peng, Mahoney,
        Predicting trends in the quality of state-of-the-art neural networks without access to training or testing
        data, Nature Communications 12, 2021. Clauset, Shalizi, Newman, Power-Law Distributions in Empirical Data, SIAM
        Review 51, 2009.

    Example:
        >>> found = weight_spectrum(torch.diag(torch.arange(1.0, 21.0)))
        >>> found.spectral_norm, found.stable_rank, found.rank
        (20.0, 7.175, 20)
    """
    _check(weight, convolutions, min_tail, max_dim)
    matrices = as_matrices(weight.detach(), convolutions)
    smaller, larger = min(matrices.shape[1:]), max(matrices.shape[1:])
    number = len(matrices) * smaller
    if max_dim is not None and smaller > max_dim:
        return _nothing(name, weight, number, f"{NOT_DECOMPOSED}: its smaller dimension {smaller} is above {max_dim}")
    if number == 0 or not bool(matrices.isfinite().all()):
        return _nothing(name, weight, number, NOT_FINITE if number else "no weights")
    unit = _power_of_two(matrices)
    singular = torch.linalg.svdvals(matrices / unit).flatten().double().cpu() * unit
    rounding = larger * torch.finfo(matrices.dtype).eps
    singular = singular.where(singular > singular.max() * rounding, 0.0)
    singular = _tied(singular, torch.finfo(matrices.dtype).eps)
    values = singular.square() / (larger if normalize else 1)
    if not bool(values.sum().isfinite()):
        return _nothing(name, weight, number, "eigenvalues too large for float64")
    if bool(((singular > 0) & (values < torch.finfo(values.dtype).tiny)).any()):  # which have lost digits
        return _nothing(name, weight, number, "eigenvalues too small for float64")
    fit = _fitted(values[values > 0], min_tail, rounding)
    return _found(name, weight, singular, values[values > 0], fit)


def _power_of_two(matrices: Tensor) -> float:
    """About the largest absolute value; divided by it, sums of squares stay finite, and nothing is rounded."""
    return math.ldexp(1.0, math.frexp(float(matrices.abs().max()))[1] - 1)


def _tied(singular: Tensor, epsilon: float) -> Tensor:
    """Singular values in ascending order, those that only rounding tells apart made equal, so that they are no tail."""
    ordered = singular.sort().values
    most = _TIES * epsilon * ordered[-1]
    starts = torch.nn.functional.pad(ordered.diff() > most, (1, 0), value=True)
    first, last = ordered[starts], ordered[starts.roll(-1)]
    run = starts.cumsum(0) - 1
    return torch.where((last - first <= most)[run], first[run], ordered)  # of a dense spectrum all is one run


def as_matrices(weight: Tensor, convolutions: Convolutions) -> Tensor:
    """Views weights as matrices in float32 or better.

    Args:
        weight: A matrix or the kernel of a convolution.
        convolutions: Which matrix a kernel is.

    Returns:
        The matrices ``[number, rows, columns]``: one, or the slices of a kernel.
    """
    is_small = weight.dtype.itemsize == 1  # of which torch knows no wider type
    wide = weight.float() if is_small else weight.to(torch.promote_types(weight.dtype, torch.float32))
    wide = wide.cpu() if wide.device.type == "mps" else wide  # where torch has no singular values
    if convolutions == "slices":
        return wide.flatten(2).movedim(2, 0) if wide.ndim > 2 else wide[None]
    return wide.flatten(1)[None]


def _check(weight: Tensor, convolutions: str, min_tail: int, max_dim: int | None) -> None:
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight_spectrum needs a tensor of weights, got {type(weight).__name__}.")
    if not weight.is_floating_point() and not weight.is_complex():
        raise TypeError(f"weight_spectrum needs real or complex floating point weights, got {weight.dtype}.")
    if weight.layout != torch.strided:
        raise TypeError(f"weight_spectrum needs a dense tensor, got {weight.layout}.")
    if weight.ndim < 2:
        raise ValueError(f"weight_spectrum needs weights of at least two dimensions, got shape {tuple(weight.shape)}.")
    if convolutions not in ("flattened", "slices"):
        raise ValueError(f"weight_spectrum needs convolutions 'flattened' or 'slices', got {convolutions!r}.")
    if not isinstance(min_tail, Integral) or min_tail < 2:
        raise ValueError(f"weight_spectrum needs min_tail to be an integer of at least 2, got {min_tail!r}.")
    if max_dim is not None and (not isinstance(max_dim, Integral) or max_dim < 1):
        raise ValueError(f"weight_spectrum needs max_dim to be None or an integer of at least 1, got {max_dim!r}.")


def _found(name: str, weight: Tensor, singular: Tensor, values: Tensor, fit: _Fit) -> SpectrumMeasurement:
    """The numbers of singular values, zeros among them, and eigenvalues, ascending, no zeros among them."""
    rank = len(values)
    if rank == 0:
        return _nothing(name, weight, len(singular), "all weights are zero", 0.0)
    largest, total = float(values[-1]), float(values.sum())
    share = values / total
    return SpectrumMeasurement(
        matrix=name,
        shape=tuple(weight.shape),
        num_eigenvalues=len(singular),
        rank=rank,
        density_exponent=fit.exponent,
        standard_error=(fit.exponent - 1) / math.sqrt(max(fit.number, 1)),
        x_min=fit.x_min,
        num_tail=fit.number,
        kolmogorov_distance=fit.distance,
        weighted_exponent=fit.exponent * math.log10(largest),
        largest_eigenvalue=largest,
        spectral_norm=float(singular.max()),
        stable_rank=total / largest,
        log_norm=math.log10(total),
        entropy=float(-(share * share.log()).sum()) / math.log(rank) if rank > 1 else math.nan,
        note=fit.note,
        log_eigenvalues=_histogram(values.log10()),
    )


def _fitted(values: Tensor, min_tail: int, rounding: float) -> _Fit:
    """The power law of eigenvalues in ascending order, none of them zero."""
    fewest = max(min_tail, FEWEST_EIGENVALUES)
    if len(values) < fewest:
        return _Fit(note=f"no density exponent: fewer than {fewest} eigenvalues above rounding")
    if values[-1] <= values[0] * (1 + 2 * rounding):
        return _Fit(note="no density exponent: all eigenvalues are equal up to rounding")
    estimate = power_law(values)
    if estimate.note:
        return _Fit(note=f"no density exponent: {estimate.note}")
    alpha, x_min = float(estimate.alpha), float(estimate.scale)
    tail = values[values >= x_min]
    law = 1 - (tail / x_min) ** -alpha
    below = torch.searchsorted(tail, tail).to(tail) / len(tail)  # of equal ones the place of the first
    distance = float((law - below).abs().max())  # just below each value, as Clauset
    if len(tail) < min_tail:
        note = f"no density exponent: fewer than {min_tail} eigenvalues in the tail"
        return _Fit(x_min=x_min, number=len(tail), note=note)
    return _Fit(alpha + 1, x_min, len(tail), distance)


def _histogram(values: Tensor) -> Histogram:
    low, high = float(values[0]), float(values[-1])
    if high - low < 1e-6:  # all the same: a bin around them
        low, high = low - 0.05, high + 0.05
    bins = min(max(round(2 * math.sqrt(len(values))), _FEWEST_BINS), _MOST_BINS)
    counts, edges = torch.histogram(values, bins, range=(low, high))
    return Histogram(
        tuple(edges.tolist()), tuple(map(int, counts.tolist())), float(values.sum()), float(values.square().sum())
    )


def _nothing(name: str, weight: Tensor, number: int, note: str, size: float = math.nan) -> SpectrumMeasurement:
    """A matrix without eigenvalues to speak of; all of them are ``size``."""
    nan = math.nan
    shape = tuple(weight.shape)
    empty = Histogram((0.0, 1.0), (0,), 0.0, 0.0)
    return SpectrumMeasurement(
        name, shape, number, 0, nan, nan, nan, 0, nan, nan, size, size, nan, nan, nan, note, empty
    )
