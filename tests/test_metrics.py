"""The metric is the function of all draws, whichever updates they came by."""

from __future__ import annotations

import math
import pickle
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_tailindex import TailIndex, functional
from lightning_tailindex.functional import group_sum, grouped_mle

from .functional.samples import generator, noise, stable

OTHERS = sorted(set(functional.estimators()) - {"grouped_mle"})


def updated(metric: TailIndex, *parts: Tensor) -> TailIndex:
    for part in parts:
        metric.update(part)
    return metric


def draws(n: int = 1000, seed: int = 0, alpha: float = 1.5) -> Tensor:
    return noise(alpha, n, 3, generator(seed)).float()


def totally_skewed(alpha: float, shape: tuple[int, ...]) -> Tensor:
    """The formula of Chambers, Mallows and Stuck at skewness 1."""
    v = math.pi * (torch.rand(shape, generator=generator(4), dtype=torch.float64) - 0.5)
    w = torch.empty(shape, dtype=torch.float64).exponential_(generator=generator(5))
    shifted = alpha * v + math.atan(math.tan(math.pi * alpha / 2))
    return shifted.sin() / v.cos() ** (1 / alpha) * ((v - shifted).cos() / w) ** ((1 - alpha) / alpha)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 1.8, 1.95, 2.0])
def test_counts_tell_what_the_draws_tell(alpha: float) -> None:
    x = stable(alpha, (4000, 12), generator(0)) * torch.logspace(-18, 8, 12, dtype=torch.float64)
    each, pooled = (updated(TailIndex(12, pooled=pooled, center="none"), x).estimate() for pooled in (False, True))
    kept, pool = grouped_mle(x, center="none"), grouped_mle(x, center="none", pooled=True)
    assert torch.allclose(each.alpha.double(), kept.alpha, atol=0.01, rtol=0)
    assert torch.allclose(each.low.double(), kept.low, atol=0.015, rtol=0)
    assert torch.allclose(each.scale.double(), kept.scale, rtol=0.02)
    assert pooled.alpha.item() == pytest.approx(pool.alpha.item(), abs=0.005)
    assert torch.equal(each.num_values, kept.num_values)
    assert pooled.low <= pool.low <= pool.high <= pooled.high  # series that might all say the same
    assert pooled.effective_series == 1


# The least possible standard deviations of sqrt(n) times the estimate; half as many differences as draws.
@pytest.mark.parametrize(("alpha", "bound"), [(1.3, 1.4176), (1.7, 1.5019), (1.9, 1.1270)])
@pytest.mark.parametrize(("center", "values"), [("none", 1000), ("pairs", 500)])
def test_precision_comes_close_to_the_bound(alpha: float, bound: float, center: Any, values: int) -> None:
    series = 1500
    metric = TailIndex(series, pooled=False, center=center)
    estimate = updated(metric, stable(alpha, (1000, series), generator(1))).estimate()
    error = (estimate.alpha - alpha).square().mean().sqrt() * values**0.5 / bound
    assert 0.94 < error < 1.06
    assert 0.92 < ((estimate.low <= alpha) & (alpha <= estimate.high)).float().mean() < 0.97


@pytest.mark.parametrize("alpha", [1.5, 1.95])
def test_numbers_beyond_those_of_a_sample(alpha: float) -> None:
    x = stable(alpha, (400_000, 2), generator(2)) * torch.tensor([1.45, 1.55])  # between two powers of 2
    estimate, kept = updated(TailIndex(2, pooled=False, center="none"), x).estimate(), grouped_mle(x, center="none")
    for end in ("alpha", "low", "high"):
        assert torch.allclose(getattr(estimate, end).double(), getattr(kept, end), atol=0.002)
    pooled = updated(TailIndex(2, center="none"), x).estimate()
    assert pooled.high - pooled.low == pytest.approx((kept.high - kept.low).mean().item(), rel=0.05)
    often = TailIndex(2, pooled=False, center="none")
    often.counts += 10_000 * updated(often.clone(), x).counts  # as if every value had come so often
    assert torch.allclose(often.estimate().alpha, estimate.alpha, atol=1e-3)
    assert torch.allclose(often.estimate().scale, estimate.scale, rtol=1e-3)
    assert torch.allclose(100 * (often.estimate().high - often.estimate().low), estimate.high - estimate.low, rtol=0.1)


