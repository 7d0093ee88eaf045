from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional.kolmogorov import kolmogorov_distance

from .samples import generator, stable


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


LAWS = [
    (Normal(double(0.3), double(2.0)), scipy.stats.norm(0.3, 2.0).cdf),
    (SymmetricStable(double(1.0), double(2.0)), scipy.stats.cauchy(0, 2.0).cdf),
    (SymmetricStable(double(2.0), double(1.5)), scipy.stats.norm(0, 1.5 * math.sqrt(2)).cdf),
]


@pytest.mark.parametrize("n", [1, 20, 300])
@pytest.mark.parametrize(("law", "cdf"), LAWS)
def test_is_scipys(law: Distribution, cdf: object, n: int) -> None:
    x = stable(1.4, (n, 4), generator(n))
    wanted = double(*(scipy.stats.kstest(series.numpy(), cdf).statistic for series in x.T))
    torch.testing.assert_close(kolmogorov_distance(x, law), wanted, rtol=0, atol=1e-9)
    assert not torch.allclose(kolmogorov_distance(x + 1, law), wanted, atol=1e-3)


def test_tells_the_law_of_the_values_from_others() -> None:
    x = stable(1.4, (2000, 3), generator(0))
    distances = kolmogorov_distance(x, SymmetricStable(double(1.0, 1.4, 2.0)[:, None]))
    assert distances.shape == (3, 3)
    assert distances.argmin(0).tolist() == [1, 1, 1]
    assert distances[1].max() < 0.04 < distances[2].min()


def test_series_and_laws_broadcast() -> None:
    x, scales = stable(1.4, (50, 3), generator(1)), double(1.0, 2.0, 3.0)
    each = torch.stack([kolmogorov_distance(x[:, j], Normal(0.0, scales[j])) for j in range(3)])
    torch.testing.assert_close(kolmogorov_distance(x, Normal(double(0.0), scales)), each)
    against_all = kolmogorov_distance(x[:, 0], Normal(double(0.0), scales))
    torch.testing.assert_close(against_all[0], each[0])
    assert against_all.unique().numel() == 3
    with pytest.raises(ValueError, match=r"shapes that broadcast, got \(3,\) and \(2,\)"):
        kolmogorov_distance(x, Normal(double(0.0, 1.0), 1.0))


def test_nan_stays_in_its_series() -> None:
    x = stable(1.4, (20, 3), generator(2))
    plain = kolmogorov_distance(x, Normal(0.0, 1.0))
    x[3, 0], x[4, 1] = math.nan, -math.inf
    spoiled = kolmogorov_distance(x, Normal(0.0, 1.0))
    assert spoiled.isnan().tolist() == [True, True, False]
    assert spoiled[2] == plain[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    x = stable(1.4, (50,), generator(3)).to(dtype)
    distance = kolmogorov_distance(x, LAWS[0][0])
    assert distance.dtype == torch.promote_types(dtype, torch.float32)
    assert distance.item() == pytest.approx(kolmogorov_distance(x.double(), LAWS[0][0]).item(), abs=1e-6)


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"kolmogorov_distance needs real floating point values, got torch\.int64"):
        kolmogorov_distance(torch.ones(3, dtype=torch.int64), Normal(0.0, 1.0))
    with pytest.raises(ValueError, match=r"at least one draw along dim 0, got shape \(\)"):
        kolmogorov_distance(torch.tensor(1.0), Normal(0.0, 1.0))
