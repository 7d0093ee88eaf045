"""Density, tails and quantiles of the standard symmetric alpha-stable law, without cancellation, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# |x| from which the tail series is used: for every alpha its terms then shrink up to at least the 100th.
_SERIES_FROM = 20.0
_SERIES_TERMS = 40
# Above this alpha and |x| the density may be far below rounding errors of order one: no cancellation allowed.
_CORNER_ALPHA = 1.5
_CORNER_FROM = 2.0
_LARGEST_LOG = 709.0  # of what is looked for among quantiles
_ROUNDING = 1e-12  # relative error of a log-probability from which on Newton's steps are as good as they get
_CHUNK = 64  # values evaluated at once: an integrand's points at them fit into a cache, and few MB of memory


def _ray(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """Log-density or log-survival by the trapezoidal rule along the ray t = exp(v + i phi)."""
    low = float(alpha.detach().min())
    phi = (math.pi / 4 / alpha.detach()).clamp(max=0.7)[:, None]
    # The error of the rule is exp(-2 pi phi / step). Beyond the ends the integrand is below 1e-17 of the integral: that
    # for the density at small x is made where t ** alpha is about 1 / alpha.
    start, stop = (-40.0 / min(low, 1.0) if survival else -40.0), math.log(60 + 3 / low) / low
    step = float(phi.min()) / 8
    v = torch.arange(start, stop + step, step, dtype=x.dtype, device=x.device)
    power, xs = torch.exp(alpha[:, None] * v), x[:, None] * v.exp()
    angle = alpha[:, None] * phi
    size = torch.exp(-power * angle.cos() - xs * phi.sin())
    turn = xs * phi.cos() - power * angle.sin()
    if survival:
        return torch.log1p(-(2 / math.pi) * (phi[:, 0] + step * (size * turn.sin()).sum(1)))
    return torch.log(step / math.pi * (size * v.exp() * (turn + phi).cos()).sum(1))


@lru_cache(maxsize=1)
def _corner_rules() -> tuple[np.ndarray, ...]:
    """Gauss-Legendre nodes and weights of [0, 1], crowded towards 0, and of [0, 14]."""
    nodes, weights = np.polynomial.legendre.leggauss(96)
    q, w = (nodes + 1) / 2, weights / 2
    return q**4, 4 * q**3 * w, 14 * q, 14 * w


def _corner(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """The same along 0 to ix/2, then to infinity: one positive power-law part and one Gaussian part."""
    up, up_weight, right, right_weight = (torch.as_tensor(a, dtype=x.dtype, device=x.device) for a in _corner_rules())
    corner = x.detach()[:, None] / 2
    x, alpha = x[:, None], alpha[:, None]
    quarter = math.pi / 2 * (2 - alpha)  # sin and cos of pi alpha / 2 without cancellation near 2
    u = corner * up
    power = u**alpha
    rise = torch.exp(power * quarter.cos() - x * u) * torch.sin(power * quarter.sin())
    radius, theta = (corner.square() + right.square()).sqrt(), torch.atan2(corner, right)
    power = radius**alpha
    size = torch.exp(-power * (alpha * theta).cos() - x * corner)
    turn = x * right - power * (alpha * theta).sin()
    if survival:
        first = (rise * up_weight / up).sum(1)
        second = (size * (theta - turn).sin() / radius * right_weight).sum(1)
        return torch.log(2 / math.pi * (first + second))
    first = (rise * up_weight * corner).sum(1)
    second = (size * turn.cos() * right_weight).sum(1)
    return torch.log((first + second) / math.pi)


def _series(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """The same from the expansion in powers of x to the -alpha."""
    k = torch.arange(1, _SERIES_TERMS + 1, dtype=x.dtype, device=x.device)
    log_x, order, shift = x.log(), alpha[:, None] * k, 0 if survival else 1
    quarter = math.pi / 2 * (2 - alpha)
    first = torch.lgamma(alpha + shift)
    size = (
        torch.lgamma(order + shift) - first[:, None] - torch.lgamma(k + 1) - (order - alpha[:, None]) * log_x[:, None]
    )
    total: Tensor = (size.exp() * torch.sin(quarter[:, None] * k) / torch.sin(quarter)[:, None]).sum(1)
    front = first + torch.log(torch.sin(quarter)) - (alpha + shift) * log_x
    return front + total.log() + math.log((2 if survival else 1) / math.pi)


def _gaussian(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """The closed form at alpha = 2."""
    if survival:
        both: Tensor = torch.special.log_ndtr(-x / math.sqrt(2)) + math.log(2)
        return both
    return -x.square() / 4 - math.log(2 * math.sqrt(math.pi))


def _cauchy(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """The closed form at alpha = 1."""
    if survival:
        return torch.log(2 / math.pi * torch.atan2(torch.ones_like(x), x))
    return -math.log(math.pi) - 2 * torch.hypot(x, torch.ones_like(x)).log()  # x ** 2 may overflow


def evaluate(x: Tensor, alpha: Tensor, survival: bool) -> Tensor:
    """Log-density, or log P(|X| > x), of the standard law at x >= 0 in float64, each x by the method that suits it."""
    x, alpha = x * torch.ones_like(alpha), alpha * torch.ones_like(x)
    shape, x, alpha = x.shape, x.flatten(), alpha.flatten()
    two, one, far = alpha == 2, (alpha == 1) & (not alpha.requires_grad), x >= _SERIES_FROM
    corner = (alpha > _CORNER_ALPHA) & (x > _CORNER_FROM) & ~far & ~two
    rest = ~(two | one | far | corner)
    methods: list[tuple[Callable[[Tensor, Tensor, bool], Tensor], Tensor]] = [
        (_gaussian, two),
        (_cauchy, one),
        (_series, far & ~two & ~one & x.isfinite()),
        (_corner, corner),
        (_ray, rest & x.isfinite()),
    ]
    out = torch.where(x.isinf(), -math.inf, torch.full_like(x, math.nan))
    for method, where in methods:
        if where.any():
            pairs = zip(torch.split(x[where], _CHUNK), torch.split(alpha[where], _CHUNK), strict=True)
            out = out.masked_scatter(where, torch.cat([method(*pair, survival) for pair in pairs]))
    return out.reshape(shape)


def solve_survival(log_p: Tensor, alpha: Tensor) -> Tensor:
    """The x > 0 with log P(|X| > x) = log_p, by Newton's method on log x inside a bracket; infinite above 8e307.

    Near alpha = 2 the slope changes so fast between the Gaussian and the power law that Newton's steps may go to and
    fro for ever, so the bracket is halved where a step has not halved the residual.
    """
    peak = torch.exp(torch.lgamma(1 + 1 / alpha)) / math.pi
    near = torch.log(-torch.expm1(log_p) / (2 * peak))  # exact as x goes to 0, and a lower bound
    low, high = near - 1e-9 * (1 + near.abs()), torch.full_like(near, _LARGEST_LOG)
    y, previous, done = near, torch.full_like(near, math.inf), torch.zeros_like(near, dtype=torch.bool)
    for _ in range(120):
        log_s = evaluate(y.exp(), alpha, True)
        residual = log_s - log_p
        low, high = torch.where(residual > 0, y, low), torch.where(residual > 0, high, y)
        slope = -2 * torch.exp(y + evaluate(y.exp(), alpha, False) - log_s)
        step = y - residual / slope
        is_small = residual.abs() <= _ROUNDING * (1 + log_p.abs())
        newton = (step >= low) & (step <= high) & (is_small | (residual.abs() <= previous / 2))
        step = torch.where(newton, step, (low + torch.minimum(high, 2 * low.abs() + 50)) / 2)
        near_enough = (step - y).abs() <= 1e-10 * (1 + y.abs())
        y, previous = torch.where(done | (residual == 0), y, step), residual.abs()
        done = done | (residual == 0) | (near_enough & (is_small | (low > _LARGEST_LOG - 1e-6)))
        if bool(done.all()):
            break
    return torch.where(low > _LARGEST_LOG - 1e-6, math.inf, y.exp())
