from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from lightning_tailindex.distributions import SymmetricStable

# Integrated with 45 digits along the ray of the angle min(pi / 4 alpha, 0.7): alpha, x, log f(x), log P(|X| > x).
REFERENCE = [
    (0.2, 0.3, -2.122405098205145, -0.3880000706233004),
    (0.2, 15.0, -6.187780061615988, -0.8986742216624123),
    (0.5, 1e-06, -0.4515827053494549, -1.273240355279855e-6),
    (0.5, 6.0, -4.634914533002582, -1.283165603131879),
    (0.8, 19.0, -6.614814770600997, -2.728941769651472),
    (1.2, 0.3, -1.258099895594831, -0.1942599955747908),
    (1.2, 25.0, -8.162647188275576, -4.441233485154941),
    (1.49, 10.0, -6.831005337490581, -4.284014222375328),
    (1.51, 2.5, -2.97025628238188, -1.951821061198413),
    (1.7, 15.0, -8.751066471588493, -5.910764071340986),
    (1.9, 6.0, -7.139724149809819, -5.545552952380248),
    (1.9, 60.0, -14.26653332303493, -10.12291878091825),
    (1.99, 10.0, -11.36585546201809, -9.126567600593503),
    (1.9999, 8.0, -15.10138970137231, -13.25311683910299),
    (1.9999999, 13.0, -23.73772961892495, -21.21089187442151),
    (1.9999999, 30.0, -26.3082183802565, -22.91377082342935),
]
# scipy takes |x| < 0.005 for 0, which our reference integration shows to be its error and not ours.
NEAR = torch.tensor([0.0, 0.2, 1.0, 2.0, 2.5, 4.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("alpha", "x", "log_density", "log_survival"), REFERENCE)
def test_density_and_tail_agree_with_integration_in_45_digits(
    alpha: float, x: float, log_density: float, log_survival: float
) -> None:
    law = SymmetricStable(double(alpha))
    assert law.log_prob(double(x)).item() == pytest.approx(log_density, rel=0, abs=1e-12)
    assert law.log_survival(double(x)).item() == pytest.approx(log_survival, rel=0, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.2, 1.5, 1.8, 1.95])
def test_density_and_cdf_agree_with_scipy(alpha: float) -> None:
    law = SymmetricStable(double(alpha))
    ours = law.log_prob(NEAR).exp().numpy()
    np.testing.assert_allclose(ours, scipy.stats.levy_stable.pdf(NEAR.numpy(), alpha, 0), rtol=1e-8)
    below = law.cdf(-NEAR).numpy()
    np.testing.assert_allclose(below, scipy.stats.levy_stable.cdf(-NEAR.numpy(), alpha, 0), rtol=1e-8)


def cauchy_quantile(p: np.ndarray) -> np.ndarray:
    return -1 / np.tan(np.pi * p)  # older versions of scipy lose digits in the far tail


@pytest.mark.parametrize(
    ("alpha", "twin", "quantile"),
    [
        (2.0, scipy.stats.norm(scale=math.sqrt(2)), scipy.stats.norm(scale=math.sqrt(2)).ppf),
        (1.0, scipy.stats.cauchy(), cauchy_quantile),
    ],
    ids=["normal", "cauchy"],
)
def test_special_cases(
    alpha: float, twin: scipy.stats.rv_continuous, quantile: Callable[[np.ndarray], np.ndarray]
) -> None:
    law, x = SymmetricStable(double(alpha)), torch.linspace(-30, 30, 61, dtype=torch.float64)
    np.testing.assert_allclose(law.log_prob(x), twin.logpdf(x.numpy()), rtol=1e-12)
    np.testing.assert_allclose(law.cdf(x), twin.cdf(x.numpy()), rtol=1e-12)
    p = double(1e-12, 1e-3, 0.3, 0.5, 0.9)
    np.testing.assert_allclose(law.icdf(p), quantile(p.numpy()), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("x", [3.0, 10.0, 40.0])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_closed_forms_continue_what_lies_beside_them(alpha: float, x: float) -> None:
    beside = SymmetricStable(double(alpha - 1e-9)).log_survival(double(x))
    at = SymmetricStable(double(alpha)).log_survival(double(x))
    if alpha == 2.0 and x > 3.0:  # a power law however close to 2
        assert beside > at + 1
    else:
        assert beside.item() == pytest.approx(at.item(), abs=1e-7)


def test_gaussian_tail_reaches_beyond_underflow() -> None:
    assert SymmetricStable(double(2.0)).log_survival(double(2000.0)).item() == pytest.approx(-1e6, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.3, 1.1, 1.6, 1.999])
