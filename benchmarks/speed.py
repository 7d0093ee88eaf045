"""How long the estimates take, beside one pass over the values and beside other packages."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable

import torch
from scipy.stats import levy_stable
from shared import generator, stable, table
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional.grouped_mle import pooled_groups
from lightning_tailindex.functional.surrogate import gaussian_surrogate

SHAPES = [(10_000, 1000), (1000, 10_000), (100, 100_000)]
_CHUNK = 65_536
_ALPHA = 1.8

Job = Callable[[], object]


def seconds(job: Job, device: str) -> float:
    """Wall-clock time of one call, until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(jobs: dict[str, Job], repetitions: int, device: str) -> dict[str, float]:
    """Median seconds of each job, called in turns so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repetitions + 1):
        for name, job in jobs.items():
            spent = seconds(job, device)
            if turn:  # the first turn builds tables
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def log_sum(x: Tensor, device: str) -> Tensor:
    """One pass over the values, in pieces that stay in the cache of a CPU."""
    pieces = [x] if device == "cuda" else x.flatten().split(_CHUNK)
    return torch.stack([piece.abs().log().sum() for piece in pieces]).sum()


def shapes_table(quick: bool, device: str) -> str:
    """Milliseconds for a million values; on a GPU also what share of a copy's bandwidth it is to read them once."""
    header, rows = ["float32", "ms per 10⁶ values", "log-sum", "ratio"], []
    for place, shape in enumerate(SHAPES):
        x = stable(_ALPHA, shape, generator(60_000 + place)).float().to(device)
        jobs: dict[str, Job] = {"mle": lambda x=x: grouped_mle(x), "sum": lambda x=x: log_sum(x, device)}
        jobs |= {"copy": x.clone} if device == "cuda" else {}
        found = interleaved(jobs, 3 if quick else 11, device)
        million = x.numel() / 1e6
        cells = [f"{1000 * found[k] / million:.2f}" for k in ("mle", "sum")] + [f"{found['mle'] / found['sum']:.1f}"]
        if device == "cuda":  # a copy reads and writes
            cells.append(f"{found['copy'] / 2 / found['mle']:.1%}")
        rows.append([f"[{shape[0]}, {shape[1]}]", *cells])
    return table([*header, *(["share of bandwidth"] if device == "cuda" else [])], rows)


def measurement_table(quick: bool, device: str) -> str:
    """Milliseconds for the estimates of one measurement: 20 groups of [64, 1024] and their surrogates.

    In inference mode, as in a measurement.
    """
    rng = generator(61_000)
    groups = [stable(_ALPHA, (64, 1024), rng).float().to(device) for _ in range(20)]
    surrogates = [gaussian_surrogate(group) for group in groups]
    jobs: dict[str, Job] = {
        "pooled estimates with intervals": lambda: pooled_groups(groups),
        "pooled estimates of the surrogates": lambda: pooled_groups(surrogates, intervals=[False] * len(surrogates)),
        "drawing the surrogates": lambda: [gaussian_surrogate(group) for group in groups],
    }
    with torch.inference_mode():
        found = interleaved(jobs, 3 if quick else 21, device)
    both = sum(list(found.values())[:2])
    rows = [[name, f"{1000 * value:.1f}"] for name, value in found.items()]
    return table(["20 groups of [64, 1024]", "ms"], [*rows, ["both estimates together", f"{1000 * both:.1f}"]])


def levy_module() -> tuple[object | None, str]:
    """The package pylevy, or why it is left out."""
    try:
        return importlib.import_module("levy"), ""
    except ImportError as error:
        return None, f"pylevy is left out: {error} (its setup script needs numpy, which builds in isolation lack)."


def others_table(quick: bool) -> str:
    """Milliseconds for one series of 1000 values, here and in other packages."""
    x = stable(1.5, (1000, 1000), generator(62_000))
    one, values = x[:, 0].contiguous(), x[:, 0].numpy()
    levy, reason = levy_module()
    jobs: dict[str, Job] = {
        "grouped_mle, one series": lambda: grouped_mle(one),
        "grouped_mle, one of 1000 series": lambda: grouped_mle(x),
        "scipy levy_stable, quantiles": lambda: levy_stable._fitstart(values),
    }
    if levy is not None:
        jobs["pylevy fit_levy"] = lambda: levy.fit_levy(values, beta=0.0)
    found = interleaved(jobs, 3 if quick else 11, "cpu")
    found["grouped_mle, one of 1000 series"] /= 1000
    if not quick:
        found["scipy levy_stable.fit, once"] = seconds(lambda: levy_stable.fit(values), "cpu")
    own = found["grouped_mle, one series"]
    rows = [
        [name, f"{1000 * value:.3g}" if value < 1 else f"{1000 * value:.0f}", f"{value / own:.3g}"]
        for name, value in found.items()
    ]
    return table(["1000 values", "ms", "ratio to grouped_mle"], rows) + (f"\n\n{reason}" if reason else "")
