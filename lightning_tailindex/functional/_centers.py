"""What the values of each series are counted from and in units of: a draw in the middle, and a rough unit."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from lightning_tailindex.kernels import compiled

from .median import quartiles

Center = Literal["median", "none"]

# Draws of each series that its centre and its unit are taken from: all up to so many, one of each few beyond, at least
# one of sixteen.
_FEWEST_SORTED = 256
_WIDEST_SPACING = 16
# Where zeros leave fewer of these draws, all of a series' draws are looked at.
_FEWEST_NONZERO = 128
_AT_ONCE = 1 << 18  # values of which that is done


def spacing(n: int) -> int:
    """Of how many draws, n in all, the centre and the unit are taken from one."""
    return min(-(-n // _FEWEST_SORTED), _WIDEST_SPACING)


def middle_and_unit(x: Tensor, center: Center) -> tuple[Tensor, Tensor]:
    """Finds a draw in the middle of each series, or 0, and about the median distance from it, both of shape [series].

    Args:
        x: Values, shape [n, series].
        center: Whether there is to be a middle.
    """
    n = len(x)
    middle, unit, present = _from(x, _looked_at(n) if spacing(n) > 1 else None, center)
    few = (present < _FEWEST_NONZERO).nonzero()[:, 0] if spacing(n) > 1 else torch.empty(0, dtype=torch.long)
    for some in torch.split(few, max(1, _AT_ONCE // n)) if len(few) > 0 else ():
        found = _from(x.index_select(1, some), None, center)
        middle, unit = (old.index_copy(0, some, new) for old, new in zip((middle, unit), found[:2], strict=True))
    tied = (unit == 0).nonzero()[:, 0]  # half of the draws are the same
    if len(tied) > 0:
        own = x[:, tied]
        distance = torch.where(own == 0, 0.0, (own - middle[tied]).abs())  # zeros are left out here too
        unit = unit.index_copy(0, tied, quartiles(distance.T.contiguous())[1])
    return middle, unit


@lru_cache(maxsize=64)
def _looked_at(n: int) -> Tensor:
    """Which draws are: any of each few, because evenly spaced ones may all be of one kind of minibatches."""
    few = spacing(n)
    start = torch.arange(0, n, few, device="cpu")
    share = torch.rand(len(start), generator=torch.Generator().manual_seed(n), dtype=torch.float64, device="cpu")
    return start + (share * (n - start).clamp(max=few)).long()


def _from(x: Tensor, places: Tensor | None, center: Center) -> tuple[Tensor, Tensor, Tensor]:
    """Middle and unit from some draws, or from all, and how many of these are not 0.

    Half the distance of the quartiles is the median distance where the law is symmetric, and takes no second sorting.
    """
    (first, middle, third), present = _quartiles(x, places, absolute=center == "none")
    if center == "none":
        return torch.zeros_like(middle), middle, present
    return middle.contiguous(), third / 2 - first / 2, present  # in place among the sorted it would be read slowly


def _quartiles(x: Tensor, places: Tensor | None, *, absolute: bool) -> tuple[tuple[Tensor, ...], Tensor]:
    rows = len(x) if places is None else len(places)
    if compiled.suit(x) and rows <= compiled.MOST_SORTED:
        places = torch.arange(rows, device="cpu") if places is None else places
        found, present = compiled.quartiles(x, places, absolute=absolute)
        return found.unbind(), present
    own = (x if places is None else x.index_select(0, places.to(x.device))).T
    own = own.clone(memory_format=torch.contiguous_format)
    return quartiles(own.abs() if absolute else own), own.bool().sum(1)
