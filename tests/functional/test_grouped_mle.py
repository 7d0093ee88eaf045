from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional import _pooled, _tables, grouped_mle
from lightning_tailindex.functional._alone import alphas_alone
from lightning_tailindex.functional._counts import count_values
from lightning_tailindex.functional._curves import maximize
from lightning_tailindex.functional._grid import by_length
from lightning_tailindex.functional._likelihood import as_weights, likelihood
from lightning_tailindex.functional.grouped_mle import pooled_groups
from lightning_tailindex.functional.surrogate import gaussian_surrogate

from .samples import generator, noise, stable


@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_pooled_over_coordinates_of_many_scales_and_locations(alpha: float) -> None:
    rng = generator(0)
    x = noise(alpha, 100, 400, rng) + 5 * torch.randn(400, generator=rng, dtype=torch.float64)
    estimate = grouped_mle(x, pooled=True)
    assert estimate.alpha.item() == pytest.approx(alpha, abs=0.03)
    assert estimate.low <= alpha <= estimate.high
    assert grouped_mle(gaussian_surrogate(x, rng), pooled=True).alpha.item() == pytest.approx(2, abs=0.03)


# The rows of the table of centres: the order-statistic median is right at every number of draws.
@pytest.mark.parametrize(("n", "alpha"), [(16, 1.2), (16, 1.8), (16, 2.0), (32, 1.2), (64, 1.8), (128, 1.5)])
def test_centre_costs_nothing_at_few_draws(n: int, alpha: float) -> None:
    x = noise(alpha, n, 4000, generator(1))
    # At 16 draws and 1.2 the centred values read 1.23.
    assert grouped_mle(x, pooled=True).alpha.item() == pytest.approx(alpha, abs=0.04 if n == 16 else 0.02)
    assert grouped_mle(x, pooled=True, center="none").alpha.item() == pytest.approx(alpha, abs=0.02)


def test_other_centres_do_worse() -> None:
    x = noise(1.2, 16, 4000, generator(2))
    by_mean = grouped_mle(x - x.mean(0), pooled=True, center="none").alpha
    interpolated = grouped_mle(x - x.quantile(0.5, 0), pooled=True, center="none").alpha
    assert by_mean > 1.35
    assert interpolated < 1.18


def test_location_matters_only_without_a_centre() -> None:
    x = stable(1.5, (1000,), generator(3))
    assert torch.allclose(grouped_mle(x).alpha, grouped_mle(x + 8).alpha)
    assert grouped_mle(x + 8, center="none").alpha > 1.9


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_zeros_are_counted_and_left_out(share: float) -> None:
    rng = generator(4)
    x = noise(2.0, 100, 400, rng) * (torch.rand(100, 400, generator=rng) >= share)
    estimate = grouped_mle(x, pooled=True)
    assert estimate.alpha.item() == pytest.approx(2, abs=0.01)
    assert estimate.zero_share.item() == pytest.approx(share, abs=0.01)
    assert estimate.num_values.item() == pytest.approx(400 * 99 * (1 - share), rel=0.02)


def test_the_zero_of_the_centre_is_no_zero_share() -> None:
    x = torch.arange(20.0) - 4.5
    assert grouped_mle(x).zero_share == 0
    assert grouped_mle(x).num_values == 19
    assert grouped_mle(x, center="none").num_values == 20
    x[[0, 1]] = x.median()  # two more draws at the centre
    assert grouped_mle(x).zero_share.item() == pytest.approx(2 / 19)


