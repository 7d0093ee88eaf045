"""What holds of every public estimator."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.records import TailIndexEstimate

from .samples import Law, generator, noise, pareto, stable

Estimator = Callable[..., TailIndexEstimate]
FIELDS = ("alpha", "low", "high", "scale", "log_likelihood", "gain", "num_values", "zero_share", "effective_series")
# The factor of the Cramér-Rao bound (1.535 / sqrt(n) at 1.5) that an estimator's standard error stays below. Group sums
# are at 3.8 of it, and the error of 60 series scatters by a tenth.
INEFFICIENCY = {"grouped_mle": 1.2}
LARGEST_INEFFICIENCY = 5.0
SERIES = {"power_law": 20}  # of the others 60; it takes long, and its error is a quarter of the bound
# What an estimator is for, unless it is the symmetric stable law; all have P(|X| > x) ~ x^-alpha.
LAW: dict[str, Law] = {"hill": pareto, "power_law": pareto}
# The scale of the law that an estimate tells, unless it is its ``scale``: power_law's is where the tail starts.
SCALE: dict[str, Callable[[Tensor, TailIndexEstimate], Tensor]] = {
    "power_law": lambda x, e: e.scale * (x.abs() >= e.scale).double().mean(0) ** (1 / e.alpha)
}

# Intervals that hold for thresholds which the same data did not choose; test_hill and test_power_law tell the others.
INTERVAL: dict[str, dict[str, float]] = {"hill": {"k": 300}, "power_law": {"x_min": 2.0}}


@pytest.fixture(params=sorted(functional.estimators()))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return getattr(functional, request.param)


@pytest.fixture
def law(estimator: Estimator) -> Law:
    return LAW.get(estimator.__name__, stable)


def fields_equal(a: TailIndexEstimate, b: TailIndexEstimate, rtol: float = 0, atol: float = 0) -> bool:
    pairs = ((getattr(a, name), getattr(b, name)) for name in FIELDS)
    return all(torch.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True) for x, y in pairs)


@pytest.mark.parametrize("n", [400, 2500, 10000])
def test_converges_to_the_truth(estimator: Estimator, law: Law, n: int) -> None:
    x = 3 * law(1.5, (n, SERIES.get(estimator.__name__, 60)), generator(0))
    estimates = estimator(x)
    bound = INEFFICIENCY.get(estimator.__name__, LARGEST_INEFFICIENCY) * 1.535 / math.sqrt(n)
    assert estimates.alpha.sub(1.5).square().mean().sqrt() < bound
    scale = SCALE.get(estimator.__name__, lambda x, e: e.scale)(x, estimates)
    assert abs(scale.log().mean() - math.log(3)) < bound
    assert abs(scale.log().mean() - math.log(9)) > bound
    assert estimates.alpha.sub(1.9).square().mean().sqrt() > bound


def test_interval_covers_the_truth(estimator: Estimator, law: Law) -> None:
    estimates = estimator(law(1.5, (900, 400), generator(1)), **INTERVAL.get(estimator.__name__, {}))
    covered = ((estimates.low < 1.5) & (estimates.high > 1.5)).double().mean()
    assert 0.91 < covered < 0.98
    assert bool(((estimates.low <= estimates.alpha) & (estimates.alpha <= estimates.high)).all())


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("factor", [-1.0, 2.0**20, -(2.0**-20)])
def test_invariant_to_scale_and_sign(estimator: Estimator, law: Law, factor: float, pooled: bool) -> None:
    x = law(1.6, (225, 5), generator(2))
    x[-1] = x.median(0).values  # an odd number of draws but one: the median changes its sign with the draws
    plain, changed = estimator(x[:-1] if len(x) % 2 == 0 else x, pooled=pooled), estimator(factor * x, pooled=pooled)
    assert torch.allclose(plain.alpha, changed.alpha, atol=1e-9)
    assert torch.allclose(plain.low, changed.low, atol=1e-9)
    assert torch.allclose(abs(factor) * plain.scale, changed.scale)
    assert not torch.allclose(plain.alpha, estimator(x**3, pooled=pooled).alpha, atol=1e-2)


@pytest.mark.parametrize("pooled", [False, True])
def test_invariant_to_order(estimator: Estimator, law: Law, pooled: bool) -> None:
    x = law(1.6, (256, 5), generator(3))
    assert fields_equal(estimator(x, pooled=pooled), estimator(x.flip(0), pooled=pooled), rtol=1e-9)
    shuffled = estimator(x[:, torch.randperm(5, generator=generator(4))], pooled=True)
    # products of matrices are in single precision, and some processors' sums hang on the place in the matrix
    assert torch.allclose(shuffled.alpha, estimator(x, pooled=True).alpha, rtol=1e-5)
    assert not torch.allclose(shuffled.alpha, estimator(x[:, :4], pooled=True).alpha, rtol=1e-5)


def test_series_are_independent_of_each_other(estimator: Estimator, law: Law) -> None:
    x = law(1.4, (100, 2, 3), generator(5))
    together = estimator(x)
    assert together.alpha.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = estimator(x[:, i, j])
            assert alone.alpha.shape == ()
            assert torch.allclose(alone.alpha, together.alpha[i, j], atol=1e-3, equal_nan=True)
            assert torch.allclose(alone.low, together.low[i, j], atol=2e-3, equal_nan=True)
    other = x.clone()
    other[:, 1, 1] *= 100 * torch.rand(100, generator=generator(6), dtype=x.dtype)
    kept = torch.ones(2, 3, dtype=torch.bool)
    kept[1, 1] = False
    changed = estimator(other)
    assert torch.allclose(changed.alpha[kept], together.alpha[kept], atol=1e-3, equal_nan=True)
    assert not torch.allclose(changed.alpha[1, 1], together.alpha[1, 1], atol=1e-2)


BAD = {
    "NaN or infinite values": lambda x: x.index_fill(0, torch.tensor(3), math.nan),
    "NaN or infinite": lambda x: x.index_fill(0, torch.tensor(3), -math.inf),
    "constant values": lambda x: torch.full_like(x, 7.5),
    "constant": torch.zeros_like,
    "fewer than 8 usable values": lambda x: x * (torch.arange(len(x)) < 7),
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_bad_series_give_nan_and_a_note(estimator: Estimator, law: Law, reason: str) -> None:
    x = law(1.5, (64, 4), generator(7))
    bad = torch.stack([BAD[reason](x[:, 0]), *x[:, 1:].T], dim=1)
    each, pooled = estimator(bad), estimator(bad, pooled=True)
    assert each.alpha.isnan().tolist()[0]
    if reason.startswith("NaN"):
        assert each.num_values.tolist()[0] == 0
    assert each.scale.isnan().tolist() == pooled.scale.isnan().tolist()
    assert f"1 of 4 series left out: {reason}" in each.note
    assert f"1 of 4 series left out: {reason}" in pooled.note
    assert torch.allclose(pooled.alpha, estimator(x[:, 1:], pooled=True).alpha)
    assert "left out" not in estimator(x).note


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("x", [torch.ones(1, 3), torch.ones(64, 3), torch.full((64, 3), math.nan), torch.eye(4, 3)])
def test_nothing_usable_gives_nan_everywhere(estimator: Estimator, x: Tensor, pooled: bool) -> None:
    estimate = estimator(x, pooled=pooled)
    assert estimate.alpha.shape == (() if pooled else (3,))
    assert all(bool(getattr(estimate, name).isnan().all()) for name in FIELDS[:6])
    assert "3 of 3 series left out" in estimate.note


def test_no_series(estimator: Estimator) -> None:
    each, pooled = estimator(torch.ones(64, 2, 0)), estimator(torch.ones(64, 2, 0), pooled=True)
    assert (each.alpha.shape, pooled.alpha.shape, pooled.scale.shape) == ((2, 0), (), (2, 0))
    assert bool(pooled.alpha.isnan())
    assert each.note == pooled.note == "there are no series"


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_float32_or_better(estimator: Estimator, law: Law, dtype: torch.dtype, pooled: bool) -> None:
    x = law(1.7, (400, 6), generator(8)).clamp(-1e4, 1e4)
    estimate, exact = estimator(x.to(dtype), pooled=pooled), estimator(x, pooled=pooled)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert {getattr(estimate, name).dtype for name in FIELDS if name != "num_values"} == {wanted}
    assert {getattr(estimate, name).device for name in FIELDS} == {x.device}
    difference = (estimate.alpha.double() - exact.alpha).abs()
    # one value next to the centre, which rounding moves most, may decide on the variance of logarithms
    assert difference.median() < 0.1 if estimator.__name__ == "log_moment" else difference.max() < 0.05


def test_eight_bits_are_computed_in_float32(estimator: Estimator, law: Law) -> None:
    x = law(1.7, (400, 6), generator(8)).clamp(-1e4, 1e4).to(torch.float8_e5m2)
    assert torch.equal(estimator(x).alpha, estimator(x.float()).alpha)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pooled", [False, True])
def test_device_is_kept(estimator: Estimator, law: Law, pooled: bool) -> None:
    x = law(1.7, (400, 6), generator(8))
    estimate = estimator(x.cuda(), pooled=pooled)
    assert {getattr(estimate, name).device.type for name in FIELDS} == {"cuda"}
    assert torch.allclose(estimate.alpha.cpu(), estimator(x, pooled=pooled).alpha, atol=1e-6)


def test_pooling_one_series_is_about_estimating_it(estimator: Estimator, law: Law) -> None:
    x = law(1.5, (2500,), generator(9))
    assert torch.allclose(estimator(x).alpha, estimator(x, pooled=True).alpha, atol=0.01)


def test_pooling_narrows_the_interval_of_independent_series_only(estimator: Estimator, law: Law) -> None:
    x = noise(1.5, 144, 100, generator(10), law=law)
    wide, narrow = (estimator(y, pooled=True) for y in (x[:, :1].expand(-1, 100), x))
    assert narrow.effective_series > 50
    assert wide.effective_series < 2
    assert (wide.high - wide.low) > 4 * (narrow.high - narrow.low)


def test_input_is_left_alone_and_off_the_graph(estimator: Estimator, law: Law) -> None:
    x = law(1.5, (64, 3), generator(11)).requires_grad_()
    before = x.detach().clone()
    assert not estimator(x, pooled=True).alpha.requires_grad
    assert torch.equal(x, before)


def test_errors(estimator: Estimator) -> None:
    name = estimator.__name__
    for dtype in (torch.int64, torch.complex64, torch.bool):
        with pytest.raises(TypeError, match=f"{name} needs real floating point values, got {dtype}"):
            estimator(torch.ones(9, dtype=dtype))
    with pytest.raises(TypeError, match=f"{name} needs a tensor, got ndarray"):
        estimator(torch.ones(9).numpy())
    with pytest.raises(TypeError, match=rf"{name} needs a dense tensor, got torch.sparse_coo"):
        estimator(torch.ones(9).to_sparse())
    with pytest.raises(ValueError, match=rf"{name} needs at least one draw along dim 0, got shape \(\)"):
        estimator(torch.tensor(1.0))
    with pytest.raises(ValueError, match=rf"{name} needs at least one draw along dim 0, got shape \(0, 2\)"):
        estimator(torch.ones(0, 2))
