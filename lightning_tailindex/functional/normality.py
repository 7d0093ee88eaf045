"""Tests of Gaussianity: whether values, or random projections of noise, could be Gaussian at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_tailindex.records import NormalityTest, ProjectionAcceptance
from lightning_tailindex.records.notes import joined

from . import _royston
from ._checks import FEWEST_VALUES, checked_count, checked_sample
from ._ordered import Ordered, departures, ordered
from ._precision import in_double

__all__ = ["anderson_darling", "projection_acceptance", "shapiro_wilk"]

_PROJECTIONS, _LEVEL = 50, 0.05


def anderson_darling(x: Tensor) -> NormalityTest:
    r"""Tests whether series are Gaussian, of whatever mean and variance, by Anderson and Darling's statistic.

    .. math::
        A^2 = -n - \frac{1}{n} \sum_{i=1}^{n} (2i - 1) \bigl( \log \Phi(z_{(i)}) + \log \Phi(-z_{(n+1-i)}) \bigr),
        \qquad z_i = (x_i - \bar x) / s

    The p-value is that of :math:`A^2 (1 + 0.75 / n + 2.25 / n^2)`; below 1e-24 it is an extrapolation. The tails
    weigh more than in Kolmogorov's test, heavy and light ones alike. Draws must be independent.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are independent series. Computed
            in float64, on the CPU where the device has none.

    Returns:
        Statistic, unmodified, and p-value, each of shape ``[...]``. NaN, with a note, for series with NaN or infinity,
        constant ones and fewer than 8 values.

    Raises:
        TypeError: If ``x`` is no dense tensor of real floating point.
        ValueError: If ``x`` has no dimension or no draws.

    References:
        Stephens, EDF Statistics for Goodness of Fit and Some Comparisons, Journal of the American Statistical
        Association 69, 1974. D'Agostino, Stephens, Goodness-of-Fit Techniques, Dekker 1986, table 4.9, for the
        p-values.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> x[:, 1] = x[:, 1] ** 3
        >>> anderson_darling(x).p_value > 0.05
        tensor([ True, False])
    """
    x = checked_sample("anderson_darling", x)
    return _anderson_darling(x, ordered(x))


def _anderson_darling(x: Tensor, sample: Ordered) -> NormalityTest:
    n = len(x)
    z = sample.values * (n - 1) ** 0.5
    odd = torch.arange(1, 2 * n, 2, dtype=z.dtype, device=z.device)[:, None]
    less = torch.special.log_ndtr(-z.abs())  # the smaller tail, from which the larger one takes less time
    more = torch.log1p(-less.exp())
    tails = torch.where(z < 0, less, more) + torch.where(z < 0, more, less).flip(0)
    statistic = -n - (odd / n * tails).sum(0)
    return _verdict(x, sample, statistic, _anderson_darling_p_value(statistic * (1 + 0.75 / n + 2.25 / n**2)))


def shapiro_wilk(x: Tensor) -> NormalityTest:
    r"""Tests whether series are Gaussian, of whatever mean and variance, by Shapiro and Wilk's statistic.

    .. math::
        W = \frac{\bigl( \sum_i a_i x_{(i)} \bigr)^2}{\sum_i (x_i - \bar x)^2}

    W is the squared correlation of the ordered values with what is expected of Gaussian ones; weights a and p-value
    are Royston's approximations. Draws must be independent.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``, n at most 5000 for a p-value, in any unit; the other dimensions are
            independent series. Computed in float64, on the CPU where the device has none.

    Returns:
        Statistic in (0, 1] and p-value, each of shape ``[...]``. NaN, with a note, for series with NaN or infinity,
        constant ones and fewer than 8 values; beyond 5000 values the p-value alone is.

    Raises:
        TypeError: If ``x`` is no dense tensor of real floating point.
        ValueError: If ``x`` has no dimension or no draws.

    References:
        Shapiro, Wilk, An Analysis of Variance Test for Normality (Complete Samples), Biometrika 52, 1965. Royston,
        Remark AS R94: A Remark on Algorithm AS 181: The W-test for Normality, Applied Statistics 44, 1995.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> x[:, 1] = x[:, 1] ** 3
        >>> shapiro_wilk(x).p_value > 0.05
        tensor([ True, False])
    """
    x = checked_sample("shapiro_wilk", x)
    return _shapiro_wilk(x, ordered(x))


def _shapiro_wilk(x: Tensor, sample: Ordered) -> NormalityTest:
    n = len(x)
    if n < FEWEST_VALUES:
        nothing = torch.full_like(sample.values[0], torch.nan)
        return _verdict(x, sample, nothing, nothing)
    weights = torch.from_numpy(_royston.weights(n)).to(sample.values)[:, None]
    # Both have length 1, so their distance gives 1 - W without cancellation where W is nearly 1.
    distance = (sample.values - weights).square().sum(0)
    one_minus_w = distance - distance.square() / 4
    if n > _royston.MOST_VALUES:
        note = f"no p-value: Shapiro and Wilk's is known up to {_royston.MOST_VALUES} values, got {n}"
        return _verdict(x, sample, 1 - one_minus_w, torch.full_like(one_minus_w, torch.nan), note)
    return _verdict(x, sample, 1 - one_minus_w, _royston.p_value(one_minus_w, n))


def projection_acceptance(
    noise: Tensor,
    *,
    num_projections: int = _PROJECTIONS,
    level: float = _LEVEL,
    generator: torch.Generator | None = None,
) -> ProjectionAcceptance:
    r"""Projects noise onto random directions and says in which share of them it passes for Gaussian.

    .. math::
        \frac{1}{m} \sum_{j=1}^{m} 1\bigl[ p(U v_j) > \mathrm{level} \bigr], \qquad v_j \text{ uniform on the sphere}

    Gaussian noise of any covariance is accepted in a share of 1 - level on average. The projections share their
    draws, so the share scatters: widely where few directions carry the noise, and for noise of rank 1 it is 0 or 1.
    Judge it beside that of the Gaussian surrogate, with a generator of the same seed. As in the protocol's paper,
    coordinates keep their scales, so those of large scale decide; and by the central limit theorem sums of many
    coordinates that are independent and of finite variance pass whatever their own tails.

    Args:
        noise: Draws along dim 0, shape ``[n, ...]``, in any unit; the other dimensions are flattened into coordinates.
        num_projections: Number m of random directions, at least 1.
        level: Significance level of the tests, in (0, 1).
        generator: Source of randomness on the device of ``noise``; None takes torch's default one.

    Returns:
        Shares of accepted projections, scalars, one by each test, on the same projections. NaN, with a note, where a
        test gives no p-value.

    Raises:
        TypeError: If ``noise`` is no dense tensor of real floating point.
        ValueError: If ``noise`` has no dimension or no draws, or an argument lies outside its range.

    References:
        Panigrahi, Somani, Goyal, Netrapalli, Non-Gaussianity of Stochastic Gradient Noise, 2019, arXiv 1910.09626.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> gaussian = torch.randn(64, 20, generator=rng)
        >>> heavy = gaussian / torch.rand(64, 1, generator=rng)
        >>> projection_acceptance(gaussian, generator=rng).shapiro_wilk > 0.8
        tensor(True)
        >>> projection_acceptance(heavy, generator=rng).shapiro_wilk > 0.2
        tensor(False)
    """
    checked_count("projection_acceptance", 1, num_projections=num_projections)
    if not 0 < level < 1:
        raise ValueError(f"projection_acceptance needs 0 < level < 1, got level={level}.")
    noise = checked_sample("projection_acceptance", noise)
    projections = departures(noise) @ _directions(noise, num_projections, generator)
    (anderson,), (shapiro,), note = _accepted(projections, 1, level)
    return ProjectionAcceptance(anderson.to(noise), shapiro.to(noise), note)


def projection_acceptances(noises: Sequence[Tensor], *, seed: int) -> tuple[Tensor, Tensor]:
    """Tests the projections of several groups' noise at once.

    Args:
        noises: Draws of each group, of the same number of them, ``[n, d]``.
        seed: Of the directions, which groups of the same number of coordinates share.

    Returns:
        What :func:`projection_acceptance` says with a generator of this seed, by Anderson and Darling's test and by
        Shapiro and Wilk's, each of shape ``[groups]``.
    """
    onto: dict[int, Tensor] = {}
    for noise in noises:
        if noise.shape[1] not in onto:
            rng = torch.Generator(noise.device).manual_seed(seed)
            onto[noise.shape[1]] = _directions(noise, _PROJECTIONS, rng)
    projections = torch.cat([departures(noise) @ onto[noise.shape[1]] for noise in noises], dim=1)
    anderson, shapiro, _ = _accepted(projections, len(noises), _LEVEL)
    return anderson.to(noises[0]), shapiro.to(noises[0])


def _accepted(projections: Tensor, num_groups: int, level: float) -> tuple[Tensor, Tensor, str]:
    """Shares of each group's projections that pass both tests, [groups], NaN if one has no p-value; and the note."""
    sample = ordered(projections)
    tests = _anderson_darling(projections, sample), _shapiro_wilk(projections, sample)
    p_values = torch.stack([test.p_value for test in tests]).reshape(2, num_groups, -1)
    shares = (p_values > level).to(p_values).mean(-1)
    anderson, shapiro = torch.where(p_values.isnan().any(-1), torch.nan, shares)
    return anderson, shapiro, tests[1].note