def test_tail_beyond_underflow_is_a_power_law(alpha: float) -> None:
    law = SymmetricStable(double(alpha))
    slope = law.log_survival(double(1e250)) - law.log_survival(double(1e200))
    assert slope.item() == pytest.approx(-alpha * 50 * math.log(10), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.0, 1.51, 1.9, 1.99999])
@pytest.mark.parametrize("x", [2.0, 20.0])
def test_methods_meet_where_one_hands_over_to_the_next(alpha: float, x: float) -> None:
    law = SymmetricStable(double(alpha))
    for function in (law.log_prob, law.log_survival):
        below, above = function(double(x * (1 - 1e-13), x * (1 + 1e-13)))
        assert below.item() == pytest.approx(above.item(), abs=1e-11)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9, 1.0, 1.3, 1.7, 1.99, 2.0])
def test_icdf_inverts_cdf(alpha: float) -> None:
    law = SymmetricStable(double(alpha))
    p = double(1e-12, 1e-6, 1e-3, 0.1, 0.3, 0.4999, 0.5, 0.7, 0.999)
    torch.testing.assert_close(law.cdf(law.icdf(p)), p, rtol=1e-12, atol=0)
    assert law.icdf(double(0.0, 1.0)).tolist() == [-math.inf, math.inf]


# Where Newton's method went to and fro between two wrong places; the last ones take steps that rounding makes 0.
NEAR_TWO = [(1.98, 1e-3), (1.99, 2e-3), (1.999, 1.56e-4), (2 - 1e-5, 1.4e-6), (2 - 1e-7, 1e-8), (2.0, 1e-20)]


@pytest.mark.parametrize(("alpha", "p"), NEAR_TWO)
def test_icdf_inverts_cdf_everywhere_near_two(alpha: float, p: float) -> None:
    law = SymmetricStable(double(alpha))
    dense = torch.linspace(0.7 * p, 1.4 * p, 1500, dtype=torch.float64)
    wide = torch.logspace(-300, -0.31, 1000, dtype=torch.float64)
    for some in (dense, wide):
        # Far out a rounding error of the quantile is x ** 2 / 2 times as large in the probability.
        torch.testing.assert_close(law.cdf(law.icdf(some)).log(), some.log(), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 1.5])
