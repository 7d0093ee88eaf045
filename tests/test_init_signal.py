"""Signals through many random layers: the moment is preserved, where He's initialization lets it shrink."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex.init import fractional_moment_, fractional_moment_gain, init_module_

from .test_init import KINDS

pytestmark = pytest.mark.uncounted

WIDTHS = (16, 8, 24, 12, 12, 20, 6, 16, 10)
NETS = 3000


def activated(x: Tensor, kind: dict[str, Any], generator: torch.Generator) -> Tensor:
    """What follows a layer, written out."""
    low, high = {"linear": (1, 1), "relu": (0, 0), "rrelu": (1 / 8, 1 / 3)}.get(kind["nonlinearity"], (0.01, 0.01))
    if "a" in kind:
        low, high = kind["a"] if isinstance(kind["a"], tuple) else (kind["a"], kind["a"])
    slope = low + (high - low) * torch.rand(x.shape, generator=generator, dtype=x.dtype)
    keep_prob = kind.get("keep_prob", 1.0)
    kept = torch.rand(x.shape, generator=generator, dtype=x.dtype) < keep_prob
    return torch.where(x >= 0, x, slope * x) * kept / keep_prob


def signals(kind: dict[str, Any], order: float, mode: Any) -> Tensor:
    """Outputs of random nets whose layers preserve the moment of some order, in double precision."""
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(1.0, 1 + WIDTHS[0], dtype=torch.float64).expand(NETS, 1, -1)
    for before, width in pairwise(WIDTHS):
        weights = torch.empty(NETS, width, before, dtype=torch.float64)
        for weight in weights:
            fractional_moment_(weight, order, **kind, mode=mode, generator=generator)
        x = activated(x @ weights.mT, kind, generator)
    return x.squeeze(1)


def moment(x: Tensor, s: float, mode: str) -> tuple[float, float]:
    """Mean over nets of the moment relative to the input's, and its standard error."""
    size = x.norm(dim=1) / torch.arange(1.0, 1 + WIDTHS[0], dtype=torch.float64).norm()
    if mode == "fan_in":
        size = size * math.sqrt(WIDTHS[0] / WIDTHS[-1])
    powers = size**s
    return float(powers.mean()), float(powers.std()) / math.sqrt(len(x))


@pytest.mark.parametrize(
    ("kind", "s", "mode"),
    [(name, 1.0, "fan_in") for name in KINDS] + [("relu", 0.5, "fan_in"), ("relu", 1.0, "fan_out")],
)
def test_the_moment_is_preserved_through_layers_of_changing_width(kind: str, s: float, mode: str) -> None:
    mean, error = moment(signals(KINDS[kind], s, mode), s, mode)
    assert error < 0.05
    assert abs(mean - 1) < 4 * error
    he, error = moment(signals(KINDS[kind], 2.0, mode), s, mode)
    assert he < 1 - 8 * error


def test_weights_for_a_smaller_moment_let_the_second_grow() -> None:
    mean, error = moment(signals(KINDS["linear"], 0.5, "fan_in"), 2.0, "fan_in")
    assert mean > 1 + 4 * error


def test_a_convolution_preserves_it_at_one_position() -> None:
    s, generator = 1.0, torch.Generator().manual_seed(0)
    patch = torch.arange(1.0, 19).reshape(1, 2, 3, 3)
    weights = torch.empty(10000, 5, 2, 3, 3)
    for weight in weights:
        fractional_moment_(weight, s, generator=generator)
    out = nn.functional.conv2d(patch, weights.flatten(0, 1)).reshape(-1, 5).relu()
    powers = (out.norm(dim=1) / math.sqrt(5) / (patch.norm() / math.sqrt(18))) ** s
    error = float(powers.std()) / math.sqrt(len(powers))
    assert abs(float(powers.mean()) - 1) < 4 * error
    with_the_kernel_as_outputs = (fractional_moment_gain(45, s) / fractional_moment_gain(5, s)) ** s
    assert with_the_kernel_as_outputs < 1 - 8 * error


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(4, 2, 1), (3, 2, 1), (3, 1, 2), (5, 3, 2)])
def test_a_transposed_convolution_preserves_the_mean_square(kernel: int, stride: int, groups: int) -> None:
    layer = nn.ConvTranspose2d(64, 32, kernel, stride, groups=groups).double()
    init_module_(layer, 2.0, "linear", generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 64, 30, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inner = slice(5 * stride, 25 * stride)  # without the border, in whole periods of the stride
    with torch.no_grad():
        out = layer(x)[:, :, inner, inner]
    assert float(out.square().mean()) == pytest.approx(1, abs=0.06)


def test_a_deep_sequential_in_training_mode() -> None:
    def net() -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(6):
            layers += [nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.3)]
        return nn.Sequential(*layers, nn.Linear(16, 16))

    def mean(s: float) -> tuple[float, float]:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            norms = torch.stack([init_module_(net(), s)(torch.ones(16)).norm() for _ in range(800)])
        return float(norms.mean()) / 4, float(norms.std()) / 4 / math.sqrt(800)

    found, error = mean(1.0)
    assert abs(found - 1) < 4 * error
    he, error = mean(2.0)
    assert he < 1 - 4 * error
