"""Chains of SGD on least squares: the steps are those of SGD, and where they end has the tails that theory says."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from lightning_tailindex.functional import hill
from lightning_tailindex.theory.least_squares import (
    critical_step_size,
    lyapunov_exponent,
    moment,
    simulate,
    simulation,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dim", "batch_size"), [(1, 1), (2, 5), (4, 3)])
def test_equals_an_obvious_loop(dim: int, batch_size: int) -> None:
    arguments: dict[str, Any] = {"scale": 1.2, "num_chains": 6, "num_steps": 4, "noise_scale": 0.7}
    got = simulate(0.3, batch_size, dim, **arguments, generator=seeded(), dtype=torch.float64)
    rng = seeded()
    weights = torch.zeros(6, dim, dtype=torch.float64)
    for _ in range(4):
        inputs = 1.2 * torch.randn(6, batch_size, dim, generator=rng, dtype=torch.float64)
        labels = 0.7 * torch.randn(6, batch_size, generator=rng, dtype=torch.float64)
        for chain in range(6):
            x = weights[chain].clone().requires_grad_()
            (0.5 * (inputs[chain] @ x - labels[chain]).square().mean()).backward()
            torch.optim.SGD([x], lr=0.3).step()
            weights[chain] = x.detach()
    assert torch.allclose(got, weights, rtol=1e-12, atol=1e-14)
    assert not torch.equal(got, simulate(0.3, batch_size, dim, **arguments, generator=seeded(1), dtype=torch.float64))


@pytest.mark.parametrize(
    ("dim", "batch_size", "alpha", "num_chains"),
    [
        (1, 1, 1.0, 100_000),
        (1, 5, 1.5, 100_000),
        (1, 5, 2.0, 200_000),
        (2, 1, 1.0, 100_000),
        (2, 1, 1.5, 100_000),
        (2, 5, 1.5, 100_000),
        (2, 5, 2.0, 100_000),
        (5, 5, 1.5, 50_000),
    ],
)
def test_hill_estimates_of_the_iterates_are_what_theory_says(
    dim: int, batch_size: int, alpha: float, num_chains: int
) -> None:
    step_size = critical_step_size(batch_size, dim, tail_index=alpha)
    num_steps = math.ceil(25 / -lyapunov_exponent(step_size, batch_size, dim))
    iterates = simulate(step_size, batch_size, dim, num_chains=num_chains, num_steps=num_steps, generator=seeded())
    assert float(hill(iterates.norm(dim=1), k=num_chains // 50).alpha) == pytest.approx(alpha, abs=0.1)


def test_finite_variance_is_the_one_of_the_recursion() -> None:
    step_size, batch_size, dim, scale, noise_scale = 0.1, 4, 3, 1.5, 2.0
    iterates = simulate(
        step_size, batch_size, dim, scale=scale, noise_scale=noise_scale, num_chains=20_000, num_steps=100,
        generator=seeded(), dtype=torch.float64,
    )  # fmt: skip
    added = (step_size * noise_scale * scale) ** 2 * dim / batch_size
    square = iterates.square().sum(dim=1)
    expected = added / (1 - moment(2, step_size, batch_size, dim, scale))
    assert abs(float(square.mean()) - expected) < 4 * float(square.std()) / 20_000**0.5


def test_chains_beyond_one_block_are_run_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"num_chains": 5000, "num_steps": 60, "dtype": torch.float64}
    whole = simulate(0.2, 2, 3, **arguments, generator=seeded())
    monkeypatch.setattr(simulation, "_LARGEST_DRAW", 6 * 700)
    blocks = simulate(0.2, 2, 3, **arguments, generator=seeded())
    assert len(blocks.unique(dim=0)) == 5000
    for block in blocks.split(700):
        assert float(block.std()) == pytest.approx(float(whole.std()), rel=0.15)
    assert torch.equal(blocks[:700], simulate(0.2, 2, 3, **{**arguments, "num_chains": 700}, generator=seeded()))
    assert not torch.equal(blocks[:700], whole[:700])  # the control: blocks were made


def test_a_chain_larger_than_a_block_is_a_block() -> None:
    assert simulate(1e-7, 5, 1_000_000, num_chains=2, num_steps=1, generator=seeded()).shape == (2, 1_000_000)


@pytest.mark.parametrize(("dim", "batch_size"), [(1, 1), (2, 5), (10, 1)])
def test_where_there_is_no_stationary_law_nothing_is_simulated(dim: int, batch_size: int) -> None:
    last = critical_step_size(batch_size, dim, tail_index=0)
    step_size = 1.01 * last
    exponent = lyapunov_exponent(step_size, batch_size, dim)
    message = (
        f"simulate needs a Lyapunov exponent < 0, for there is no stationary law otherwise, got {exponent:.3g} "
        f"at step_size={step_size!r}; it is 0 at {last:.6g}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(step_size, batch_size, dim, num_chains=1)
    assert simulate(0.99 * last, batch_size, dim, num_chains=1, num_steps=1).shape == (1, dim)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    iterates = simulate(0.2, 2, 3, num_chains=5, num_steps=3, dtype=dtype, generator=seeded())
    assert iterates.dtype == dtype
    assert bool(iterates.isfinite().all())
    assert bool((iterates != 0).all())


def test_dtype_is_the_default_where_none_is_given() -> None:
    assert simulate(0.2, 2, 3, num_chains=5, num_steps=3).dtype == torch.get_default_dtype()


def test_autocast_does_not_round_it() -> None:
    def run() -> torch.Tensor:
        return simulate(0.1, 1, 8, num_chains=20, num_steps=5, generator=torch.Generator().manual_seed(0))

    expected = run()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(), expected)


def test_device_is_the_given_one_or_the_generators() -> None:
    assert simulate(0.2, 2, 3, num_chains=5, num_steps=3, device="cpu").device.type == "cpu"
    if torch.cuda.is_available():
        rng = torch.Generator("cuda").manual_seed(0)
        assert simulate(0.2, 2, 3, num_chains=5, num_steps=3, generator=rng).device.type == "cuda"


def test_a_generator_leaves_torchs_own_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    simulate(0.2, 2, 3, num_chains=5, num_steps=3, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    simulate(0.2, 2, 3, num_chains=5, num_steps=3)
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)


@pytest.mark.parametrize("step_size", [0.4, 0.9])
def test_steps_suffice_to_forget_the_start(step_size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    step = simulation._step
    monkeypatch.setattr(simulation, "_step", lambda *arguments: (taken.append(1), step(*arguments)))
    simulate(step_size, 1, 2, num_chains=1, generator=seeded())
    assert len(taken) == max(500, math.ceil(25 / -lyapunov_exponent(step_size, 1, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_size": -0.1}, "simulate needs a finite step_size > 0, got -0.1."),
        ({"batch_size": 1.5}, "simulate needs a whole number batch_size >= 1, got 1.5."),
        ({"dim": 0}, "simulate needs a whole number dim >= 1, got 0."),
        ({"scale": math.inf}, "simulate needs a finite scale > 0, got inf."),
        ({"num_chains": 0}, "simulate needs a whole number num_chains >= 1, got 0."),
        ({"num_steps": 0}, "simulate needs a whole number num_steps >= 1, got 0."),
        ({"noise_scale": 0.0}, "simulate needs a finite noise_scale > 0, got 0.0."),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"step_size": 0.1, "batch_size": 2, "dim": 3, "num_chains": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(**{**good, **arguments})


def test_a_type_that_is_not_real_is_refused() -> None:
    with pytest.raises(TypeError, match=re.escape("simulate needs a real floating point dtype, got torch.int64.")):
        simulate(0.1, 2, 3, num_chains=4, dtype=torch.int64)
