"""What the benchmarks share: simulated noise, tables in Markdown, and what they were made on."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Sequence

import numpy
import scipy
import torch
from torch import Tensor

FIRST_SEED = 9000  # nothing in the package was tuned on the seeds from here on


def generator(seed: int) -> torch.Generator:
    """A seeded generator, the seed counted from FIRST_SEED."""
    return torch.Generator().manual_seed(FIRST_SEED + seed)


def stable(alpha: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Symmetric alpha-stable draws at scale 1, by the formula of Chambers, Mallows and Stuck."""
    v = math.pi * (torch.rand(shape, generator=rng, dtype=torch.float64) - 0.5)
    w = torch.empty(shape, dtype=torch.float64).exponential_(generator=rng)
    first = torch.sin(alpha * v) / v.cos() ** (1 / alpha)
    return first * (((1 - alpha) * v).cos() / w) ** ((1 - alpha) / alpha)


def noise(
    alpha: float, draws: int, coordinates: int, rng: torch.Generator, rank: int | None = None, log_sd: float = 1.0
) -> Tensor:
    """Draws of coordinates of lognormal scales: independent, or mixtures of ``rank`` independent sources."""
    sources = stable(alpha, (draws, rank or coordinates), rng)
    mixed = sources @ torch.randn(rank, coordinates, generator=rng, dtype=torch.float64) if rank else sources
    return mixed * (log_sd * torch.randn(coordinates, generator=rng, dtype=torch.float64)).exp()


def name_of_rank(rank: int | None) -> str:
    """How the dependence of coordinates is called in tables and legends."""
    return f"rank {rank}" if rank else "independent"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Versions and the kind of machine, not its name."""
    avx = " with AVX-512" if "AVX512" in torch.backends.cpu.get_cpu_capability() else ""
    threads, kind = torch.get_num_threads(), platform.machine().replace("_", "-")
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"scipy {scipy.__version__}, on {threads} threads of a {kind} machine{avx}."
    )
