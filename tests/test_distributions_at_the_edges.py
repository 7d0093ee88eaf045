"""The symmetric stable law far out, and at the smallest tail indices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
import torch

from lightning_tailindex.distributions import SymmetricStable

from .test_distributions import double

# From the convergent series in powers of x to the -alpha, with 100 to 700 digits: alpha, x, log f(x), log P(|X| > x).
# But for the last, integration with 45 digits gives the same.
REFERENCE = [
    (0.02, 1e-100, 147.33303704740911, -1.9362212914711982e-36),
    (0.02, 3e-3, 0.1981240135595822, -0.39967555706791442),
    (0.02, 15.0, -8.3154822121177299, -0.49762819663147507),
    (0.05, 1e-24, 39.24953869807858, -3.1298712788334737e-7),
    (0.05, 0.4, -3.7737274603868609, -0.44883930150599879),
    (0.05, 1e200, -487.25963035072908, -23.053732297757296),
]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("alpha", "x", "log_density", "log_survival"), REFERENCE)
@pytest.mark.parametrize("beside", [[], [0.7, 1.9, 2.0]], ids=["alone", "beside others"])
def test_density_and_tail_of_small_indices_agree_with_the_series(
    alpha: float, x: float, log_density: float, log_survival: float, beside: list[float]
) -> None:
    law = SymmetricStable(double(alpha, *beside))
    assert law.log_prob(double(x))[0].item() == pytest.approx(log_density, rel=2e-15, abs=1e-12)
    assert law.log_survival(double(x))[0].item() == pytest.approx(log_survival, rel=2e-15, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 0.9, 1.1, 1.7, 1.999])
def test_density_in_the_middle_is_the_closed_form(alpha: float) -> None:
    closed = math.lgamma(1 + 1 / alpha) - math.log(math.pi)
    assert SymmetricStable(double(alpha)).log_prob(double(0.0)).item() == pytest.approx(closed, rel=1e-14, abs=1e-13)


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1])
def test_icdf_inverts_cdf_at_small_indices(alpha: float) -> None:
    law = SymmetricStable(double(alpha))
    p = double(1e-5, 1e-3, 0.1, 0.3, 0.4999, 0.5, 0.7, 0.999)
    torch.testing.assert_close(law.cdf(law.icdf(p)), p, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tail_indices_below_those_that_were_measured_are_refused(dtype: torch.dtype) -> None:
    message = re.escape("to satisfy the constraint Interval(lower_bound=0.02, upper_bound=2.0)")
    for alpha in (0.019, 0.005, -1.0, math.nan):
        with pytest.raises(ValueError, match=message):
            SymmetricStable(torch.tensor(alpha, dtype=dtype), validate_args=True)
    assert SymmetricStable(torch.tensor(0.02, dtype=dtype), validate_args=True).log_prob(torch.tensor(1.0)).isfinite()


@pytest.mark.parametrize("alpha", [1e-9, 0.003, 0.005, 0.02, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_draw_is_nan(alpha: float, dtype: torch.dtype) -> None:
    law = SymmetricStable(torch.tensor(alpha, dtype=dtype), validate_args=False)
    draws = law.sample((100_000,)).abs()
    assert not draws.isnan().any()
    # |X| to the -alpha becomes an exponential variable as alpha goes to 0; half of the draws lie above each median
    beyond = (draws > 1).double().mean().item()
    assert beyond == pytest.approx(1 - math.exp(-1), abs=0.03 if alpha < 0.2 else 0.2)
    if alpha >= 0.02:
        assert beyond == pytest.approx(law.log_survival(torch.tensor(1.0)).exp().item(), abs=0.006)


def test_draws_at_the_ends_of_the_uniform_variable_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = double(0.0, 0.5, 1 - 2**-53)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: ends.expand(shape))
    for alpha in (1e-3, 0.02, 0.5, 1.0, 1.5, 2.0):
        law = SymmetricStable(torch.tensor(alpha, dtype=torch.float64), validate_args=False)
        assert not law.sample((5, 3)).isnan().any()


@pytest.mark.parametrize("x", [1e-160, 1e-3, 1.0, 30.0, 1e150, 1e160, 1e300])
@pytest.mark.parametrize("sign", [-1, 1])
def test_cauchy_density_far_out_is_a_power_law(x: float, sign: int) -> None:
    value = double(sign * x).requires_grad_()
    log_density = SymmetricStable(double(1.0)).log_prob(value)
    expected = -math.log(math.pi) - (2 * math.log(x) if x > 1e10 else math.log1p(x * x))
    assert log_density.item() == pytest.approx(expected, rel=1e-14)
    (slope,) = torch.autograd.grad(log_density.sum(), value)
    assert slope.item() == pytest.approx(-sign * 2 / (x + 1 / x), rel=1e-14)
