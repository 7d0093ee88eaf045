from __future__ import annotations

import math

import pytest
import torch

from lightning_tailindex.functional import _settling, grouped_mle
from lightning_tailindex.functional._pooled import Pooled
from lightning_tailindex.functional._search import ALTERNATIVES, INTERVAL, MAXIMUM, Groups, Reach

from .samples import generator, noise

EVERYWHERE = Reach(0, 0.0)
ALPHAS = (0.3, 0.7, 1.1, 1.5, 1.8, 2.0)


def counted(reach: Reach, n: int, rank: int | None) -> Groups:
    samples = [noise(alpha, n, 60, generator(i), rank) for i, alpha in enumerate(ALPHAS)]
    x, sizes = torch.cat(samples, dim=1), [60] * len(samples)
    return Groups.of(x, sizes, "median", 4, keep_index=True, reach=reach)


@pytest.mark.parametrize("rank", [3, None])
@pytest.mark.parametrize("n", [16, 64, 256])
def test_a_search_that_looks_high_first_finds_what_one_everywhere_finds(n: int, rank: int | None) -> None:
    groups, everywhere = counted(INTERVAL, n, rank), counted(EVERYWHERE, n, rank)
    fit, wanted = Pooled(groups).fit(), Pooled(everywhere).fit()
    for field in ("alpha", "low", "log_likelihood", "gain"):
        torch.testing.assert_close(getattr(fit, field), getattr(wanted, field), rtol=1e-5, atol=1e-5)
    for field in ("high", "effective_series"):
        torch.testing.assert_close(getattr(fit, field), getattr(wanted, field), rtol=5e-4, atol=5e-5)
    # a series may have wider scales in one of them: a hundredth of what its own scale is known to
    torch.testing.assert_close(fit.log_ratio, wanted.log_ratio, rtol=0, atol=1e-2)
    assert bool(groups.search.curve[0].isinf()[-1])
    assert bool(groups.search.curve[0].isfinite()[0])
    assert bool(everywhere.search.curve.isfinite().all())


@pytest.mark.parametrize("n", [16, 64])
def test_so_does_one_for_maxima_alone(n: int) -> None:
    groups, everywhere = counted(MAXIMUM, n, 20), counted(EVERYWHERE, n, 20)
    torch.testing.assert_close(Pooled(groups).alpha, Pooled(everywhere).alpha, rtol=1e-5, atol=1e-5)
    assert int(groups.search.curve.isinf().any(0).sum()) > int(counted(INTERVAL, n, 20).search.curve[10].isinf().sum())


@pytest.mark.parametrize("n", [16, 64])
def test_so_does_one_for_the_ratio_against_the_gaussian(n: int) -> None:
    ratios, wanted = (counted(reach, n, 20).search.gaussian_ratios for reach in (ALTERNATIVES, EVERYWHERE))
    # those far beyond what chance gives are told by fewer scales where the maximum is far from the Gaussian
    torch.testing.assert_close(ratios.clamp(max=40), wanted.clamp(max=40), rtol=1e-5, atol=1e-3)
    assert bool((ratios[3:5] > 10).all())
    assert bool(ratios[-1] < 0)
    assert min(ratios[0], wanted[0]) > 1e3  # where the scales of a Gaussian are beyond those looked at


@pytest.mark.parametrize("seed", range(3))
def test_scales_are_as_wide_as_all_series_together_need(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    x = noise(1.9, 12, 2000, generator(seed))  # short series: few lose much on their own scales, most lose a little
    found = grouped_mle(x, pooled=True)
    for share in ("_EDGE", "_OWN_EDGE"):
        monkeypatch.setattr(_settling, share, -1.0)  # everything on the widest scales
    wanted = grouped_mle(x, pooled=True)
    torch.testing.assert_close(found.alpha, wanted.alpha, rtol=0, atol=5e-5)


def test_some_of_the_groups_are_what_they_are_among_all() -> None:
    groups = counted(INTERVAL, 64, 20)
    few, all_of_them = Pooled(groups.first(3)).fit(), Pooled(groups).fit()
    for field in ("alpha", "low", "high", "gain"):
        torch.testing.assert_close(getattr(few, field), getattr(all_of_them, field)[:3])
    assert len(few.log_ratio) == 180


def test_without_series_there_is_no_index() -> None:
    groups = Groups.of(torch.full((64, 3), math.nan), [3, 0], "median", 4)
    assert bool(Pooled(groups).alpha.isnan().all())
    assert not bool(groups.search.filled.any())
