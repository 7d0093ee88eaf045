"""How often the intervals hold the truth, and how often the test rejects it."""

from __future__ import annotations

from itertools import product

import torch
from shared import generator, name_of_rank, noise, stable, table
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional.law_fit import law_fit
from lightning_tailindex.records import TailIndexEstimate

SERIES_ALPHAS = [1.1, 1.3, 1.5, 1.7, 1.9, 1.95, 2.0]
POOLED_ALPHAS = [1.3, 1.5, 1.8, 1.9, 2.0]
RANKS = [3, 20, None]
_COORDINATES = 300

Coverage = dict[tuple[int, int | None], dict[float, tuple[float, float]]]


def _holds(found: TailIndexEstimate, alpha: float) -> Tensor:
    return (found.low <= alpha + 1e-6) & (alpha - 1e-6 <= found.high)


def series_coverage(quick: bool) -> dict[int, dict[float, tuple[float, int]]]:
    """By length and alpha: the share of intervals that hold alpha, and of how many."""
    count, found = 400 if quick else 4000, {}
    for n in (500, 1000):
        found[n] = {}
        for place, alpha in enumerate(SERIES_ALPHAS):
            x = stable(alpha, (n, count), generator(30_000 + n + place))
            found[n][alpha] = (float(_holds(grouped_mle(x), alpha).double().mean()), count)
    return found


def pooled_repetitions(quick: bool) -> int:
    """How many samples the pooled interval is tried on: the error of a coverage of .9 is then 1.5 points."""
    return 20 if quick else 400


def pooled_coverage(quick: bool) -> Coverage:
    """By draws, rank and alpha: the share of pooled intervals that hold alpha, and their median width."""
    found: Coverage = {}
    for draws in (64, 256):
        for rank in RANKS:
            found[draws, rank] = {}
            for alpha in POOLED_ALPHAS:
                rng = generator(40_000 + draws + 1000 * (rank or 0) + round(100 * alpha))
                samples = (noise(alpha, draws, _COORDINATES, rng, rank) for _ in range(pooled_repetitions(quick)))
                fits = [grouped_mle(x, pooled=True) for x in samples]
                width = torch.stack([fit.high - fit.low for fit in fits]).median()
                share = torch.stack([_holds(fit, alpha) for fit in fits]).double().mean()
                found[draws, rank][alpha] = (float(share), float(width))
    return found


def series_table(found: dict[int, dict[float, tuple[float, int]]]) -> str:
    """Coverage of the intervals of single series."""
    rows = [[f"n = {n}", *[f"{share:.3f}" for share, _ in cells.values()]] for n, cells in found.items()]
    return table(["coverage", *[f"α = {alpha}" for alpha in SERIES_ALPHAS]], rows)


def pooled_table(found: Coverage) -> str:
    """Coverage of the pooled intervals and their median widths."""
    rows = [
        [f"{draws} draws, {name_of_rank(rank)}", *[f"{share:.3f} ({width:.2f})" for share, width in cells.values()]]
        for (draws, rank), cells in found.items()
    ]
    return table(["coverage (median width)", *[f"α = {alpha}" for alpha in POOLED_ALPHAS]], rows)


def size_table(quick: bool) -> str:
    """How often Gaussian noise is rejected at the 5 % level, and how often stable noise is."""
    repetitions, series = (20, 400) if quick else (400, 4000)
    rows = []
    for rank, alpha in product(RANKS, (2.0, 1.95, 1.9)):
        rng = generator(50_000 + (rank or 0) + round(100_000 * (2 - alpha)))
        values = [
            float(law_fit(noise(alpha, 64, 100, rng, rank), pooled=True, num_surrogates=39, generator=rng).p_value)
            for _ in range(repetitions)
        ]
        share = sum(p < 0.051 for p in values) / repetitions
        rows.append([f"pooled, 64 × 100, {name_of_rank(rank)}", f"{alpha:g}", f"{share:.3f}", repetitions])
    for alpha in (2.0, 1.95, 1.9):
        p = law_fit(stable(alpha, (1000, series), generator(51_000 + round(100 * alpha)))).p_value
        rows.append(["one series, n = 1000", f"{alpha:g}", f"{float((p < 0.05).double().mean()):.3f}", series])
    return table(["sample", "α", "share rejected", "of"], rows)