@pytest.mark.parametrize("center", ["pairs", "none"])
def test_updates_and_their_order_make_no_difference(center: Any) -> None:
    parts = [draws(2 * n, seed=n) for n in (1, 7, 100, 300)]
    whole = updated(TailIndex(3, center=center), torch.cat(parts))
    for order in (parts, parts[::-1]):
        assert torch.equal(updated(TailIndex(3, center=center), *order).counts, whole.counts)
    assert not torch.equal(updated(TailIndex(3, center=center), *parts[:-1]).counts, whole.counts)
    assert updated(TailIndex(3, center=center), *parts[:-1]).compute() != whole.compute()


def test_pairs_cancel_location_and_skewness() -> None:
    x = stable(1.5, (4000, 3), generator(3))
    here, there = (updated(TailIndex(3), part).estimate() for part in (x, x + 8))
    assert there.alpha.item() == pytest.approx(here.alpha.item(), abs=1e-3)
    assert torch.allclose(there.scale, torch.ones(3), atol=0.07)  # that of the draws, not of the differences
    assert updated(TailIndex(3, center="none"), x + 8).compute() > 1.9
    skewed = totally_skewed(1.5, (20_000, 3))
    assert updated(TailIndex(3), skewed).compute().item() == pytest.approx(1.5, abs=0.03)
    assert updated(TailIndex(3, center="none"), skewed).compute() > 1.65
    assert grouped_mle(skewed, pooled=True).alpha > 1.53


@pytest.mark.parametrize("estimator", ["grouped_mle", *OTHERS])
@pytest.mark.parametrize("pooled", [False, True])
def test_every_estimator_is_the_function_of_the_draws(estimator: str, pooled: bool) -> None:
    x = draws()
    metric = updated(TailIndex(3, estimator, pooled, "none"), x[:300], x[300:])
    expected = getattr(functional, estimator)(x, pooled=pooled).alpha
    if estimator == "grouped_mle":
        expected = grouped_mle(x, pooled=pooled, center="none").alpha
    assert torch.allclose(metric.compute(), expected, atol=0.02 if estimator == "grouped_mle" else 1e-6)
    assert metric.compute().shape == (() if pooled else (3,))


@pytest.mark.parametrize("estimator", OTHERS)
def test_no_more_than_the_last_draws_are_kept(estimator: str) -> None:
    metric = TailIndex(3, estimator, center="none", max_draws=500)
    for seed in range(40):
        (metric.forward if seed % 2 else metric.update)(draws(64, seed))
        assert sum(part.untyped_storage().nbytes() for part in metric.last_500_draws) <= 500 * 3 * 4
    x = torch.cat([draws(64, seed) for seed in range(40)])
    assert torch.allclose(metric.compute(), getattr(functional, estimator)(x[-500:], pooled=True).alpha)
    assert not torch.allclose(metric.compute(), getattr(functional, estimator)(x, pooled=True).alpha)


def test_draws_that_are_kept_are_a_copy() -> None:
    x = draws()
    metric = updated(TailIndex(3, "hill", center="none"), x)
    x.zero_()
    assert metric.compute() == functional.hill(draws(), pooled=True).alpha


def test_a_function_stands_for_an_estimator_with_options() -> None:
    function = partial(group_sum, group_size=4, permutations=3)
    metric = updated(TailIndex(3, function, center="none"), draws())
    assert metric.compute() == function(draws(), pooled=True).alpha


def test_memory_does_not_grow() -> None:
    metric = TailIndex(2, center="none")
    for seed in range(20):
        metric.update(stable(1.5, (50_000, 2), generator(seed)))
    assert metric.counts.numel() == TailIndex(2).counts.numel() == 2 * (4 * 128 + 2)
    assert metric.counts.sum() == 2_000_000
    assert metric.compute().item() == pytest.approx(1.5, abs=0.005)


@pytest.mark.parametrize("estimator", ["grouped_mle", "hill"])
def test_it_behaves_as_a_metric(estimator: str) -> None:
    x = draws()
    metric = updated(TailIndex(3, estimator), x[:600])
    assert metric(x[600:]) == updated(TailIndex(3, estimator), x[600:]).compute()  # that of the update alone
    whole = updated(TailIndex(3, estimator), x).compute()
    loaded = TailIndex(3, estimator)
    metric.persistent(True)
    loaded.load_state_dict(metric.state_dict())
    for same in (metric, pickle.loads(pickle.dumps(metric)), metric.clone(), metric.to("cpu"), loaded):
        assert same.estimate().alpha == whole
    metric.reset()
    assert updated(metric, x[:600]).compute() == updated(TailIndex(3, estimator), x[:600]).compute() != whole


