"""Initialization of a tensor: published values, He's and Xavier's at s = 2, and torch.nn.init's manners."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_tailindex.init import fractional_moment_, fractional_moment_gain

KINDS: dict[str, dict[str, Any]] = {
    "linear": {"nonlinearity": "linear"},
    "relu": {"nonlinearity": "relu"},
    "leaky .01": {"nonlinearity": "leaky_relu"},
    "leaky .2": {"nonlinearity": "leaky_relu", "a": 0.2},
    "random": {"nonlinearity": "rrelu"},
    "relu, dropout": {"nonlinearity": "relu", "keep_prob": 0.8},
    "linear, dropout": {"nonlinearity": "linear", "keep_prob": 0.8},
    "random, dropout": {"nonlinearity": "rrelu", "a": (0.0, 0.5), "keep_prob": 0.5},
}


def log_moment_of_chi(degrees: int, s: float) -> float:
    """Logarithm of the moment of order s of the norm of so many standard Gaussians."""
    return s / 2 * math.log(2) + math.lgamma((degrees + s) / 2) - math.lgamma(degrees / 2)


def gain_by_counting(width: int, s: float, active: float, keep_prob: float) -> float:
    """The obvious sum over how many outputs are not 0, each of them with probability active."""
    moment = sum(
        math.comb(width, n) * active**n * (1 - active) ** (width - n) * math.exp(log_moment_of_chi(n, s))
        for n in range(1, width + 1)
    )
    return math.sqrt(width) * moment ** (-1 / s) * keep_prob


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("linear", 1.007843),
        ("relu", 2.039824),
        ("leaky .01", 2.039610),
        ("leaky .2", 1.957770),
        ("random", 1.926635),
        ("relu, dropout", 1.641720),
    ],
)
def test_known_values_at_width_64(kind: str, variance: float) -> None:
    assert fractional_moment_gain(64, 1.0, **KINDS[kind]) ** 2 == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 1.7, 1.999999, 2.0])
@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_equals_the_obvious_sum(width: int, s: float) -> None:
    for keep_prob in (1.0, 0.3):
        for nonlinearity, active in (("relu", keep_prob / 2), ("linear", keep_prob)):
            found = fractional_moment_gain(width, s, nonlinearity, keep_prob=keep_prob)
            assert found == pytest.approx(gain_by_counting(width, s, active, keep_prob), rel=1e-11)


@pytest.mark.parametrize("keep_prob", [1e-6, 1e-3])
@pytest.mark.parametrize("s", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 64])
def test_rare_outputs(width: int, s: float, keep_prob: float) -> None:
    found = fractional_moment_gain(width, s, keep_prob=keep_prob)
    assert found == pytest.approx(gain_by_counting(width, s, keep_prob / 2, keep_prob), rel=1e-8)


@pytest.mark.parametrize("s", [0.05, 1.0, 1.9])
@pytest.mark.parametrize("keep_prob", [1.0, 0.4])
@pytest.mark.parametrize("a", [-1e100, -1e4, -0.3, 1e-100, 1e-8, 0.01, 0.5, 3.0, 1e6])
def test_slopes_of_any_size_at_width_1(a: float, keep_prob: float, s: float) -> None:
    moment = keep_prob ** (1 - s) * (1 + abs(a) ** s) / 2 * math.exp(log_moment_of_chi(1, s))
    found = fractional_moment_gain(1, s, "leaky_relu", a, keep_prob)
    assert found == pytest.approx(moment ** (-1 / s), rel=1e-10)


@pytest.mark.parametrize("s", [0.05, 1.0, 1.9])
@pytest.mark.parametrize("a", [(1 / 8, 1 / 3), (0.0, 1.0), (0.0, 1e-3), (0.3, 0.3 + 1e-6), (2.0, 500.0)])
def test_random_slopes_at_width_1(a: tuple[float, float], s: float) -> None:
    slope_moment = (a[1] ** (s + 1) - a[0] ** (s + 1)) / (s + 1) / (a[1] - a[0])
    moment = (1 + slope_moment) / 2 * math.exp(log_moment_of_chi(1, s))
    assert fractional_moment_gain(1, s, "rrelu", a) == pytest.approx(moment ** (-1 / s), rel=1e-7)


@pytest.mark.parametrize("width", [1, 30, 10**5])
def test_one_nonlinearity_turns_into_another(width: int) -> None:
    relu, leaky, linear = (fractional_moment_gain(width, 1.2, name) for name in ("relu", "leaky_relu", "linear"))
    assert fractional_moment_gain(width, 1.2, "leaky_relu", 0.0) == pytest.approx(relu, rel=1e-13)
    assert fractional_moment_gain(width, 1.2, "leaky_relu", 1.0) == pytest.approx(linear, rel=1e-13)
    assert fractional_moment_gain(width, 1.2, "rrelu", (0.01, 0.01)) == pytest.approx(leaky, rel=1e-13)
    assert len({round(gain, 9) for gain in (relu, leaky, linear)}) == 3


@pytest.mark.parametrize("s", [1e-3, 0.5, 1.5])
@pytest.mark.parametrize(
    ("kind", "mean", "kappa"),
    [
        ("linear", 1, 2),
        ("relu", 1 / 2, 5),
        ("leaky .2", (1 + 0.2**2) / 2, (5 - 2 * 0.2**2 + 5 * 0.2**4) / (1 + 0.2**2) ** 2),
        ("relu, dropout", 1 / (2 * 0.8), 6 / 0.8 - 1),
    ],
)
def test_wide_layers_follow_the_expansion(kind: str, mean: float, kappa: float, s: float) -> None:
    width = 10**5
    excess = fractional_moment_gain(width, s, **KINDS[kind]) ** 2 * mean - 1
    assert excess == pytest.approx((2 - s) * kappa / (4 * width), rel=1e-3)


@pytest.mark.parametrize("width", [1, 64, 10**5])
def test_the_second_moment_s_gain_is_torch_s(width: int) -> None:
    assert fractional_moment_gain(width, 2.0, "linear") == nn.init.calculate_gain("linear")
    assert fractional_moment_gain(width, 2.0, "relu") == nn.init.calculate_gain("relu")
    assert fractional_moment_gain(width, 2.0, "leaky_relu") == nn.init.calculate_gain("leaky_relu")
    assert fractional_moment_gain(width, 2.0, "leaky_relu", 0.2) == nn.init.calculate_gain("leaky_relu", 0.2)
    assert fractional_moment_gain(width, 1.0, "relu") > nn.init.calculate_gain("relu")


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("shape", [(30, 50), (6, 4, 3), (6, 4, 3, 5), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize(("nonlinearity", "a"), [("linear", None), ("relu", None), ("leaky_relu", 0.2)])
def test_the_second_moment_s_weights_are_he_s(shape: Any, mode: Any, nonlinearity: Any, a: float | None) -> None:
    ours, his, first = (torch.empty(shape) for _ in range(3))
    fractional_moment_(ours, 2.0, nonlinearity, a, mode=mode, generator=torch.Generator().manual_seed(1))
    slope = 0.01 if a is None else a
    nn.init.kaiming_normal_(his, slope, mode, nonlinearity, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours, his)
    fractional_moment_(first, 1.0, nonlinearity, a, mode=mode, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first, his)


def test_those_of_a_square_linear_layer_are_xavier_s() -> None:
    ours = fractional_moment_(torch.empty(40, 40), 2.0, "linear", generator=torch.Generator().manual_seed(1))
    xavier = nn.init.xavier_normal_(torch.empty(40, 40), generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours, xavier)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_reads_the_generator_as_torch_does(dtype: torch.dtype) -> None:
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    weight = torch.empty(7, 9, dtype=dtype)
    assert fractional_moment_(weight, 1.0, generator=generators[0]) is weight
    deviation = fractional_moment_gain(7, 1.0) / math.sqrt(9)
    assert torch.equal(weight, nn.init.normal_(torch.empty(7, 9, dtype=dtype), 0, deviation, generator=generators[1]))
    assert torch.equal(*(generator.get_state() for generator in generators))
    assert not torch.equal(generators[0].get_state(), torch.Generator().manual_seed(5).get_state())


def test_without_a_generator_it_is_torch_s_own() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        global_one = fractional_moment_(torch.empty(5, 5), 1.0)
    own = fractional_moment_(torch.empty(5, 5), 1.0, generator=torch.Generator().manual_seed(3))
    assert torch.equal(global_one, own)


def test_a_parameter_stays_a_leaf_and_a_device_stays() -> None:
    layer = nn.Linear(4, 3)
    weight = fractional_moment_(layer.weight, 1.0)
    assert weight is layer.weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert fractional_moment_(torch.empty(3, 3, device="meta"), 1.0).is_meta


def test_nothing_to_fill_is_said() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        assert fractional_moment_(torch.empty(0, 3), 1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s": 0.0}, r"s must be in \(0, 2\], got 0.0"),
        ({"s": 2.1}, r"s must be in \(0, 2\], got 2.1"),
        ({"s": math.nan}, r"s must be in \(0, 2\], got nan"),
        ({"nonlinearity": "tanh"}, "nonlinearity must be one of linear, relu, leaky_relu, rrelu, got 'tanh'"),
        ({"keep_prob": 0.0}, r"keep_prob must be in \[1e-06, 1\], got 0.0"),
        ({"keep_prob": 1e-20}, r"keep_prob must be in \[1e-06, 1\], got 1e-20"),
        ({"keep_prob": 1e-200}, r"keep_prob must be in \[1e-06, 1\], got 1e-200"),
        ({"keep_prob": 1.5}, r"keep_prob must be in \[1e-06, 1\], got 1.5"),
        ({"a": 0.1}, "a is for 'leaky_relu' and 'rrelu', got a=0.1 for 'relu'"),
        ({"a": math.inf, "nonlinearity": "leaky_relu"}, "a must be one finite slope for 'leaky_relu', got inf"),
        ({"a": (0.1, 0.2), "nonlinearity": "leaky_relu"}, r"one finite slope for 'leaky_relu', got \(0.1, 0.2\)"),
        ({"a": 0.1, "nonlinearity": "rrelu"}, "pair 0 <= lower <= upper of slopes for 'rrelu', got 0.1"),
        ({"a": (0.3, 0.2), "nonlinearity": "rrelu"}, r"slopes for 'rrelu', got \(0.3, 0.2\)"),
        ({"a": 1e160, "nonlinearity": "leaky_relu"}, r"a must be 0 or of a size from 1e-100 to 1e\+100, got 1e\+160"),
        ({"a": -1e-160, "nonlinearity": "leaky_relu"}, r"a must be 0 or of a size from .*, got -1e-160"),
        ({"a": (0.0, 1e160), "nonlinearity": "rrelu"}, r"a must be 0 or of a size from .*, got \(0.0, 1e\+160\)"),
        ({"mode": "fan_avg"}, "mode must be 'fan_in' or 'fan_out', got 'fan_avg'"),
        ({"tensor": torch.empty(3)}, r"at least 2 dimensions, got shape \[3\]"),
        ({"tensor": torch.empty(1, 5), "s": 1e-4}, "s must be larger for a width of 1 with 'relu' and keep_prob=1.0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fractional_moment_(**{"tensor": torch.empty(3, 3), "s": 1.0, **arguments})


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"real floating-point tensor, got {dtype}"):
        fractional_moment_(torch.zeros(3, 3, dtype=dtype), 1.0)


def test_a_width_is_a_positive_integer() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        fractional_moment_gain(0, 1.0)
    with pytest.raises(TypeError, match=r"width must be an integer, got 2\.5"):
        fractional_moment_gain(2.5, 1.0)  # type: ignore[arg-type]
