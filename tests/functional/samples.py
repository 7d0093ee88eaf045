from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stable(alpha: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Draws at scale 1 from a seeded generator, by the formula of Chambers, Mallows and Stuck."""
    v = math.pi * (torch.rand(shape, generator=rng, dtype=torch.float64) - 0.5)
    w = torch.empty(shape, dtype=torch.float64).exponential_(generator=rng)
    first = torch.sin(alpha * v) / v.cos() ** (1 / alpha)
    return first * (((1 - alpha) * v).cos() / w) ** ((1 - alpha) / alpha)


def pareto(alpha: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Draws of random signs with P(|X| > x) = x^-alpha from 1 on."""
    sign = torch.randint(2, shape, generator=rng) * 2 - 1
    return sign * (1 - torch.rand(shape, generator=rng, dtype=torch.float64)) ** (-1 / alpha)


Law = Callable[[float, tuple[int, ...], torch.Generator], Tensor]


def noise(
    alpha: float, draws: int, coordinates: int, rng: torch.Generator, rank: int | None = None, law: Law = stable
) -> Tensor:
    """Draws of coordinates of lognormal scales: independent, or mixtures of a few independent sources."""
    sources = law(alpha, (draws, rank or coordinates), rng)
    mixed = sources @ torch.randn(rank, coordinates, generator=rng, dtype=torch.float64) if rank else sources
    return mixed * torch.randn(coordinates, generator=rng, dtype=torch.float64).exp()
