"""How large the likelihood ratio of a stable law against the Gaussian is where the Gaussian holds."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ._counts import PER_OCTAVE, count_values
from ._each import fit_each
from ._search import ALTERNATIVES, Groups
from .surrogate import gaussian_surrogates

_NULL_SERIES = 4000
_LONGEST_NULL = 2**12  # beyond, the law of the ratio hardly changes
_SEED = 20260101
# Of series that share their draws, more tell hardly more of one likelihood ratio.
_SURROGATE_SERIES = 64


@lru_cache(maxsize=32)
def null_ratios(n: int) -> Tensor:
    """Likelihood ratios of Gaussian series of n values, ascending, by simulation from a fixed seed."""
    generator = torch.Generator().manual_seed(_SEED)
    # one more, which is the centre
    x = torch.randn(n + 1, _NULL_SERIES, generator=generator, dtype=torch.float32, device="cpu")
    cells = count_values(x, "median", PER_OCTAVE)
    fit = fit_each(cells, PER_OCTAVE)
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


def surrogate_p_values(groups: Groups, num_surrogates: int, generator: torch.Generator | None) -> Tensor:
    """Shares of Gaussian surrogates whose pooled ratio is at least as large as that of the values, shape [groups].

    The ratio is that of the better of two alternatives near 2: it tells as much as that of the maximum, which would
    have to be looked for between the coarse nodes, or ratios of 0 would tie.

    Of a group and of its surrogates the same evenly spaced series are taken, with the same zeros left out. The
    surrogates of all groups come from the same random numbers, as those of the series of one group do.

    Args:
        groups: The groups.
        num_surrogates: Surrogates of each group.
        generator: Source of their randomness on the device of the values; None takes torch's default one.
    """
    taken = [own[:: -(-max(len(own), 1) // _SURROGATE_SERIES)] for own in _usable(groups)]
    sizes, laps = [len(own) for own in taken], 1 + num_surrogates
    x = groups.x.index_select(1, torch.cat(taken))
    surrogates = torch.where(x == 0, 0, gaussian_surrogates(x, num_surrogates, generator))
    rows = torch.cat([x[None], surrogates]).permute(2, 0, 1)  # so that the draws of a series will lie together
    rows = torch.cat([part.transpose(0, 1).flatten(0, 1) for part in torch.split(rows, sizes)])
    wide = [size for size in sizes for _ in range(laps)]
    ratio = Groups.of(rows.T, wide, "median", PER_OCTAVE, reach=ALTERNATIVES).search.gaussian_ratios.reshape(-1, laps)
    p_value = (1 + (ratio[:, 1:] >= ratio[:, :1]).sum(1)).double() / laps
    return torch.where(groups.search.filled, p_value, math.nan)


def _usable(groups: Groups) -> list[Tensor]:
    """Which of all series are usable, for each group."""
    return [own.start + groups.cells.usable[own].nonzero()[:, 0] for own in groups.own()]
