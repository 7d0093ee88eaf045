from __future__ import annotations

import pytest
import torch

from lightning_tailindex.functional._alone import alphas_alone
from lightning_tailindex.functional._counts import count_values
from lightning_tailindex.functional._each import fit_each

from .samples import generator, noise


@pytest.mark.parametrize("alpha", [0.3, 0.8, 1.3, 1.8, 2.0])
@pytest.mark.parametrize("n", [20, 64, 500, 3000])
def test_it_finds_the_tail_indices_of_the_whole_fit(n: int, alpha: float) -> None:
    cells = count_values(noise(alpha, n, 200, generator(n)), "median", 4)
    torch.testing.assert_close(alphas_alone(cells, 4), fit_each(cells, 4).alpha, atol=1e-4, rtol=0)


def test_zeros_make_series_of_many_lengths() -> None:
    x = noise(1.5, 64, 300, generator(1))
    x[torch.rand(x.shape, generator=generator(2)) < torch.linspace(0, 1, 300)] = 0.0
    cells = count_values(x, "median", 4)
    found, wanted = alphas_alone(cells, 4), fit_each(cells, 4).alpha
    assert torch.equal(found.isnan(), wanted.isnan())
    assert 0 < int(found.isnan().sum()) < 60
    # shorter ones among longer ones are on finer scales than by themselves
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0, equal_nan=True)


def test_no_series_and_none_that_is_usable_have_none() -> None:
    assert alphas_alone(count_values(torch.zeros(64, 3), "median", 4), 4).isnan().all()
    assert alphas_alone(count_values(torch.zeros(64, 0), "median", 4), 4).shape == (0,)