def _directions(noise: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """Random directions of length 1 in float64, [d, number]."""
    shape = (noise[0].numel(), number)
    wide = in_double(torch.randn(shape, generator=generator, dtype=noise.dtype, device=noise.device))
    unit: Tensor = wide / wide.norm(dim=0)
    return unit


def _anderson_darling_p_value(modified: Tensor) -> Tensor:
    """Chance of a modified statistic as large for Gaussian values, by D'Agostino and Stephens' four pieces."""
    a = modified.clamp(max=150.0)  # beyond 153 the parabola of the last piece would rise
    pieces = [
        -torch.expm1(-13.436 + 101.14 * a - 223.73 * a**2),
        -torch.expm1(-8.318 + 42.796 * a - 59.938 * a**2),
        torch.exp(0.9177 - 4.279 * a - 1.38 * a**2),
        torch.exp(1.2937 - 5.709 * a + 0.0186 * a**2),
    ]
    lower = torch.where(a <= 0.2, pieces[0], pieces[1])
    return torch.where(a <= 0.34, lower, torch.where(a < 0.6, pieces[2], pieces[3]))


def _verdict(x: Tensor, sample: Ordered, statistic: Tensor, p_value: Tensor, note: str = "") -> NormalityTest:
    """Puts a test's numbers into the shape, dtype and device of x, NaN where a series could not be tested."""
    shape = x.shape[1:]
    statistic, p_value = (torch.where(sample.usable, v, torch.nan).to(x).reshape(shape) for v in (statistic, p_value))
    return NormalityTest(
        statistic=statistic,
        p_value=p_value,
        num_values=torch.full(shape, len(x), device=x.device),
        note=joined(sample.note, note),
    )
