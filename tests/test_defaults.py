"""Neither torch's default device nor its default type matters: both may be other ones than those of the values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex import TailIndex, figures, functional, gradient_noise
from lightning_tailindex.analysis import analyse, analyse_iterates, resolve_estimators
from lightning_tailindex.curvature import hutchinson_trace, largest_eigenvalues
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.iterates import GroupIterates, IterateObservation
from lightning_tailindex.loggers.names import callback_metrics

from .functional.samples import generator, stable
from .test_analysis import observe

SAMPLE = stable(1.6, (64, 24), generator(1)).float()
BATCHES = stable(1.6, (20, 5, 8), generator(2)).float().unbind()
NEARLY_GAUSSIAN = torch.cat([torch.randn(20_000, 1, generator=generator(3)), torch.full((1, 1), 60.0)])
OBSERVATION = observe(weight=SAMPLE)
ITERATES = GroupIterates("whole_model", SAMPLE[:2], SAMPLE[:32].reshape(2, 16, 24), SAMPLE[:2], 24)
WINDOW = IterateObservation((ITERATES,), 16, 1, 0, False)
METRICS = {estimator: TailIndex(24, estimator) for estimator in ("grouped_mle", "hill")}
MATRIX = torch.diag(torch.linspace(1, 3, 24))


def _noise() -> Tensor:
    module = nn.Linear(8, 1, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(0.1)
    return gradient_noise(module, lambda layer, x: layer(x).square().mean(), BATCHES)["whole_model"]


def _report() -> list[float]:
    report = analyse(OBSERVATION, resolve_estimators(["grouped_mle", "hill"]), step=0, seed=0)
    for figure, _ in (figures.noise_density(report.whole_model), figures.noise_norms(SAMPLE)):
        plt.close(figure)
    return [m.alpha for m in report.measurements]


def _metric(estimator: str) -> Tensor:
    metric = METRICS[estimator]
    metric.reset()
    metric.update(SAMPLE)
    found: Tensor = metric.compute()
    return found


def _iterates() -> list[float]:
    report = analyse_iterates(WINDOW, step=16, parameter_groups=(), minibatch_size=1, replicas="same", seed=0)
    return [estimate.alpha for estimate in report.whole_model.estimates]


WORK: dict[str, Callable[[], object]] = {
    "an interval that ends just below 2": lambda: functional.grouped_mle(NEARLY_GAUSSIAN).high,
    **{name: lambda f=f: f(SAMPLE, pooled=True).alpha for name, f in functional.estimators().items()},
    **{f"{name}, each": lambda f=f: f(SAMPLE).alpha for name, f in functional.estimators().items()},
    "law_fit": lambda: functional.law_fit(SAMPLE, pooled=True, generator=generator(3)).p_value,
    "law_fit, each": lambda: functional.law_fit(SAMPLE).p_value,
    "anderson_darling": lambda: functional.anderson_darling(SAMPLE).p_value,
    "shapiro_wilk": lambda: functional.shapiro_wilk(SAMPLE).p_value,
    "projections": lambda: functional.projection_acceptance(SAMPLE, generator=generator(4)).shapiro_wilk,
    "surrogate": lambda: functional.gaussian_surrogate(SAMPLE, generator(5)),
    "weight_spectrum": lambda: functional.weight_spectrum(SAMPLE).spectral_norm,
    "law": lambda: SymmetricStable(SAMPLE[0].abs().clamp(0.5, 2)).cdf(SAMPLE),
    "gradient_noise": _noise,
    "iterates": _iterates,
    "metric": lambda: _metric("grouped_mle"),
    "metric, hill": lambda: _metric("hill"),
    "callback_metrics": lambda: callback_metrics({"tail_index": 1.7})["tail_index"],
    "report": _report,
    "trace": lambda: hutchinson_trace(lambda vector: MATRIX @ vector, 24, 3).value,
    "eigenvalues": lambda: largest_eigenvalues(lambda vector: MATRIX @ vector, 24).values,
}


def forget_tables() -> None:
    """What is computed at first use is computed again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("lightning_tailindex"):
            for value in vars(module).values():
                getattr(value, "cache_clear", lambda: None)()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "another device": lambda: torch.device("meta"),  # where nothing can be read
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
}


def _numbers(value: object) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, device="cpu", dtype=torch.float64)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """What everything is under the usual defaults."""
    return {name: _numbers(work()) for name, work in WORK.items()}


@pytest.fixture(scope="module", params=DEFAULTS)
def default(
    request: pytest.FixtureRequest, expected: dict[str, Tensor]
) -> Callable[[], AbstractContextManager[object]]:
    """Other defaults, under which tables are computed anew."""
    forget_tables()
    return DEFAULTS[request.param]


@pytest.mark.parametrize("name", WORK)
def test_defaults_do_not_matter(
    name: str, default: Callable[[], AbstractContextManager[object]], expected: dict[str, Tensor]
) -> None:
    with default():
        found = _numbers(WORK[name]())
    assert (found.device.type, found.dtype) == ("cpu", expected[name].dtype)
    torch.testing.assert_close(found, expected[name], rtol=0, atol=0, equal_nan=True)


def test_they_matter_to_torch() -> None:
    with torch.device("meta"), pytest.raises(NotImplementedError):
        torch.zeros(1).tolist()
    with default_dtype(torch.bfloat16):
        assert (torch.tensor([1]) / torch.tensor([3])).dtype == torch.bfloat16
    forget_tables()
