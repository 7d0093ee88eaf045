"""Maximum and interval of log-likelihood curves over the tail index."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Maximum:
    """The maximum of each curve, both fields of shape [curves]."""

    alpha: Tensor
    value: Tensor


def maximize(curve: Tensor, alpha: Tensor) -> Maximum:
    """Maximum of curves [curves, nodes] over ascending alpha, by a parabola in q = arccosh(2 / alpha).

    A maximum at the first or the last node stays there.
    """
    q, last = torch.acosh(2 / alpha), len(alpha) - 1
    place = curve.argmax(-1)
    middle = place.clamp(1, last - 1)[:, None]
    (a, left), (b, top), (c, right) = ((q[middle + k][:, 0], curve.gather(1, middle + k)[:, 0]) for k in (-1, 0, 1))
    before, after = (left - top) / (a - b), (right - top) / (c - b)
    bend = (after - before) / (c - a)
    slope = before - bend * (a - b)
    inner = (place > 0) & (place < last) & (bend < 0)
    shift = torch.where(inner, -slope / (2 * bend), 0.0)
    peak = torch.where(inner, b + shift, q[place])
    highest = curve.gather(1, place[:, None])[:, 0]
    value = torch.where(inner, top + shift * slope / 2, highest)
    exact = torch.where(inner, 2 / torch.cosh(peak), alpha[place])
    return Maximum(exact, torch.maximum(value, highest))


def interval(curve: Tensor, alpha: Tensor, top: Maximum, threshold: float) -> tuple[Tensor, Tensor]:
    """Ends of {alpha: 2 (maximum - curve) <= threshold} around the maximum, within the nodes.

    The square root of the ratio is close to a line on either side of the maximum, also where the curve falls by
    thousands from one node to the next, so it is the root that is interpolated.
    """
    root = (2 * (top.value[:, None] - curve)).clamp(min=0).sqrt()
    low = _crossing(root.flip(1), -alpha.flip(0), -top.alpha, threshold**0.5)
    return -low, _crossing(root, alpha, top.alpha, threshold**0.5)


def _crossing(root: Tensor, alpha: Tensor, start: Tensor, level: float) -> Tensor:
    """First place above ``start`` where the root exceeds the level; the last node if there is none."""
    beyond = (alpha > start[:, None]) & (root > level)
    after = beyond.int().argmax(1).clamp(min=1)[:, None]
    (x0, y0), (x1, y1) = ((alpha[k][:, 0], root.gather(1, k)[:, 0]) for k in (after - 1, after))
    x0, y0 = torch.where(x0 > start, x0, start), torch.where(x0 > start, y0, 0.0)
    return torch.where(beyond.any(1), x0 + (x1 - x0) * (level - y0) / (y1 - y0), alpha[-1])
