"""How far the values of a series lie from a law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ._checks import checked_sample

__all__ = ["kolmogorov_distance"]


def kolmogorov_distance(x: Tensor, law: Distribution) -> Tensor:
    r"""Measures the largest difference between the distribution function of the values and that of a law.

    .. math::
        D = \sup_t |F_n(t) - F(t)|
          = \max_i \max\Bigl( \tfrac{i}{n} - F(x_{(i)}),\; F(x_{(i)}) - \tfrac{i - 1}{n} \Bigr)

    It compares fits of several laws to the same values. Kolmogorov's p-values hold only for a law that was fixed
    before the values were seen: values lie closer to a law that was fitted to them.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in the unit of ``law``; the other dimensions are independent series.
            Half precision is computed in float32.
        law: A continuous law on the real line with a ``cdf``, on the device of ``x``. Its batch shape is broadcast
            against the series, so one series may be held against many laws.

    Returns:
        The distance, in [1/(2n), 1], of the shape of series and laws together; NaN for series with NaN or infinity.

    Raises:
        TypeError: If ``x`` is no dense tensor of real floating point.
        ValueError: If ``x`` has no dimension or no draws, or the shapes of series and laws do not fit.
        NotImplementedError: If ``law`` has no ``cdf``, as torch's ``StudentT``.

    References:
        Kolmogorov, Sulla determinazione empirica di una legge di distribuzione, Giornale dell'Istituto Italiano
        degli Attuari 4, 1933. Stephens, EDF Statistics for Goodness of Fit and Some Comparisons, Journal of the
        American Statistical Association 69, 1974, for fitted laws.

    Example:
        >>> from torch.distributions import Normal
        >>> x = torch.linspace(-3, 3, 101)
        >>> kolmogorov_distance(x, Normal(0.0, torch.tensor([1.0, 2.0])))
        tensor([0.1937, 0.0668])
    """
    x = checked_sample("kolmogorov_distance", x)
    series = x.shape[1:]
    try:
        torch.broadcast_shapes(series, law.batch_shape)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ValueError(
            "kolmogorov_distance needs series and laws of shapes that broadcast, "
            f"got {tuple(series)} and {tuple(law.batch_shape)}."
        ) from error
    finite = x.isfinite().all(0)
    # Laws refuse to evaluate NaN. Dim 0 must stay the draws where the laws have more dimensions than the series.
    values = torch.where(finite, x, 0.0).sort(0).values
    values = values.reshape(len(x), *(1,) * (len(law.batch_shape) - len(series)), *series)
    below: Tensor = law.cdf(values)
    steps = torch.arange(len(x) + 1, dtype=below.dtype, device=below.device).div(len(x))
    steps = steps.reshape(-1, *(1,) * (below.ndim - 1))
    distance = torch.maximum(steps[1:] - below, below - steps[:-1]).amax(0)
    return torch.where(finite, distance, torch.nan).to(x.dtype)
