"""What holds of every estimator on samples that nobody picked: hypothesis draws their sizes, laws and zeros."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.records import TailIndexEstimate

from .samples import generator, stable

Estimator = Callable[..., TailIndexEstimate]
FIELDS = ("alpha", "low", "high", "scale", "log_likelihood", "gain", "zero_share", "effective_series")
# Those that ask nothing of the sign of any draw, so that no draw in the middle has to keep its place.
SIGNLESS = {"group_sum", "hill", "power_law"}
# Those whose pooled estimates take out a bias that they see by leaving out blocks of neighbouring draws.
CORRECTED = {"characteristic"}
# Those that sum up likelihoods in single precision where draws are few, whatever the dtype.
IN_SINGLE = {"grouped_mle"}

properties = settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Recipe:
    """How a sample is made: small to print, small to shrink."""

    n: int
    series: int
    seed: int
    alpha: float
    dtype: torch.dtype
    zeros: float

    def sample(self, odd: bool = False) -> Tensor:
        """Draws of which the same number is 0 in each series, the others of an odd number where that is asked for."""
        rng = generator(self.seed)
        x = stable(self.alpha, (self.n, self.series), rng)
        kept = self.n - int(self.zeros * self.n)
        kept -= int(odd and kept % 2 == 0)
        rank = torch.rand(self.n, self.series, generator=rng).argsort(0).argsort(0)
        return torch.where(rank < kept, x, 0.0).to(self.dtype)

    @property
    def rounding(self) -> float:
        return 1e-3 if self.dtype == torch.float32 else 1e-6


recipes = st.builds(
    Recipe,
    n=st.integers(20, 120),
    series=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    alpha=st.floats(0.8, 2.0),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    zeros=st.sampled_from([0.0, 0.2]),
)
pooling = st.booleans()


@pytest.fixture(params=sorted(functional.estimators()))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return functional.estimators()[request.param]


def assert_close(a: Tensor, b: Tensor, rounding: float) -> None:
    torch.testing.assert_close(a, b, rtol=rounding, atol=rounding, equal_nan=True)


def assert_same(a: TailIndexEstimate, b: TailIndexEstimate, rounding: float, fields: tuple[str, ...] = FIELDS) -> None:
    for name in fields:
        assert_close(getattr(a, name), getattr(b, name), rounding)
    assert a.num_values.tolist() == b.num_values.tolist()


@properties
@given(recipe=recipes, power=st.integers(-30, 30), pooled=pooling)
def test_a_power_of_two_scales_the_scale_and_nothing_else(
    estimator: Estimator, recipe: Recipe, power: int, pooled: bool
) -> None:
    x = recipe.sample()
    plain, scaled = estimator(x, pooled=pooled), estimator(2.0**power * x, pooled=pooled)
    assert_close(scaled.scale / 2.0**power, plain.scale, recipe.rounding)
    assert_same(plain, scaled, recipe.rounding, ("alpha", "low", "high", "gain", "zero_share"))


@properties
@given(recipe=recipes, logarithm=st.floats(-20, 20), pooled=pooling)
def test_any_positive_factor_scales_the_scale_and_nothing_else(
    estimator: Estimator, recipe: Recipe, logarithm: float, pooled: bool
) -> None:
    x, factor = replace(recipe, dtype=torch.float64).sample(), math.exp(logarithm)
    plain, scaled = estimator(x, pooled=pooled), estimator(factor * x, pooled=pooled)
    assert_close(scaled.scale / factor, plain.scale, 1e-6)
    assert_same(plain, scaled, 1e-6, ("alpha", "low", "high", "gain", "zero_share"))


@properties
@given(recipe=recipes, pooled=pooling)
def test_the_sign_does_not_matter(estimator: Estimator, recipe: Recipe, pooled: bool) -> None:
    # An even number of draws has two in the middle, and the lower one of them becomes the upper one.
    x = recipe.sample(odd=estimator.__name__ not in SIGNLESS)
    assert_same(estimator(x, pooled=pooled), estimator(-x, pooled=pooled), recipe.rounding)


@properties
@given(recipe=recipes, pooled=pooling)
def test_the_order_of_the_draws_does_not_matter(estimator: Estimator, recipe: Recipe, pooled: bool) -> None:
    name = estimator.__name__
    x = replace(recipe, n=recipe.n - recipe.n % 2).sample()
    # Sums of neighbours stay the same sums only in reverse, and only where no draw is left over.
    order = torch.randperm(len(x), generator=generator(recipe.seed)) if name != "group_sum" else torch.arange(len(x))
    plain, moved = estimator(x, pooled=pooled), estimator(x[order].flip(0), pooled=pooled)
    if pooled and name in CORRECTED:
        half = (plain.high - plain.low) / 2
        assert bool((plain.alpha - moved.alpha).abs() <= half) or bool(half.isnan())
    else:
        assert_same(plain, moved, recipe.rounding, ("alpha",) if pooled and name != "group_sum" else FIELDS)


@properties
@given(recipe=recipes)
def test_series_do_not_know_of_each_other(estimator: Estimator, recipe: Recipe) -> None:
    x = recipe.sample()
    together, rounding = estimator(x), 1e-3 if estimator.__name__ in IN_SINGLE else recipe.rounding
    order = torch.randperm(recipe.series, generator=generator(recipe.seed))
    permuted = estimator(x[:, order])
    others = replace(recipe, seed=recipe.seed + 1, series=3, alpha=2.8 - recipe.alpha).sample()
    joined = estimator(torch.cat([1e3 * others, x, torch.zeros_like(others)], dim=1))
    for i in range(recipe.series):
        alone = estimator(x[:, i])
        for name in FIELDS[:-1]:
            field = getattr(alone, name)
            assert_close(getattr(together, name)[i], field, rounding)
            assert_close(getattr(permuted, name)[order == i][0], field, rounding)
            assert_close(getattr(joined, name)[3 + i], field, rounding)


@properties
@given(recipe=recipes, pooled=pooling)
def test_the_interval_contains_the_estimate(estimator: Estimator, recipe: Recipe, pooled: bool) -> None:
    estimate = estimator(recipe.sample(), pooled=pooled)
    for low, high in ((estimate.low, estimate.alpha), (estimate.alpha, estimate.high)):
        assert bool(((low <= high) | low.isnan() | high.isnan()).all())
    assert bool((estimate.low.isnan() == estimate.high.isnan()).all())
    assert bool((estimate.alpha.isfinite() & (estimate.alpha > 0) | estimate.alpha.isnan()).all())


def spoilt(x: Tensor, kind: str) -> Tensor:
    spoil = {
        "NaN": lambda: x.index_fill(0, torch.tensor(0), math.nan),
        "infinite": lambda: x.index_fill(0, torch.tensor(len(x) - 1), -math.inf),
        "zero": lambda: torch.zeros_like(x),
        "constant": lambda: torch.full_like(x, 3.0),
        "few": lambda: x * (torch.arange(len(x)) < 7),
        "ties": lambda: x.sign(),
        "good": lambda: x,
    }
    return spoil[kind]()


KINDS = st.lists(
    st.sampled_from(["NaN", "infinite", "zero", "constant", "few", "ties", "good"]), min_size=1, max_size=5
)


@properties
@given(recipe=recipes, kinds=KINDS, pooled=pooling)
def test_nan_stands_exactly_where_the_note_says_so(
    estimator: Estimator, recipe: Recipe, kinds: list[str], pooled: bool
) -> None:
    x = replace(recipe, series=len(kinds)).sample()
    x = torch.stack([spoilt(x[:, i], kind) for i, kind in enumerate(kinds)], dim=1)
    estimate = estimator(x, pooled=pooled)
    told = re.findall(r"(\d+) of (\d+) series", estimate.note)
    left_out = sum(int(count) for count, _ in told)
    assert all(int(total) == len(kinds) for _, total in told)
    if pooled:
        undefined = re.search(r"(1/α not positive|too small for any α)$", estimate.note)
        assert bool(estimate.alpha.isnan()) == (left_out == len(kinds) or undefined is not None)
    else:
        assert int(estimate.alpha.isnan().sum()) == left_out
        bad = torch.tensor([kind not in ("ties", "good") for kind in kinds])
        assert bool(estimate.alpha[bad].isnan().all())
        assert estimate.scale.isnan().tolist() == estimate.alpha.isnan().tolist()
