"""The symmetric stable law far out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.distributions import SymmetricStable


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("x", [1e-160, 1e-3, 1.0, 30.0, 1e150, 1e160, 1e300])
@pytest.mark.parametrize("sign", [-1, 1])
def test_cauchy_density_far_out_is_a_power_law(x: float, sign: int) -> None:
    value = double(sign * x).requires_grad_()
    log_density = SymmetricStable(double(1.0)).log_prob(value)
    expected = -math.log(math.pi) - (2 * math.log(x) if x > 1e10 else math.log1p(x * x))
    assert log_density.item() == pytest.approx(expected, rel=1e-14)
    (slope,) = torch.autograd.grad(log_density.sum(), value)
    assert slope.item() == pytest.approx(-sign * 2 / (x + 1 / x), rel=1e-14)
