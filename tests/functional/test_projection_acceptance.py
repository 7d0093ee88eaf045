from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional.normality import (
    anderson_darling,
    projection_acceptance,
    projection_acceptances,
    shapiro_wilk,
)
from lightning_tailindex.functional.surrogate import gaussian_surrogate

from .samples import generator, noise


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def shares(alpha: float, rank: int, repetitions: int) -> Tensor:
    """Both tests' mean acceptance of noise and of its surrogate, shape [2, 2]."""
    rng, rows = generator(rank), []
    for _ in range(repetitions):
        u = noise(alpha, 64, 200, rng, rank)
        both = [projection_acceptance(v, generator=rng) for v in (u, gaussian_surrogate(u, rng))]
        rows.append(torch.tensor([[a.anderson_darling, a.shapiro_wilk] for a in both]))
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("rank", [3, 20])
def test_gaussian_noise_of_any_covariance_is_accepted(rank: int) -> None:
    # A share scatters by 0.08 at rank 3 and by 0.035 at rank 20, the mean of 60 by 0.01 or less.
    assert (shares(2.0, rank, 60) - 0.95).abs().max() < 0.035


@pytest.mark.parametrize("rank", [3, 20])
def test_heavy_noise_is_not_but_its_surrogate_is(rank: int) -> None:
    real, surrogate = shares(1.3, rank, 20)
    assert real.max() < 0.1
    assert surrogate.min() > 0.87


def test_projections_are_those_of_the_generator_on_raw_coordinates() -> None:
    x = noise(1.9, 64, 30, generator(5)).reshape(64, 5, 6)
    directions = torch.randn(30, 400, generator=generator(6), dtype=torch.float64)
    p_values = [test(x.flatten(1) @ directions).p_value for test in (anderson_darling, shapiro_wilk)]
    for level in (0.05, 0.2, 0.4):
        share = projection_acceptance(x, num_projections=400, level=level, generator=generator(6))
        wanted = [(p_value > level).double().mean() for p_value in p_values]
        assert [share.anderson_darling, share.shapiro_wilk] == wanted
        assert 0 < share.shapiro_wilk < 1
        assert share.shapiro_wilk.shape == ()
        other = projection_acceptance(x, num_projections=400, level=level, generator=generator(7))
        assert [other.anderson_darling, other.shapiro_wilk] != wanted


def test_groups_together_are_what_they_are_alone() -> None:
    samples = [noise(alpha, 64, d, generator(8)) for alpha, d in ((2.0, 30), (1.8, 30), (1.6, 4))]
    samples.append(torch.full((64, 3), math.nan, dtype=torch.float64))
    together = torch.stack(projection_acceptances(samples, seed=9))
    for i, x in enumerate(samples):
        alone = projection_acceptance(x, generator=generator(9))
        wanted = torch.stack([alone.anderson_darling, alone.shapiro_wilk])
        assert torch.allclose(together[:, i], wanted, rtol=0, equal_nan=True)
    assert together[:, 1:3].diff(dim=1).abs().max() > 0.05


def test_bad_noise_gives_nan_and_a_note() -> None:
    x = randn(20, 6, seed=10)
    good = projection_acceptance(x, generator=generator(0))
    assert good.note == ""
    assert good.anderson_darling > 0.5
    spoiled = torch.where(torch.arange(6) == 2, math.nan, x)
    for bad, note in (
        (spoiled, "NaN or infinite values"),
        (torch.full_like(x, 0.1), "constant values"),
        (x[:7], "fewer than 8 values"),
    ):
        acceptance = projection_acceptance(bad, generator=generator(0))
        assert acceptance.anderson_darling.isnan()
        assert acceptance.shapiro_wilk.isnan()
        assert acceptance.note == f"50 of 50 series left out: {note}"


def test_errors() -> None:
    x = randn(20, 3, seed=11)
    with pytest.raises(ValueError, match=r"needs a whole number num_projections >= 1, got num_projections=0"):
        projection_acceptance(x, num_projections=0)
    with pytest.raises(ValueError, match=r"needs 0 < level < 1, got level=5"):
        projection_acceptance(x, level=5)
    with pytest.raises(TypeError, match=r"projection_acceptance needs real floating point values, got torch\.bool"):
        projection_acceptance(x > 0)