def test_collections_share_only_states_that_stay_the_same() -> None:
    options: dict[str, dict[str, Any]] = {
        "pooled": {},
        "each": {"pooled": False},
        "none": {"center": "none"},
        "hill": {"estimator": "hill"},
        "hill of 100": {"estimator": "hill", "max_draws": 100},
        "moment": {"estimator": "log_moment"},
    }
    collection = MetricCollection({name: TailIndex(3, **option) for name, option in options.items()})
    for seed in range(4):
        collection.update(draws(64, seed))
    assert sorted(map(len, collection.compute_groups.values())) == [1, 1, 2, 2]
    for name, value in collection.compute().items():
        alone = updated(TailIndex(3, **options[name]), *(draws(64, seed) for seed in range(4)))
        assert torch.equal(value, alone.compute())


def test_collections_do_not_share_draws_and_differences() -> None:
    metrics = {center: TailIndex(3, "quantile", max_draws=16, center=center) for center in ("none", "pairs")}
    alone = {center: updated(metric.clone(), draws()).compute() for center, metric in metrics.items()}
    collection = MetricCollection(dict(metrics))
    collection.update(torch.zeros(64, 3))  # of which both are the same
    collection.update(draws())
    assert collection.compute() == alone
    assert alone["none"] != alone["pairs"]


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_zeros_that_lie_scattered_are_left_out_of_pairs(alpha: float, share: float) -> None:
    x = stable(alpha, (100_000, 1), generator(0))
    x[torch.rand(x.shape, generator=generator(1)) < share] = 0
    found = updated(TailIndex(1), x).estimate()
    assert found.low <= alpha <= found.high
    assert found.zero_share.item() == pytest.approx(1 - (1 - share) ** 2, abs=0.01)
    x[0], x[1] = math.nan, 0  # a pair that is left out, but for what is wrong with it
    assert updated(TailIndex(1), x).compute().isnan()


@pytest.mark.parametrize("estimator", ["grouped_mle", "quantile"])
def test_a_state_of_inference_mode_can_be_added_to(estimator: str) -> None:
    x, metric = draws(), TailIndex(3, estimator)
    with torch.inference_mode():
        metric(x)
    assert updated(metric, x).compute() == updated(TailIndex(3, estimator), x, x).compute()
    with torch.inference_mode():
        metric.reset()
    assert updated(metric, x).compute() == updated(TailIndex(3, estimator), x).compute()


@pytest.mark.parametrize("estimator", ["grouped_mle", "quantile"])
def test_what_was_loaded_is_a_copy(estimator: str) -> None:
    saved = updated(TailIndex(3, estimator), draws())
    saved.persistent(True)
    state, metrics = saved.state_dict(), [TailIndex(3, estimator) for _ in range(2)]
    for metric in metrics:
        metric.persistent(True)
        metric.load_state_dict(state)
    metrics[0].update(draws(seed=1))
    assert metrics[1].estimate().alpha == saved.compute() != metrics[0].compute()
    metrics[1].load_state_dict(state)
    assert metrics[1].estimate().alpha == saved.compute()


def test_one_size_is_not_called_constant() -> None:
    found = updated(TailIndex(1, center="none", pooled=False), 1 + torch.rand(1000, 1, generator=generator(0)) / 5)
    assert found.estimate().note == "1 of 1 series left out: sizes that are not told apart"
    assert updated(TailIndex(1), torch.zeros(20, 1)).estimate().note == "1 of 1 series left out: constant values"


@pytest.mark.parametrize("unit", [1e-60, 1e60])
def test_sizes_beyond_single_precision_are_said_to_be_out_of_reach(unit: float) -> None:
    x = unit * torch.randn(200, 1, generator=generator(0), dtype=torch.float64)
    assert updated(TailIndex(1), x).estimate().note == "1 of 1 series left out: sizes that are not told apart"
    x[3] = torch.inf
    assert updated(TailIndex(1), x).estimate().note == "1 of 1 series left out: NaN or infinite values"


def test_the_scale_by_an_estimate_above_two_is_that_of_gaussian_draws() -> None:
    x = torch.randn(2000, 50, generator=generator(0))
    pairs, draws = (updated(TailIndex(50, "hill", center=center), x).estimate() for center in ("pairs", "none"))
    assert min(pairs.alpha, draws.alpha) > 2
    assert pairs.scale.median() == pytest.approx(float(draws.scale.median()), rel=0.1)


