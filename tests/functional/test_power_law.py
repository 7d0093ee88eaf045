from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import powerlaw
import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import hill, power_law
from lightning_tailindex.records import TailIndexEstimate

from .samples import Law, generator, noise, pareto, stable


def fitted(x: Tensor, x_min: float | None = None) -> powerlaw.Fit:
    with redirect_stdout(StringIO()):  # it prints its progress
        return powerlaw.Fit(x.abs().numpy(), xmin=x_min)


@pytest.mark.parametrize("law", [pareto, stable])
@pytest.mark.parametrize("alpha", [0.4, 1.2, 1.9])
@pytest.mark.parametrize("n", [20, 501])
def test_chooses_what_powerlaw_chooses(law: Law, alpha: float, n: int) -> None:
    x = 1e-3 * law(alpha, (n, 4), generator(0))
    estimate = power_law(x)
    wanted = [fitted(series) for series in x.T]
    assert estimate.scale.tolist() == [fit.xmin for fit in wanted]
    assert estimate.alpha.tolist() == pytest.approx([fit.alpha - 1 for fit in wanted], rel=1e-6)
    assert estimate.num_values.tolist() == [fit.n_tail for fit in wanted]
    likelihood = [fit.power_law.loglikelihoods(fit.data).sum() for fit in wanted]
    assert estimate.log_likelihood.tolist() == pytest.approx(likelihood, rel=1e-6)


def test_chooses_what_powerlaw_chooses_among_repeated_values() -> None:
    x = (pareto(1.3, (400, 4), generator(1)) * 5).round() / 5 + 1e-9
    x = x.abs()
    estimate = power_law(x)
    wanted = [fitted(series) for series in x.T]
    assert estimate.scale.tolist() == [fit.xmin for fit in wanted]
    assert estimate.alpha.tolist() == pytest.approx([fit.alpha - 1 for fit in wanted], rel=1e-6)


@pytest.mark.parametrize("estimator", [power_law, hill])
@pytest.mark.parametrize("seed", range(5))
def test_ties_are_no_tail_in_any_precision(estimator: Callable[..., TailIndexEstimate], seed: int) -> None:
    whole = torch.randint(-3, 4, (500, 1), generator=generator(seed)).double()
    clipped = pareto(1.5, (500, 1), generator(seed)).clamp(-5, 5).double()
    x = torch.cat([whole, clipped, clipped * 0.1], 1)
    found = estimator(x)
    assert found.alpha.max() < 10
    assert torch.allclose(found.alpha, estimator(x.float()).alpha.double(), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_at_x_min_are_no_tail(dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, *[0.6] * 20], dtype=dtype)
    assert power_law(x, x_min=0.6).note == "1 of 1 series left out: no |x| beyond the threshold"


@pytest.mark.parametrize("x_min", [0.7, 1.0, 2.5])
def test_agrees_with_powerlaw_at_a_given_x_min(x_min: float) -> None:
    x = stable(1.2, (500, 5), generator(2))
    x[7] = x_min
    estimate = power_law(x, x_min=x_min)
    wanted = [fitted(series, x_min).power_law.alpha - 1 for series in x.T]
    assert estimate.alpha.tolist() == pytest.approx(wanted, rel=1e-6)
    assert estimate.scale.tolist() == [x_min] * 5
    assert estimate.num_values.tolist() == (x.abs() >= x_min).sum(0).tolist()


def slow_distance(size: np.ndarray, x_min: float) -> float:
    tail = size[size >= x_min]
    total = sum(math.log(v / x_min) for v in tail)
    alpha = len(tail) / total
    return max(abs(1 - (v / x_min) ** -alpha - sum(tail < v) / len(tail)) for v in tail)


@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_equals_an_obvious_loop(zeros: float) -> None:
    rng = generator(3)
    x = stable(1.3, (120, 4), rng) * (torch.rand(120, 4, generator=rng) >= zeros)
    estimate = power_law(x)
    for series, scale, alpha in zip(x.T, estimate.scale, estimate.alpha, strict=True):
        size = series[series != 0].abs().sort().values.numpy()
        best = min(sorted(set(size))[:-1], key=lambda x_min: slow_distance(size, x_min))
        assert float(scale) == best
        tail = size[size >= best]
        assert float(alpha) == pytest.approx(len(tail) / np.log(tail / best).sum())


def test_interval_is_exact_for_given_x_min() -> None:
    estimate = power_law(pareto(1.5, (900, 2000), generator(4)), x_min=2.0)
    assert ((estimate.low < 1.5) & (estimate.high > 1.5)).double().mean().item() == pytest.approx(0.95, abs=0.015)


def test_interval_of_chosen_x_min_misses_a_little_more() -> None:
    estimate = power_law(pareto(1.5, (900, 1000), generator(5)))
    assert ((estimate.low < 1.5) & (estimate.high > 1.5)).double().mean().item() == pytest.approx(0.92, abs=0.025)


def test_gaussian_noise_reads_large() -> None:
    x = torch.randn(2000, 5, generator=generator(6), dtype=torch.float64)
    assert bool((power_law(x).alpha > 2.5).all())
    assert bool((power_law(pareto(1.0, (2000, 5), generator(6))).alpha < 1.5).all())


@pytest.mark.parametrize("x_min", [None, 0.5])
def test_pooled_averages_one_over_alpha(x_min: float | None) -> None:
    x = noise(1.5, 200, 20, generator(7), law=pareto)
    pooled, each = power_law(x, x_min=x_min, pooled=True), power_law(x, x_min=x_min)
    assert pooled.alpha.item() == pytest.approx(1 / (1 / each.alpha).nanmean().item())
    assert bool(pooled.low < pooled.alpha < pooled.high)


def test_pooled_interval_covers() -> None:
    estimates = [power_law(pareto(1.5, (144, 40), generator(100 + i)), x_min=2.0, pooled=True) for i in range(100)]
    assert 88 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_no_value_beyond_x_min() -> None:
    x = pareto(1.5, (100, 2), generator(8)).clamp(-50, 50)
    x[:, 0] *= 1e-3
    for pooled in (False, True):
        estimate = power_law(x, x_min=1.5, pooled=pooled)
        assert estimate.note == "1 of 2 series left out: no |x| beyond the threshold"
        assert estimate.scale.isnan().tolist() == [True, False]


@pytest.mark.parametrize("x_min", [0.0, -1.0, math.inf, math.nan])
def test_x_min_out_of_range(x_min: float) -> None:
    with pytest.raises(ValueError, match=f"power_law needs a positive, finite x_min, got x_min={x_min}"):
        power_law(torch.ones(30), x_min=x_min)


def test_a_tail_in_one_block_of_draws_is_said_to_be() -> None:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    x[5] = 100
    found = power_law(x, x_min=50.0, pooled=True)
    assert found.alpha.isnan()
    assert found.note == "no usable series is left without each of the blocks of draws"


@pytest.mark.parametrize("x_min", [1e39, 1e-300])
def test_an_x_min_beyond_the_precision_is_refused(x_min: float) -> None:
    x = torch.rand(64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"needs an x_min that torch.float32 can tell from 0 and infinity, got x_min="):
        power_law(x, x_min=x_min)
    assert power_law(x.double(), x_min=x_min).num_values == (64 if x_min < 1 else 0)
