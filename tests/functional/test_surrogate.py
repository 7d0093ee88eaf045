from __future__ import annotations

import math

import pytest
import torch

from lightning_tailindex.functional.surrogate import gaussian_surrogate

from .samples import generator, noise


def test_has_the_covariance_of_the_noise() -> None:
    x = torch.randn(50, 4, generator=generator(0), dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 3, 1], [0, 0, 0, 0.1]], dtype=torch.float64
    )
    rng = generator(1)
    many = torch.cat([gaussian_surrogate(x + 7, rng) for _ in range(400)])  # a location changes nothing
    wanted = x.T.cov(correction=0)
    unit = wanted.diagonal().sqrt()
    torch.testing.assert_close(many.T.cov() / unit / unit[:, None], wanted / unit / unit[:, None], rtol=0, atol=0.03)
    assert (many.mean(0) / unit).abs().max() < 0.03


def test_is_gaussian_where_the_noise_is_not() -> None:
    x = noise(1.2, 200, 50, generator(2))
    surrogate = gaussian_surrogate(x, generator(3))

    def kurtosis(y: torch.Tensor) -> torch.Tensor:
        return ((y / y.std(0)) ** 4).mean()

    assert kurtosis(surrogate).item() == pytest.approx(3, abs=0.3)
    assert kurtosis(x) > 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(20,), (20, 3), (20, 3, 2), (20, 0), (1, 3)])
def test_keeps_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    surrogate = gaussian_surrogate(torch.ones(shape, dtype=dtype), generator(4))
    assert (surrogate.shape, surrogate.dtype) == (shape, dtype)
    assert not surrogate.any()  # constant noise has no covariance


def test_same_generator_same_surrogate() -> None:
    x = torch.randn(10, 3, generator=generator(5))
    assert gaussian_surrogate(x, generator(6)).equal(gaussian_surrogate(x, generator(6)))
    assert not gaussian_surrogate(x, generator(6)).equal(gaussian_surrogate(x, generator(7)))


def test_coordinates_with_nan_stay_alone() -> None:
    x = torch.randn(10, 3, generator=generator(8))
    x[4, 1] = math.nan
    assert gaussian_surrogate(x, generator(9)).isnan().any(0).tolist() == [False, True, False]


def test_eight_bits_are_computed_in_single_precision() -> None:
    x = torch.randn(16, 3, generator=generator(10)).to(torch.float8_e4m3fn)
    surrogate = gaussian_surrogate(x, generator(9))
    assert surrogate.dtype == x.dtype
    assert torch.equal(surrogate.float(), gaussian_surrogate(x.float(), generator(9)).to(x.dtype).float())


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"needs a dense tensor, got torch\.sparse_coo"):
        gaussian_surrogate(torch.eye(9).to_sparse())
    with pytest.raises(TypeError, match=r"real floating point values, got torch\.int64"):
        gaussian_surrogate(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"at least one draw along dim 0, got shape \(\)"):
        gaussian_surrogate(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"at least one draw along dim 0, got shape \(0, 2\)"):
        gaussian_surrogate(torch.ones(0, 2))


def test_no_graph_is_kept() -> None:
    assert not gaussian_surrogate(torch.randn(8, 2, requires_grad=True)).requires_grad
