"""Maximum and interval of log-likelihood curves over the tail index; curves have the shape [nodes, curves]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Maximum:
    """The maximum of each curve, both fields of shape [curves]."""

    alpha: Tensor
    value: Tensor


def highest(curve: Tensor) -> Tensor:
    """Number of the node where each curve is highest; much faster than argmax along the first dimension."""
    return _last(curve == curve.amax(0))


def _last(holds: Tensor) -> Tensor:
    """Number of the last node where something holds, 0 if nowhere, shape [curves]."""
    nodes = torch.arange(len(holds), dtype=torch.int32, device=holds.device)
    return (holds * nodes[:, None]).amax(0).long()


def at(curve: Tensor, node: Tensor) -> Tensor:
    """Values of each curve at one node of its own, shape [curves]."""
    return curve.gather(0, node[None])[0]


def maximize(curve: Tensor, alpha: Tensor) -> Maximum:
    """Maximum of curves over ascending alpha [nodes], by a parabola in q = arccosh(2 / alpha).

    A maximum at the first or the last node stays there.
    """
    peak, value = parabola(curve, torch.acosh(2 / alpha))
    place = highest(curve)
    at_node = (place == 0) | (place == len(alpha) - 1)
    return Maximum(torch.where(at_node, alpha[place], 2 / torch.cosh(peak)), value)


def parabola(curve: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Place and value of the maximum of curves over q [nodes], by the parabola through the three highest nodes."""
    last, place = len(q) - 1, highest(curve)
    middle = place.clamp(1, last - 1)
    (a, left), (b, top), (c, right) = ((q[middle + k], at(curve, middle + k)) for k in (-1, 0, 1))
    before, after = (left - top) / (a - b), (right - top) / (c - b)
    bend = (after - before) / (c - a)
    slope = before - bend * (a - b)
    inner = (place > 0) & (place < last) & (bend < 0)
    shift = torch.where(inner, -slope / (2 * bend), 0.0)
    peak = torch.where(inner, b + shift, q[place])
    value = torch.where(inner, top + shift * slope / 2, at(curve, place))
    return peak, torch.maximum(value, at(curve, place))


def interval(curve: Tensor, alpha: Tensor, top: Maximum, threshold: float) -> tuple[Tensor, Tensor]:
    """Ends of {alpha: 2 (maximum - curve) <= threshold} around the maximum, within the nodes.

    The square root of the ratio is close to a line on either side of the maximum, also where the curve falls by
    thousands from one node to the next, so it is the root that is interpolated.
    """
    root = (2 * (top.value - curve)).clamp(min=0).sqrt()
    low = _crossing(root.flip(0), -alpha.flip(0), -top.alpha, threshold**0.5)
    return -low, _crossing(root, alpha, top.alpha, threshold**0.5)


def _crossing(root: Tensor, alpha: Tensor, start: Tensor, level: float) -> Tensor:
    """First place above ``start`` where the root exceeds the level; the last node if there is none."""
    beyond = (alpha[:, None] > start) & (root > level)
    after = (len(alpha) - 1 - _last(beyond.flip(0))).clamp(min=1)
    (x0, y0), (x1, y1) = ((alpha[k], at(root, k)) for k in (after - 1, after))
    x0, y0 = torch.where(x0 > start, x0, start), torch.where(x0 > start, y0, 0.0)
    return torch.where(beyond.any(0), x0 + (x1 - x0) * (level - y0) / (y1 - y0), alpha[-1])


def between(values: Tensor, alpha: Tensor, place: Tensor) -> Tensor:
    """Linear interpolation of values [nodes, curves] over ascending alpha, at one place a curve."""
    right = torch.searchsorted(alpha, place.contiguous()).clamp(1, len(alpha) - 1)
    weight = (place - alpha[right - 1]) / (alpha[right] - alpha[right - 1])
    return at(values, right - 1) + weight * (at(values, right) - at(values, right - 1))