def test_icdf_where_the_density_underflows(alpha: float) -> None:
    p = double(1e-20, 1e-80, 1e-156, 1e-200, 1e-300).requires_grad_()
    found = SymmetricStable(double(alpha)).icdf(p)
    front = math.lgamma(alpha) + math.log(math.sin(math.pi * alpha / 2) / math.pi)  # P(X > x) is about that x^-alpha
    log_x = (front - p.detach().log()) / alpha
    expected = torch.where(log_x < 709, log_x, math.inf)
    torch.testing.assert_close((-found).detach().log(), expected, rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(found.sum(), p)
    assert not slope.isnan().any()


def test_icdf_of_what_is_no_probability_is_nan() -> None:
    for alpha in (0.5, 1.0, 1.7, 2.0):
        assert SymmetricStable(double(alpha)).icdf(double(math.nan, -0.1, 1.1)).isnan().all()


def test_density_is_the_derivative_of_the_cdf() -> None:
    law = SymmetricStable(double(0.6, 1.0, 1.4, 1.6, 1.95, 2.0)[:, None])
    x = double(-30.0, -5.0, -0.3, 0.8, 2.2, 19.0).requires_grad_()
    (slope,) = torch.autograd.grad(law.cdf(x[None].expand(6, 6)).diagonal().sum(), x)
    torch.testing.assert_close(slope, law.log_prob(x).exp().diagonal().detach(), rtol=1e-9, atol=0)


def test_density_is_the_derivative_in_the_middle_too() -> None:
    law, middle = SymmetricStable(double(0.6, 1.0, 1.4, 2.0), scale=3.0, loc=0.5), double(0.5).requires_grad_()
    density = law.log_prob(middle.detach()).exp()
    (slope,) = torch.autograd.grad(law.cdf(middle).sum(), middle)
    torch.testing.assert_close(slope, density.sum()[None], rtol=1e-12, atol=0)
    half = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    quantile = law.icdf(half)
    assert quantile.tolist() == [0.5] * 4
    (slope,) = torch.autograd.grad(quantile.sum(), half)
    torch.testing.assert_close(slope, 1 / density, rtol=1e-9, atol=0)


def test_whole_numbers_as_parameters_give_no_whole_numbers() -> None:
    for law in (SymmetricStable(torch.tensor(2), 0.5), SymmetricStable(2, torch.tensor(1), torch.tensor([0, 1]))):
        assert {law.alpha.dtype, law.scale.dtype, law.loc.dtype} == {torch.float32}
        assert 0 < law.cdf(torch.tensor(-0.1)).flatten()[0] < 0.5
    assert SymmetricStable(torch.tensor(2), 0.5).scale == 0.5
    assert SymmetricStable(torch.tensor(2), torch.tensor(0.5)).log_prob(torch.tensor(0)).item() == pytest.approx(
        -math.log(math.sqrt(math.pi))
    )


@pytest.mark.parametrize("function", ["log_prob", "cdf", "icdf"])
def test_gradients_in_the_value_and_all_parameters(function: str) -> None:
    alpha = double(0.7, 1.0, 1.3, 1.7, 1.9).requires_grad_()
    scale, loc = double(2.0).requires_grad_(), double(0.5).requires_grad_()
    value = double(0.1, 0.2, 0.6, 0.9, 0.97) if function == "icdf" else double(-60.0, 0.7, 3.0, 9.0, 50.0)

    def of(value: Tensor, alpha: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        result: Tensor = getattr(SymmetricStable(alpha, scale, loc), function)(value)
        return result

    assert torch.autograd.gradcheck(of, (value.requires_grad_(), alpha, scale, loc))


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 1.9, 2.0])
def test_sample_has_the_law(alpha: float) -> None:
    law = SymmetricStable(alpha, scale=3.0, loc=-1.0)
    draws = law.sample((2000,)).double()
    assert scipy.stats.kstest(law.cdf(draws).numpy(), "uniform").pvalue > 0.01
    wrong = SymmetricStable(alpha, scale=4.0, loc=-1.0)
    assert scipy.stats.kstest(wrong.cdf(draws).numpy(), "uniform").pvalue < 0.01


def test_rsample_differentiates_in_location_and_scale() -> None:
    loc, scale = double(1.0).requires_grad_(), double(2.0).requires_grad_()
    x = SymmetricStable(1.5, scale, loc).rsample((5,))
    by_loc, by_scale = torch.autograd.grad(x.sum(), (loc, scale))
    assert by_loc.item() == pytest.approx(5)
    assert by_scale.item() == pytest.approx(((x - loc) / scale).sum().item())


def test_parameters_broadcast_and_expand() -> None:
    law = SymmetricStable(torch.tensor([1.2, 1.8]), scale=torch.ones(3, 1))
    assert law.batch_shape == (3, 2)
    assert law.expand((4, 3, 2)).sample((5,)).shape == (5, 4, 3, 2)
    assert law.log_prob(torch.zeros(3, 2)).dtype == torch.float32
    assert repr(law.expand((4, 3, 2)).alpha.shape) == "torch.Size([4, 3, 2])"


def test_moments() -> None:
    law = SymmetricStable(double(0.9, 1.5, 2.0), scale=3.0, loc=1.0)
    torch.testing.assert_close(law.mean, double(math.nan, 1.0, 1.0), equal_nan=True)
    torch.testing.assert_close(law.variance, double(math.nan, math.inf, 18.0), equal_nan=True)


def test_ends_of_the_line() -> None:
    law = SymmetricStable(double(0.5, 1.0, 1.5, 2.0))
    infinity = double(math.inf)
    assert law.cdf(infinity).tolist() == [1.0] * 4
    assert law.cdf(-infinity).tolist() == [0.0] * 4
    assert law.log_survival(double(0.0)).tolist() == pytest.approx([0.0] * 4, abs=1e-15)


@pytest.mark.parametrize("alpha", [0.0, -1.0, 2.1, math.nan])
def test_tail_index_outside_its_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="Expected parameter alpha"):
        SymmetricStable(alpha, validate_args=True)  # torch.compile turns the default off for the whole process


def test_everything_is_beyond_a_negative_distance() -> None:
    assert SymmetricStable(1.5).log_survival(torch.tensor([-1.0, 0.0])).tolist() == [0.0, 0.0]
