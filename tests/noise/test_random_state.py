import random

import numpy as np
import pytest
import torch

from lightning_tailindex.noise.random_state import derived_seed, isolated_random_state

CPU = torch.device("cpu")


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def test_states_come_back_after_use() -> None:
    seed_all(0)
    expected = draw()
    seed_all(0)
    with isolated_random_state(5, CPU):
        inside = draw()
    assert draw() == expected
    assert inside != expected


def interrupted() -> None:
    with isolated_random_state(5, CPU):
        draw()
        raise KeyboardInterrupt


def test_states_come_back_after_an_error() -> None:
    seed_all(0)
    expected = draw()
    seed_all(0)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert draw() == expected


def test_the_seed_decides_what_happens_inside() -> None:
    draws = []
    for seed in (5, 5, 6):
        with isolated_random_state(seed, CPU):
            draws.append(draw())
    assert draws[0] == draws[1] != draws[2]


def test_neighbouring_keys_give_unrelated_seeds() -> None:
    seeds = {derived_seed(seed, step) for seed in range(20) for step in range(20)}
    assert len(seeds) == 400
