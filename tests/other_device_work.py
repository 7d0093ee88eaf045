"""Does everything on another device and on the host, in a process of its own; prints what went wrong with what."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import other_device

LIBRARY = other_device.register()

from lightning_tailindex import (  # noqa: E402 -- the device comes first
    TailIndex,
    functional,
    gradient_noise,
)
from lightning_tailindex.analysis import analyse, analyse_iterates, resolve_estimators  # noqa: E402
from lightning_tailindex.curvature import Hessian, hutchinson_trace, largest_eigenvalues  # noqa: E402
from lightning_tailindex.distributions import SymmetricStable  # noqa: E402
from lightning_tailindex.iterates import GroupIterates, IterateObservation  # noqa: E402
from lightning_tailindex.kernels import compiled  # noqa: E402
from lightning_tailindex.noise.combining import combine  # noqa: E402
from lightning_tailindex.noise.engine import Engine, collect_gradients  # noqa: E402
from lightning_tailindex.noise.groups import measured_parameters, resolve_grouping  # noqa: E402
from lightning_tailindex.noise.minibatches import Minibatch  # noqa: E402
from lightning_tailindex.noise.pairs import PairRecorder  # noqa: E402
from lightning_tailindex.noise.processes import Processes  # noqa: E402

from .functional.samples import generator, stable  # noqa: E402
from .other_device_training import disturbed, training  # noqa: E402

DRAWS = 32
SAMPLE = stable(1.6, (64, 40), generator(1)).float()
SAMPLE[3:9, 2] = 0
SAMPLE[:, 5] = 0

Work = Callable[[torch.device], Any]


def seeded(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def fields(estimate: Any) -> list[Tensor]:
    return [getattr(estimate, name) for name in ("alpha", "low", "high", "scale")]


def estimate(name: str, pooled: bool, device: torch.device) -> Any:
    return fields(functional.estimators()[name](SAMPLE.to(device), pooled=pooled))


def law_fit(pooled: bool, device: torch.device) -> Any:
    fit = functional.law_fit(SAMPLE.to(device), pooled=pooled, generator=seeded(3, device))
    return [fit.gains, fit.p_value, fit.kolmogorov_distance]


def tests_of_normality(device: torch.device) -> Any:
    x = SAMPLE.to(device)
    accepted = functional.projection_acceptance(x, generator=seeded(4, device))
    return [functional.anderson_darling(x).p_value, functional.shapiro_wilk(x).p_value, accepted.shapiro_wilk]


def metric(device: torch.device, **options: Any) -> Any:
    found = TailIndex(num_series=40, **options).to(device)
    found.update(SAMPLE.to(device))
    return [found.compute()]


def net(device: torch.device) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    module, rng = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3)), generator(5)
    batches = [(torch.randn(8, 20, generator=rng), torch.randint(3, (8,), generator=rng)) for _ in range(DRAWS + 8)]
    return module.to(device), [(x.to(device), y.to(device)) for x, y in batches]


def loss(module: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(module(batch[0]), batch[1])


def measurement(engine: Engine, estimators: Any, every_coordinate: bool, device: torch.device) -> Any:
    module, batches = net(device)
    measured, waits = measured_parameters(module), other_device.module().waits
    recorder = collect_gradients(
        module,
        measured,
        resolve_grouping("module"),
        [Minibatch((batch,), 8, i < DRAWS, True) for i, batch in enumerate(batches)],
        lambda batch: loss(module, batch),
        num_draws=DRAWS,
        max_coordinates=100,
        seed=0,
        engine=engine,
        pairs=PairRecorder(measured, Processes()) if every_coordinate else None,
    )
    is_checked = engine == "vectorized" and device.type != "cpu"  # whether a minibatch has the same loss twice
    assert other_device.module().waits == waits + is_checked, "gathering gradients waits for the device"
    report = analyse(combine(recorder, Processes()), resolve_estimators(estimators), step=0, seed=0)
    return [[m.alpha, m.low, m.high, m.noise_norm, m.gaussian_p_value] for m in report.measurements]


def iterates(device: torch.device) -> Any:
    averages, deviations = SAMPLE[:2].to(device), SAMPLE[:32].reshape(2, 16, 40).to(device)
    groups = tuple(GroupIterates(name, averages, deviations, averages, 40) for name in ("layer", "whole_model"))
    report = analyse_iterates(
        IterateObservation(groups, 16, 1, 0, False),
        step=16,
        parameter_groups=(),
        minibatch_size=1,
        replicas="same",
        seed=0,
    )
    return [[e.alpha, e.low, e.high] for e in report.whole_model.estimates]


def curvature(device: torch.device) -> Any:
    module, batches = net(device)
    hessian = Hessian(list(module.parameters()), [(1.0, lambda: loss(module, batches[0]))])
    found = largest_eigenvalues(lambda vector: hessian.product(vector)[:-2], hessian.size, 2, device=hessian.device)
    trace = hutchinson_trace(lambda vector: hessian.product(vector)[:-2], hessian.size, 3, device=hessian.device)
    return [*found.values, trace.value]


def stable_law(device: torch.device) -> Any:
    law, x = SymmetricStable(torch.tensor([1.5, 2.0]).to(device)), torch.tensor([[-3.0], [0.5]]).to(device)
    return [
        law.cdf(x),
        law.log_prob(x),
        law.icdf(law.cdf(x)),
        functional.kolmogorov_distance(SAMPLE[:, :2].to(device), law),
    ]


def waiting(device: torch.device) -> Any:
    waits = other_device.module().waits
    found = float(SAMPLE.to(device).sum())
    assert other_device.module().waits == waits, "the host waits"
    return found


WORK: dict[str, Work] = {
    **{name: partial(estimate, name, True) for name in functional.estimators()},
    **{f"{name}, each": partial(estimate, name, False) for name in functional.estimators()},
    "law_fit": partial(law_fit, True),
    "law_fit, each": partial(law_fit, False),
    "tests of normality": tests_of_normality,
    "surrogate": lambda device: [functional.gaussian_surrogate(SAMPLE.to(device), seeded(6, device))],
    "spectrum": lambda device: functional.weight_spectrum(SAMPLE.to(device)).spectral_norm,
    "metric": metric,
    "metric, centred": partial(metric, center="none"),
    "metric, hill": partial(metric, estimator="hill"),
    "gradient_noise": lambda device: [gradient_noise(net(device)[0], loss, net(device)[1])["whole_model"]],
    "loop": partial(measurement, "loop", ["grouped_mle", "hill"], False),
    "vectorized": partial(measurement, "vectorized", "grouped_mle", False),
    "every coordinate": partial(measurement, "loop", "grouped_mle", True),
    "iterates": iterates,
    "curvature": curvature,
    "stable law": stable_law,
    "training, extra": partial(training, "extra"),
    "training, training": partial(training, "training"),
    # what has to fail
    "mixed devices": lambda device: [SAMPLE.to(device) + SAMPLE.clone()],
    "index of the host": lambda device: [SAMPLE[torch.arange(3).to(device)]],
    "random numbers": disturbed,
    "waiting": waiting,
}


def complaint(work: Work) -> str:
    """What went wrong, and where; nothing where all is well."""
    there = torch.device(other_device.NAME)
    try:
        found, expected = work(there), work(torch.device("cpu"))
        for value, host in zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]:
            if isinstance(host, Tensor):
                assert value.device.type == other_device.NAME, f"a result is on {value.device}"
                torch.testing.assert_close(value.cpu(), host, equal_nan=True)
            else:
                torch.testing.assert_close(value, host, rtol=1e-5, atol=1e-6, equal_nan=True)
    except Exception as error:
        *_, last = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno}: {last.line})"
    return ""


if __name__ == "__main__":
    compiled.suit = lambda *tensors: False  # the host, too, computes by torch: the loops in C round otherwise
    json.dump({name: complaint(work) for name, work in WORK.items()}, sys.stdout)
