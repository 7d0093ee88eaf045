"""Maximum and interval of log-likelihood curves, of shape [nodes, curves], sampled at evenly spaced nodes.

Places are counted in rows of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEAREST = 2.5  # nodes from a maximum to an end of the curve that all those lie between which it is interpolated from
_NEWTON_STEPS = 3
CHI_SQUARE = 3.841458820694124
# A curve that falls by more from the last node but one to the last has a pole there: a value that is impossible under
# the law at the end, the Gaussian. Where series repeat each other's evidence, so do their falls.
POLE = 8.0
BEFORE_POLE = 0.01  # nodes from the last one, at which there is a pole, to where an interval ends before it: 2 - 2e-7


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
    top, pole = at(curve, node), ((curve[-2] - curve[-1] > POLE) & at_two).long()
    middle = torch.minimum(node, end - 2 - pole).clamp(min=2)
    around = middle + torch.arange(-2, 3, device=node.device)[:, None]
    slopes, bends = _derivatives(curve.gather(0, around) - top)
    x = (node - middle).to(curve)
    low, high = x - 1, torch.minimum(x + 1, (end - pole - middle).to(curve))
    for _ in range(_NEWTON_STEPS):
        bend = _polynomial(bends, x)
        x = torch.where(bend < 0, x - _polynomial(slopes, x) / bend, x).clamp(low, high)
    value = at(curve, middle) - top + x * _polynomial([slope / k for k, slope in enumerate(slopes, 1)], x)
    found = (node > 0) & (node < end) & (value > 0)
    return torch.where(found, middle + x, node), top + torch.where(found, value, 0.0)


def _derivatives(values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """First and second derivative of the quartic through values [5, curves] at -2 to 2, as coefficients from x ** 0."""
    a, b, c, d, e = values
    near, far, inner, outer = d - b, e - a, torch.sub(b + d, c, alpha=2), torch.sub(a + e, c, alpha=2)
    third = torch.sub(far / 4, near, alpha=1 / 2)
    fourth = torch.sub(outer / 6, inner, alpha=2 / 3)
    second = torch.sub(inner * (4 / 3), outer, alpha=1 / 12)
    return [torch.sub(near * (2 / 3), far, alpha=1 / 12), second, third, fourth], [second, 2 * third, 3 * fourth]


def _polynomial(coefficients: Sequence[Tensor], x: Tensor) -> Tensor:
    """Value of a polynomial whose coefficients begin with that of x ** 0."""
    *rest, value = coefficients
    for coefficient in reversed(rest):
        value = torch.addcmul(coefficient, value, x)
    return value


def interval(
    curve: Tensor, place: Tensor, top: Tensor, threshold: Tensor | float, at_two: Tensor | bool = False
) -> tuple[Tensor, Tensor]:
    """Places around the maximum up to which 2 (maximum - curve) <= threshold, within the nodes.

    The square root of the ratio is close to a line on either side of the maximum, also where the curve falls by
    thousands from one node to the next, so it is the root that is interpolated. But to a pole: where the curve falls
    before it, its nodes do not tell, and the interval goes up to it.

    Args:
        curve: Values, at least five nodes.
        place: Places of the maxima, shape [curves].
        top: Their values, shape [curves].
        threshold: Of all curves or of each, shape [curves]: ``CHI_SQUARE`` times the dispersion of the curve.
        at_two: As in :func:`maximize`.
    """
    root, end = (2 * (top - curve)).clamp(min=0).sqrt(), len(curve) - 1
    nodes, level = torch.arange(end + 1, dtype=curve.dtype, device=curve.device)[:, None], threshold**0.5
    pole = (curve[-2] - curve[-1] > POLE * (threshold / CHI_SQUARE)) & at_two
    below, above = (nodes < place) & (root > level), (nodes > place) & (root > level) & ~(pole & (nodes == end))
    outside, beyond = _last(below), _first(above)
    low = torch.where(below.any(0), _crossing(root, outside, (outside + 1).clamp(max=end), place, level), 0.0)
    high = torch.where(
        above.any(0),
        _crossing(root, beyond, (beyond - 1).clamp(min=0), place, level),
        end - pole.to(curve) * BEFORE_POLE,
    )
    return low, high


def _crossing(root: Tensor, outside: Tensor, inside: Tensor, place: Tensor, level: Tensor | float) -> Tensor:
    """Where the root passes the level, from a node outside to the next one inside, or to the maximum before it."""
    is_nearer = (inside - place) * (outside - place) < 0
    start = torch.where(is_nearer, place, inside)
    y0, y1 = torch.where(is_nearer, 0.0, at(root, inside)), at(root, outside)
    return start + (outside - start) * ((level - y0) / (y1 - y0))
