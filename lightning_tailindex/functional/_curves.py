"""Maximum and interval of log-likelihood curves, of shape [nodes, curves], sampled at evenly spaced nodes.

Places are counted in rows of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NEWTON_STEPS = 3
# A curve that falls by more from the last node but one to the last has a pole there: a value that is impossible under
# the law at the end, the Gaussian.
_POLE = 8.0


def highest(curve: Tensor) -> Tensor:
    """Number of the node where each curve is highest, the last of several; much faster than argmax along dim 0."""
    return _last(curve == curve.amax(0))


def _last(holds: Tensor) -> Tensor:
    """Number of the last of up to 256 nodes where something holds, 0 if nowhere, shape [curves]."""
    nodes = torch.arange(len(holds), dtype=torch.uint8, device=holds.device)
    return (holds.view(torch.uint8) * nodes[:, None]).amax(0).long()


def _first(holds: Tensor) -> Tensor:
    """Number of the first of up to 256 nodes where something holds, that of the last node if nowhere, [curves]."""
    nodes = torch.arange(len(holds) - 1, -1, -1, dtype=torch.uint8, device=holds.device)
    return len(holds) - 1 - (holds.view(torch.uint8) * nodes[:, None]).amax(0).long()


def at(curve: Tensor, node: Tensor) -> Tensor:
    """Values of each curve at one node of its own, shape [curves]."""
    return curve.gather(0, node[None])[0]


def maximize(curve: Tensor, at_two: Tensor | bool = False) -> tuple[Tensor, Tensor]:
    """Place and value of the maximum of each curve, both of shape [curves].

    It is that of the quartic through the five nodes around the highest one, which Newton's steps find. A maximum at
    the first or the last node stays there.

    Args:
        curve: Values, at least five nodes.
        at_two: Whether the last node is that of alpha = 2, where a curve may have a pole.
    """
    end, node = len(curve) - 1, highest(curve)
    top, pole = at(curve, node), ((curve[-2] - curve[-1] > _POLE) & at_two).long()
    middle = torch.minimum(node, end - 2 - pole).clamp(min=2)
    around = middle + torch.arange(-2, 3, device=node.device)[:, None]
    coefficients = _quartic(curve.gather(0, around) - top)
    x = (node - middle).to(curve)
    low, high = x - 1, torch.minimum(x + 1, (end - pole - middle).to(curve))
    for _ in range(_NEWTON_STEPS):
        slope, bend = _derivatives(coefficients, x)
        x = torch.where(bend < 0, x - slope / bend, x).clamp(low, high)
    value = _value(coefficients, x)
    found = (node > 0) & (node < end) & (value > 0)
    return torch.where(found, middle + x, node), top + torch.where(found, value, 0.0)


def _quartic(values: Tensor) -> list[Tensor]:
    """Taylor coefficients, in the middle, of the quartic through five values [5, curves]."""
    a, b, c, d, e = values
    near, far, inner, outer = d - b, e - a, b + d - 2 * c, a + e - 2 * c
    return [c, (8 * near - far) / 12, (16 * inner - outer) / 24, (far - 2 * near) / 12, (outer - 4 * inner) / 24]


def _value(coefficients: Sequence[Tensor], x: Tensor) -> Tensor:
    """Value of a quartic."""
    c0, c1, c2, c3, c4 = coefficients
    return c0 + x * (c1 + x * (c2 + x * (c3 + x * c4)))


def _derivatives(coefficients: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and bend of a quartic."""
    _, c1, c2, c3, c4 = coefficients
    return c1 + x * (2 * c2 + x * (3 * c3 + x * 4 * c4)), 2 * c2 + x * (6 * c3 + x * 12 * c4)


def interval(curve: Tensor, place: Tensor, top: Tensor, threshold: Tensor | float) -> tuple[Tensor, Tensor]:
    """Places around the maximum up to which 2 (maximum - curve) <= threshold, within the nodes.

    The square root of the ratio is close to a line on either side of the maximum, also where the curve falls by
    thousands from one node to the next, so it is the root that is interpolated.
    """
    root, end = (2 * (top - curve)).clamp(min=0).sqrt(), len(curve) - 1
    nodes, level = torch.arange(end + 1, dtype=curve.dtype, device=curve.device)[:, None], threshold**0.5
    below, above = (nodes < place) & (root > level), (nodes > place) & (root > level)
    outside, beyond = _last(below), _first(above)
    low = torch.where(below.any(0), _crossing(root, outside, (outside + 1).clamp(max=end), place, level), 0.0)
    high = torch.where(above.any(0), _crossing(root, beyond, (beyond - 1).clamp(min=0), place, level), float(end))
    return low, high


def _crossing(root: Tensor, outside: Tensor, inside: Tensor, place: Tensor, level: Tensor | float) -> Tensor:
    """Where the root passes the level, from a node outside to the next one inside, or to the maximum before it."""
    is_nearer = (inside - place) * (outside - place) < 0
    start = torch.where(is_nearer, place, inside)
    y0, y1 = torch.where(is_nearer, 0.0, at(root, inside)), at(root, outside)
    return start + (outside - start) * ((level - y0) / (y1 - y0))