@pytest.mark.parametrize("pooled", [True, False])
def test_an_estimate_of_large_values_is_right_or_left_out(pooled: bool) -> None:
    x = torch.randn(1000, 20, generator=generator(0))
    estimates = [
        updated(TailIndex(20, pooled=pooled, center="none"), x * 2.0**power).estimate() for power in range(30, 48)
    ]
    found = torch.stack([estimate.alpha.nanmean() for estimate in estimates])
    # the median of a Gaussian is .67 of its scale, and units are 2 ** 36 at most
    assert found[:9].tolist() == pytest.approx([found[0].item()] * 9, abs=5e-3)
    assert found[9:].isnan().all()
    note = "20 of 20 series left out: sizes that are not told apart"
    assert all(estimate.note == note for estimate in estimates[9:])


def test_a_default_type_of_half_precision_does_not_round_the_draws_that_are_kept() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        metric = TailIndex(3, "hill")
    finally:
        torch.set_default_dtype(before)
    assert updated(metric, draws()).compute() == updated(TailIndex(3, "hill"), draws()).compute()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_values_give_nan_and_a_note(bad: float) -> None:
    x = draws()
    x[7, 1] = bad
    each, pooled = (updated(TailIndex(3, pooled=pooled), x).estimate() for pooled in (False, True))
    assert each.alpha.isnan().tolist() == [False, True, False]
    assert each.note == "1 of 3 series left out: NaN or infinite values"
    assert pooled.alpha == updated(TailIndex(2), x[:, [0, 2]]).compute()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"num_series": 0}, "TailIndex needs num_series to be an integer of at least 1, got 0"),
        ({"num_series": True}, "TailIndex needs num_series to be an integer of at least 1, got True"),
        ({"pooled": "x"}, "TailIndex needs pooled to be True or False, got 'x'"),
        ({"cells_per_octave": 4.0}, "TailIndex needs cells_per_octave 4 or 8, got 4.0"),
        ({"max_draws": 7}, "TailIndex needs max_draws to be an integer of at least 8, got 7"),
        ({"center": "median"}, 'TailIndex needs center "pairs" or "none", got \'median\''),
        ({"cells_per_octave": 5}, "TailIndex needs cells_per_octave 4 or 8, got 5"),
        ({"estimator": "hil"}, "TailIndex needs estimator among .*, got 'hil'"),
        ({"estimator": 3}, "TailIndex needs estimator to be a name or a function, got 3"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TailIndex(**arguments)


def test_bad_draws() -> None:
    with pytest.raises(ValueError, match=r"TailIndex needs draws of num_series=3 numbers, got \(9, 2\)"):
        TailIndex(3).update(torch.ones(9, 2))
    with pytest.raises(ValueError, match='TailIndex needs at least 2 draws an update with center="pairs", got 1'):
        TailIndex(3).update(torch.ones(1, 3))
    with pytest.raises(TypeError, match=r"TailIndex needs real floating point values, got torch.int64"):
        TailIndex(3).update(torch.ones(4, 3, dtype=torch.long))
    assert updated(TailIndex(3), torch.ones(5, 3)).counts.sum() == 2 * 3  # the odd one is left out
    assert updated(TailIndex(6), torch.ones(4, 3, 2)).counts.sum() == 2 * 6


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("estimator", ["grouped_mle", "hill", partial(functional.hill, k=20)])
def test_no_draws_give_nan(estimator: Any, pooled: bool) -> None:
    estimate = TailIndex(3, estimator, pooled).estimate()
    assert estimate.alpha.shape == (() if pooled else (3,))
    assert estimate.alpha.isnan().all()
    assert estimate.note != ""


def test_zeros_constants_and_extremes() -> None:
    x = torch.zeros(1000, 5)
    x[:, 1] = 3
    x[500:, 2] = draws(500)[:, 0]
    x[:, 3], x[:, 4] = 1e-30 * draws()[:, 0], 1e20 * draws()[:, 0]
    estimate = updated(TailIndex(5, pooled=False, center="none"), x).estimate()
    assert estimate.zero_share.tolist() == [1, 0, 0.5, 0, 0]
    assert estimate.alpha.isnan().tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision(dtype: torch.dtype) -> None:
    expected = updated(TailIndex(3), draws().to(dtype).float())
    assert torch.equal(updated(TailIndex(3), draws().to(dtype)).counts, expected.counts)


def test_it_plots() -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for metric in (updated(TailIndex(3), draws()), updated(TailIndex(3, pooled=False), draws())):
        figure, axes = metric.plot()
        assert axes in figure.axes
        assert axes.has_data()
        plt.close(figure)


def test_counts_may_be_numpys_integers() -> None:
    metric = TailIndex(np.int64(3), cells_per_octave=np.int64(4))  # type: ignore[arg-type]
    metric.update(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)))
    assert bool(metric.compute() > 1.5)
