"""Series in the form that tests of Gaussianity start from: sorted, of mean 0 and length 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import FEWEST_VALUES, screened
from ._precision import in_double
from ._values import as_series
from .median import sorted_rows


@dataclass(frozen=True)
class Ordered:
    """Series in the only form that the tests know.

    Attributes:
        values: Ascending, of mean 0 and length 1, in float64, shape [n, series].
        usable: Whether a series can be tested, shape [series].
        note: What was left out.
    """

    values: Tensor
    usable: Tensor
    note: str


def departures(x: Tensor) -> Tensor:
    """Departures from the first draw, in float64, shape [n, series]: exactly 0 where a series is constant."""
    wide = as_series(in_double(x))
    return wide - wide[0]


def ordered(x: Tensor) -> Ordered:
    """Sorts and standardizes each series."""
    departure = departures(x)
    finite, varies = departure.isfinite().all(0), (departure != 0).any(0)
    few = torch.full_like(finite, len(x) < FEWEST_VALUES)
    within_one = departure / departure.abs().amax(0)  # so that no square overflows
    values = sorted_rows(within_one.T.contiguous()).T
    values = values - values.mean(0)
    usable, note = screened(finite, varies, {f"fewer than {FEWEST_VALUES} values": few})
    return Ordered(values / values.norm(dim=0), usable, note)
