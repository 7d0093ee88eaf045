from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional._centers import Center
from lightning_tailindex.functional._counts import Cells, count_values
from lightning_tailindex.functional._tables import log_cells

from .samples import generator, noise, stable


def slow(x: Tensor, cells: Cells, series: int, per_octave: int) -> list[int]:
    """Counts of one series by comparing each value with each limit."""
    limits = [2.0**k * (1 + j / per_octave) for k in range(-3, 12) for j in range(per_octave)] + [4096.0]
    counts = [0] * (len(limits) + 1)
    for value in x[:, series].tolist():
        size = abs(value - float(cells.middle[series]))
        if value != 0 and size > 0:
            counts[sum(size / float(cells.unit[series]) >= limit for limit in limits)] += 1
    return counts


@pytest.mark.parametrize("keep_index", [False, True])
@pytest.mark.parametrize("per_octave", [4, 8])
@pytest.mark.parametrize("n", [9, 100, 512, 700])
@pytest.mark.parametrize("center", ["median", "none"])
def test_equals_counting_by_comparison(n: int, center: str, per_octave: int, keep_index: bool) -> None:
    rng = generator(n)
    x = stable(1.2, (n, 3), rng) + 0.5
    x[:, 1] *= torch.rand(n, generator=rng) > 0.3
    x[::2, 2] = x[0, 2]  # half of the draws are the same
    cells = count_values(x, center, per_octave, keep_index=keep_index)
    for series in range(3):
        assert cells.counts[series].tolist() == slow(x, cells, series, per_octave)
        if keep_index:
            kept = cells.index[series].long()
            assert (
                torch.bincount(kept, minlength=cells.counts.shape[1] + 1)[1:].tolist() == cells.counts[series].tolist()
            )
    assert cells.num_values.tolist() == cells.counts.sum(1).tolist()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1.4, 1500, 40, generator(0))
    whole = count_values(x, "median", 4, keep_index=True)
    monkeypatch.setattr("lightning_tailindex.functional._counts._CHUNK", {"cpu": 5000})
    parts = count_values(x, "median", 4, keep_index=True)
    assert all(torch.equal(getattr(whole, name), getattr(parts, name)) for name in ("counts", "index", "unit"))


def test_beyond_256_draws_the_order_matters_slightly() -> None:
    x = stable(1.5, (3000, 40), generator(1))
    shuffled = x[torch.randperm(3000, generator=generator(2))]
    difference = (grouped_mle(x).alpha - grouped_mle(shuffled).alpha).abs()
    assert 0 < difference.max() < 0.75 * 1.535 / math.sqrt(3000)


def test_twice_as_many_cells_are_a_little_more_precise() -> None:
    x = stable(1.5, (1000, 4000), generator(3))
    errors = [grouped_mle(x, cells_per_octave=k).alpha.sub(1.5).square().mean().sqrt() for k in (4, 8)]
    assert errors[1] < errors[0] < 1.03 * errors[1]
    with pytest.raises(ValueError, match=r"grouped_mle needs cells_per_octave 4 or 8, got 4\.0"):
        grouped_mle(torch.ones(20), cells_per_octave=4.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"grouped_mle needs cells_per_octave 4 or 8, got 5"):
        grouped_mle(x, cells_per_octave=5)


@pytest.mark.parametrize("n", [100, 2000])
def test_nan_in_one_series_leaves_the_others_alone(n: int) -> None:
    x = stable(1.5, (n, 3), generator(4))
    x[n // 2 + 1, 1] = math.nan
    bad, good = grouped_mle(x), grouped_mle(x[:, [0, 2]])
    assert bad.alpha.isnan().tolist() == [False, True, False]
    assert torch.equal(bad.alpha[[0, 2]], good.alpha)


@pytest.mark.parametrize("center", ["median", "none"])
@pytest.mark.parametrize("n", [600, 20_000])
def test_however_many_zeros_come_between_nothing_changes(n: int, center: Center) -> None:
    rng = generator(5)
    values = stable(1.2, (40, 25), rng)
    x = torch.zeros(n, 25, dtype=torch.float64)
    for series in range(25):
        x[torch.randperm(n, generator=rng)[:40].sort().values, series] = values[:, series]
    sparse, dense = (count_values(some, center, 4) for some in (x, values))
    for name in ("middle", "unit", "counts", "num_values"):
        assert torch.equal(getattr(sparse, name), getattr(dense, name))
    # A series with values enough among the draws that are looked at has the same as ever.
    x[:, 0] = stable(1.2, (n,), rng)
    beside, alone = count_values(x, center, 4), count_values(x[:, :1], center, 4)
    assert torch.equal(beside.unit[:1], alone.unit)
    assert torch.equal(beside.unit[1:], dense.unit[1:])


def test_ties_and_zeros_together_are_no_values_of_their_own() -> None:
    x = torch.full((24,), 5.0, dtype=torch.float64)
    x[:10] += 1e-3 * torch.randn(10, generator=generator(6), dtype=torch.float64)
    among = torch.cat([x, torch.zeros(40, dtype=torch.float64)])[torch.randperm(64, generator=generator(7))]
    for pooled in (False, True):
        alone, found = grouped_mle(x, pooled=pooled), grouped_mle(among, pooled=pooled)
        assert found.alpha.item() == pytest.approx(alone.alpha.item(), abs=1e-6)
        assert found.scale.item() == pytest.approx(alone.scale.item(), rel=1e-6)
        assert found.gain.isfinite()
        assert found.note == alone.note


@pytest.mark.parametrize("per_octave", [4, 8])
@pytest.mark.parametrize("stride", [1, 4])
def test_probabilities_are_finite_on_the_widest_grid(stride: int, per_octave: int) -> None:
    table = log_cells(320, 0.5, per_octave, stride)
    for precise in (table, table.float()):
        assert precise.isfinite().all()
        assert (precise.double().logsumexp(2).abs() < 1e-5).all()


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("size", [4e-45, 1e-40, 1e37, 3.4e38])
def test_ends_of_single_precision_are_estimated_or_left_out(size: float, pooled: bool) -> None:
    rng = generator(8)
    x = (size * torch.randn(200, 3, generator=rng, dtype=torch.float64).clamp(-1, 1)).float()
    x[:, 1] = size * (torch.rand(200, generator=rng) < 0.3)
    x[:, 2] = size * torch.rand(200, generator=rng).sub(0.4).sign()
    found = grouped_mle(x, pooled=pooled)
    assert found.note != "" or bool(found.alpha.isfinite().all())
    good = found.alpha.isfinite()
    for name in ("low", "high", "gain", "log_likelihood"):
        assert torch.equal(getattr(found, name).isfinite(), good), name
