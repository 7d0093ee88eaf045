"""Counts of a stream, of which some series may have come far more often than others."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_tailindex import TailIndex
from lightning_tailindex.functional._stream import add_counts, empty_counts, estimate_counts

from .samples import generator, stable


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_many_values_of_one_series_change_nothing_for_the_others(alpha: float) -> None:
    few = empty_counts(30, 4)
    add_counts(few, stable(alpha, (1000, 30), generator(1)), 4)
    many = empty_counts(1, 4)
    add_counts(many, stable(1.5, (100_000, 1), generator(2)), 4)
    together, alone = (estimate_counts(x, 4, pooled=False) for x in (torch.cat([few, 100 * many]), few))
    for name in ("alpha", "low", "high", "scale", "gain", "log_likelihood", "num_values"):
        assert torch.allclose(getattr(together, name)[:-1], getattr(alone, name), rtol=1e-3, atol=1e-6), name
    busy = estimate_counts(100 * many, 4, pooled=False)
    assert torch.allclose(together.high[-1] - together.low[-1], busy.high - busy.low, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, "torch.BFloat16Tensor"])
def test_counts_stay_whole_numbers_whatever_the_precision_of_the_metric(dtype: torch.dtype | str) -> None:
    x = stable(1.5, (4000, 2), generator(5)).float()
    expected, metric = TailIndex(2), TailIndex(2)
    for part in (x[:3000], x[3000:]):
        expected.update(part)
        metric.update(part)
        metric.set_dtype(dtype)
    assert metric.counts.dtype == torch.long
    assert torch.equal(metric.counts, expected.counts)
    assert metric.compute() == expected.compute()
    metric.reset()
    metric.update(x)
    assert metric.compute() == expected.compute()
    kept = TailIndex(2, "hill").set_dtype(dtype)
    kept.update(x)
    assert isinstance(dtype, str) or kept.last_4096_differences[0].dtype == dtype


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("scale", [2.0**-90, 2.0**-82, 2.0**-80, 2.0**-78, 2.0**-77, 2.0**37, 2.0**46, 2.0**49])
def test_sizes_that_are_not_told_apart_are_said_to_be(scale: float, pooled: bool) -> None:
    alpha = 1.2
    x = stable(alpha, (4000, 2), generator(6))
    x[:, 1] *= scale
    counts = empty_counts(2, 4)
    add_counts(counts, x, 4)
    found = estimate_counts(counts, 4, pooled=pooled)
    good = estimate_counts(counts[:1], 4, pooled=pooled)
    if found.note:
        assert found.note in {
            "1 of 2 series left out: sizes that are not told apart",
            "1 of 2 series left out: constant values",
        }
        assert torch.equal(found.alpha.reshape(-1)[:1], good.alpha.reshape(-1))
        assert pooled or math.isnan(found.alpha[1])
    else:
        assert torch.allclose(found.alpha, torch.tensor(alpha), atol=0.07)


@pytest.mark.parametrize(("exponent", "is_told"), [(-81, False), (-70, True), (33, True), (47, False)])
def test_which_sizes_are_told_apart(exponent: int, is_told: bool) -> None:
    counts = empty_counts(1, 8)
    add_counts(counts, stable(1.5, (4000, 1), generator(7)) * 2.0**exponent, 8)
    assert (estimate_counts(counts, 8, pooled=False).note == "") == is_told


@pytest.mark.parametrize("alpha", [1.5, 1.998])
def test_intervals_of_many_values_hold_the_truth(alpha: float) -> None:
    counts = empty_counts(20, 4)
    for seed in range(5):
        add_counts(counts, stable(alpha, (200_000, 20), generator(seed)), 4)
    found = estimate_counts(counts, 4, pooled=False)
    assert ((found.low <= alpha) & (alpha <= found.high)).sum() >= 18
    assert (found.high - found.low).median() < 0.01
