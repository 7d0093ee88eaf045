"""How large the likelihood ratio of a stable law against the Gaussian is where the Gaussian holds."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ._counts import count_values
from ._each import fit_each
from ._pooled import search
from .surrogate import gaussian_surrogate

_PER_OCTAVE = 4
_NULL_SERIES = 4000
_LONGEST_NULL = 2**12  # beyond, the law of the ratio hardly changes
_SEED = 20260101
# Of series that share their draws, more tell hardly more of one likelihood ratio.
_SURROGATE_SERIES = 64


@lru_cache(maxsize=32)
def null_ratios(n: int) -> Tensor:
    """Likelihood ratios of Gaussian series of n values, ascending, by simulation from a fixed seed."""
    x = torch.randn(n + 1, _NULL_SERIES, generator=torch.Generator().manual_seed(_SEED))  # one of them is the centre
    cells = count_values(x, "median", _PER_OCTAVE)
    fit = fit_each(cells, _PER_OCTAVE)
    return (2 * fit.gain * cells.num_values).sort().values


def gaussian_p_value(ratio: Tensor, num_values: Tensor) -> Tensor:
    """Share of Gaussian series of about the same length whose ratio is at least as large, shape [series]."""
    p_value = torch.full_like(ratio, math.nan)
    halves = num_values.clamp(1, _LONGEST_NULL).double().log2().mul(2).round()
    for half in torch.unique(halves[~ratio.isnan()]).tolist():
        null, where = null_ratios(round(2 ** (half / 2))).to(ratio), (halves == half) & ~ratio.isnan()
        below = torch.searchsorted(null, ratio[where].contiguous())
        p_value[where] = (len(null) - below + 1).to(ratio) / (len(null) + 1)
    return p_value


def surrogate_p_value(x: Tensor, usable: Tensor, num_surrogates: int, generator: torch.Generator | None) -> Tensor:
    """Share of Gaussian surrogates of x [n, series] whose pooled ratio is at least as large as that of x, shape [].

    Of x and its surrogates the same evenly spaced series are taken, with the same zeros left out.
    """
    index = usable.nonzero()[:, 0]
    if len(index) == 0:
        return x.new_full((), math.nan)
    x = x[:, index[:: -(-len(index) // _SURROGATE_SERIES)]]
    surrogates = [gaussian_surrogate(x, generator) for _ in range(num_surrogates)]
    together = torch.cat([x, *(torch.where(x == 0, 0, surrogate) for surrogate in surrogates)], dim=1)
    found = search(count_values(together, "median", _PER_OCTAVE), [x.shape[1]] * (1 + num_surrogates), _PER_OCTAVE)
    ratio = found.curve.amax(0) - found.curve[-1]
    return (1 + (ratio[1:] >= ratio[0]).sum()) / (1 + num_surrogates)