def slow_fit(x: Tensor) -> tuple[float, float, float]:
    """Tail index, scale and log-likelihood by Nelder and Mead on cells counted by comparison, no tables."""
    ordered = x.sort().values
    size = (x - ordered[(len(x) - 1) // 2]).abs()
    size = size[size > 0]
    unit = (ordered[len(x) - 1 - len(x) // 4] - ordered[len(x) // 4]) / 2
    edges = torch.tensor([2.0**k * (1 + j / 4) for k in range(-3, 12) for j in range(4)] + [4096.0]).double() * unit
    counts = torch.bincount(torch.bucketize(size, edges, right=True), minlength=62)

    def minus(point: tuple[float, float]) -> float:
        alpha = min(max(point[0], 0.2), 2.0)
        s = SymmetricStable(torch.tensor(alpha, dtype=torch.float64), math.exp(point[1])).log_survival(edges).exp()
        p = torch.cat([1 - s[:1], s[:-1] - s[1:], s[-1:]])
        return -float(torch.xlogy(counts, p.clamp(min=1e-300)).sum()) + 1e3 * abs(point[0] - alpha)

    best = minimize(minus, (1.4, float(unit.log())), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8})
    return float(best.x[0]), math.exp(best.x[1]), -float(best.fun)


@pytest.mark.parametrize("alpha", [0.6, 1.3, 1.7, 1.95])
@pytest.mark.parametrize("n", [50, 250])
def test_equals_a_slow_search_without_tables(alpha: float, n: int) -> None:
    x = 4 * stable(alpha, (n,), generator(5)) + 3
    estimate = grouped_mle(x)
    wanted, scale, log_likelihood = slow_fit(x)
    assert estimate.alpha.item() == pytest.approx(wanted, abs=6e-3 if n == 50 else 3e-3)
    assert estimate.scale.item() == pytest.approx(scale, rel=1e-2 if n == 50 else 5e-3)
    assert estimate.log_likelihood.item() == pytest.approx(log_likelihood, abs=2e-2)


@pytest.mark.parametrize(("alpha", "bound"), [(1.1, 1.219), (1.5, 1.5354), (1.9, 1.127)])
def test_efficiency(alpha: float, bound: float) -> None:
    estimates = grouped_mle(stable(alpha, (1000, 1000), generator(6))).alpha
    assert estimates.sub(alpha).square().mean().mul(1000).sqrt().item() == pytest.approx(bound, rel=0.1)


def test_cell_probabilities_are_exact() -> None:
    table = _tables.log_cells(8, 0.125, 4, 1).transpose(0, 1)
    assert torch.equal(_tables.log_cells(8, 0.125, 4, 4).transpose(0, 1), table[::4])
    alpha, medians, edges = _tables.alpha_grid(), _tables.log_medians(), torch.as_tensor(_tables.log_edges(4))
    u = _tables.scale_unit(alpha)[:, None] * 0.125 * torch.arange(-8, 9)
    x = torch.exp(edges - u[..., None] + medians[:, None, None])
    s = SymmetricStable(alpha[:, None, None]).log_survival(x).exp()
    exact = torch.cat([1 - s[..., :1], s[..., :-1] - s[..., 1:], s[..., -1:]], dim=-1)
    assert (table.exp() - exact).abs().max() < 1e-6
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(len(alpha), 17, dtype=torch.float64))
    assert alpha[-1] == 2
    assert alpha[alpha > 1.96].diff().max() < 0.015
    assert bool(table.isfinite().all())


@pytest.mark.parametrize("rank", [3, 20])
def test_interval_of_dependent_coordinates_is_as_wide_as_it_has_to_be(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [noise(1.5, 64, 300, generator(100 + i), rank) for i in range(25)]
    honest = [grouped_mle(x, pooled=True) for x in samples]
    monkeypatch.setattr(_pooled, "dispersion", lambda *_: torch.tensor(1.0, dtype=torch.float64))
    naive = [grouped_mle(x, pooled=True) for x in samples]
    assert sum(bool(e.low < 1.5 < e.high) for e in honest) >= 20
    assert sum(bool(e.low < 1.5 < e.high) for e in naive) <= 10
    widths = torch.stack([torch.stack([e.high - e.low for e in kind]).median() for kind in (honest, naive)])
    assert widths[0] > 4 * widths[1]
    assert all(e.effective_series < 60 for e in honest)


def test_interval_of_independent_coordinates_is_the_naive_one() -> None:
    estimate = grouped_mle(noise(1.5, 64, 300, generator(7)), pooled=True)
    assert estimate.effective_series > 150
    assert 0.03 < estimate.high - estimate.low < 0.08


def test_gaussian_values_gain_nothing_and_stable_ones_do() -> None:
    gaussian, heavy = (grouped_mle(stable(a, (500, 200), generator(8))) for a in (2.0, 1.7))
    assert bool((gaussian.gain >= 0).all())
    assert gaussian.gain.median() < 0.003
    assert heavy.gain.median() > 0.05


def test_light_tails_read_two() -> None:
    signs = torch.randint(0, 2, (500, 3), generator=generator(9)) * 2.0 - 1
    assert grouped_mle(signs, center="none").alpha.tolist() == [2, 2, 2]
    assert grouped_mle(torch.rand(500, 3, generator=generator(10))).alpha.tolist() == [2, 2, 2]


def test_lower_end_of_the_grid_is_told() -> None:
    x = stable(0.1, (400, 3), generator(11)).clamp(-1e300, 1e300)
    for pooled in (False, True):
        estimate = grouped_mle(x, pooled=pooled)
        assert estimate.alpha.unique().tolist() == [pytest.approx(0.2)]
        assert "α at the lower end of its range, 0.2" in estimate.note
    assert grouped_mle(stable(0.4, (400, 3), generator(12))).note == ""


@pytest.mark.parametrize("n", [9, 10, 12, 17])
def test_few_draws(n: int) -> None:
    x = noise(1.5, n, 500, generator(13))
    each, pooled = grouped_mle(x), grouped_mle(x, pooled=True)
    assert bool(each.alpha.isfinite().all())
    assert bool((each.low < each.high).all())
    assert pooled.alpha.item() == pytest.approx(1.5, abs=0.12)
    assert grouped_mle(x[:8]).alpha.isnan().all()  # one draw is the centre
    assert grouped_mle(x[:8], center="none").alpha.isfinite().all()


def test_series_of_different_lengths_share_a_grid() -> None:
    x = stable(1.6, (250, 2), generator(14))
    x[20:, 1] = 0
    together = grouped_mle(x, center="none")
    assert together.num_values.tolist() == [250, 20]
    assert torch.allclose(together.alpha[1], grouped_mle(x[:20, 1], center="none").alpha, atol=0.01)


def test_extreme_units() -> None:
    x = stable(1.5, (200, 2), generator(15)).clamp(-1e4, 1e4)
    wanted = grouped_mle(x).alpha
    for unit in (1e-300, 1e300):
        assert torch.allclose(grouped_mle(x * unit).alpha, wanted, atol=1e-6)
    assert torch.allclose(grouped_mle((x * 1e33).float()).alpha.double(), wanted, atol=1e-3)


def test_unknown_centre() -> None:
    with pytest.raises(ValueError, match=r'center "median" or "none", got \'mean\''):
        grouped_mle(torch.ones(9), center="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 1e-39), (torch.float64, 1e-310)])
def test_units_whose_reciprocal_is_infinite_give_nan_and_a_note(dtype: torch.dtype, unit: float, pooled: bool) -> None:
    x = torch.randn(400, 2, generator=generator(0), dtype=dtype)
    found = grouped_mle(x * unit, pooled=pooled)
    assert found.alpha.isnan().all()
    assert found.note == "2 of 2 series left out: sizes that are not told apart"
    assert torch.allclose(grouped_mle(x * 1000 * unit, pooled=pooled).alpha, grouped_mle(x, pooled=pooled).alpha)


@pytest.mark.parametrize("alpha", [1.9985, 1.9995])
def test_intervals_hold_what_lies_between_the_last_node_and_two(alpha: float) -> None:
    x = stable(alpha, (100_000, 40), generator(3))
    found = grouped_mle(x, center="none")
    assert ((found.low <= alpha) & (alpha <= found.high)).sum() >= 36
    assert (found.high < 2)[found.gain * found.num_values > 10].all()  # where a value is there that 2 cannot have
    pooled = pooled_groups(list(torch.split(x, 10_000)), center="none")
    assert sum(bool(each.low <= alpha <= each.high) for each in pooled) >= 8


@pytest.mark.parametrize(("n", "period", "pooled"), [(512, 2, False), (4096, 16, False), (4096, 16, True)])
def test_draws_of_two_kinds_in_turns_read_what_they_do_in_any_order(n: int, period: int, pooled: bool) -> None:
    x = torch.randn(n, 20, generator=generator(60))
    x[::period] *= 100
    shuffled = x[torch.randperm(n, generator=generator(61))]
    found = [grouped_mle(each, pooled=pooled).alpha for each in (x, x.roll(1, 0), shuffled)]
    assert torch.stack(found).std(0).max() < 0.08


def two_modes(seed: int) -> Tensor:
    """Values whose sizes, around one of them, are next to nothing or 2."""
    return torch.randn(1000, generator=generator(seed)).sign() * (1 + 0.01 * torch.rand(1000, generator=generator(70)))


def flat_with_a_peak(seed: int) -> Tensor:
    rng = generator(seed)
    is_flat = torch.rand(1000, generator=rng) < 0.65
    return torch.where(is_flat, 60 * torch.rand(1000, generator=rng) - 30, torch.randn(1000, generator=rng))


@pytest.mark.parametrize("sample", [two_modes, flat_with_a_peak])
def test_the_maximum_is_found_far_from_the_unit_of_the_cells(sample: Callable[[int], Tensor]) -> None:
    x = torch.stack([sample(seed) for seed in range(60)], dim=1)
    cells = count_values(x, "median", 4)
    ((series, grid),) = by_length(cells, 4)
    widest = replace(grid, half=320)
    tops = [likelihood(as_weights(cells.counts, own, grid), widest).profile for own in torch.split(series, 20)]
    place, top = maximize(torch.cat(tops, dim=1), at_two=True)
    found = grouped_mle(x)
    assert torch.allclose(found.log_likelihood.double(), top.double(), atol=0.1)
    assert torch.allclose(found.alpha.double(), grid.alpha_at(place), atol=0.01)
    assert torch.allclose(alphas_alone(cells, 4), found.alpha.double(), atol=0.01)
