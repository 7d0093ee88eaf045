"""Random states that come back exactly as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

__all__ = ["check_seed", "derived_seed", "isolated_random_state"]


def check_seed(seed: object) -> None:
    """Refuses what no generator can be seeded with.

    Raises:
        ValueError: If ``seed`` is not an integer in [0, 2⁶³).
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an integer in [0, 2**63), got {seed!r}.")


def derived_seed(*key: int) -> int:
    """Derives a seed from several integers, so that neighbouring keys give unrelated streams.

    Args:
        key: Non-negative integers, for example seed, step and rank.

    Returns:
        A seed in [0, 2³²).

    Example:
        >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


@contextmanager
def _isolated_accelerator(seed: int, device: torch.device) -> Iterator[None]:
    backend: Any = getattr(torch, device.type)
    is_single = device.type == "mps"  # its functions take no device
    state = backend.get_rng_state() if is_single else backend.get_rng_state(device)
    try:
        with nullcontext() if is_single else backend.device(device):
            backend.manual_seed(seed)
        yield
    finally:
        backend.set_rng_state(state) if is_single else backend.set_rng_state(state, device)


@contextmanager
def isolated_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Gives Python, NumPy and torch random states of their own, and the old ones back afterwards.

    Reseeding matters as much as restoring: without it a measurement would replay the very numbers that training is
    about to use.

    Args:
        seed: Seed of the states inside, in [0, 2³²).
        device: The accelerator whose generator is isolated together with the CPU's.
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 -- the global state is what users' transforms draw from
        # torch.manual_seed would also reseed the process's other accelerators, whose states are not kept here
        torch.default_generator.manual_seed(seed)
        with nullcontext() if device.type == "cpu" else _isolated_accelerator(seed, device):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
