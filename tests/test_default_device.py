"""Nothing here is made on torch's default device: it may be another one than that of the values."""

from __future__ import annotations

import sys
from collections.abc import Callable

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex import figures, functional, gradient_noise
from lightning_tailindex.analysis import analyse, resolve_estimators
from lightning_tailindex.curvature import hutchinson_trace, largest_eigenvalues

from .functional.samples import generator, stable
from .test_analysis import observe

SAMPLE = stable(1.6, (64, 24), generator(1)).float()
BATCHES = stable(1.6, (20, 5, 8), generator(2)).float().unbind()
OBSERVATION = observe(weight=SAMPLE)
MATRIX = torch.diag(torch.linspace(1, 3, 24))


def _noise() -> Tensor:
    module = nn.Linear(8, 1, device="cpu")
    with torch.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(0.1)
    return gradient_noise(module, lambda layer, x: layer(x).square().mean(), BATCHES)["whole_model"]


def _report() -> list[float]:
    report = analyse(OBSERVATION, resolve_estimators(["grouped_mle", "hill"]), step=0, seed=0)
    for figure, _ in (figures.noise_density(report.whole_model), figures.noise_norms(SAMPLE)):
        plt.close(figure)
    return [m.alpha for m in report.measurements]


WORK: dict[str, Callable[[], object]] = {
    **{name: lambda f=f: f(SAMPLE, pooled=True).alpha for name, f in functional.estimators().items()},
    **{f"{name}, each": lambda f=f: f(SAMPLE).alpha for name, f in functional.estimators().items()},
    "law_fit": lambda: functional.law_fit(SAMPLE, pooled=True, generator=generator(3)).p_value,
    "law_fit, each": lambda: functional.law_fit(SAMPLE).p_value,
    "anderson_darling": lambda: functional.anderson_darling(SAMPLE).p_value,
    "shapiro_wilk": lambda: functional.shapiro_wilk(SAMPLE).p_value,
    "projections": lambda: functional.projection_acceptance(SAMPLE, generator=generator(4)).shapiro_wilk,
    "surrogate": lambda: functional.gaussian_surrogate(SAMPLE, generator(5)),
    "weight_spectrum": lambda: functional.weight_spectrum(SAMPLE).spectral_norm,
    "gradient_noise": _noise,
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


@pytest.fixture(scope="module", autouse=True)
def _tables_of_others() -> None:
    forget_tables()


def _numbers(value: object) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, device="cpu")


@pytest.mark.parametrize("name", WORK)
def test_the_default_device_does_not_matter(name: str) -> None:
    with torch.device("meta"):  # where nothing can be read
        found = _numbers(WORK[name]())
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, _numbers(WORK[name]()), rtol=0, atol=0, equal_nan=True)


def test_what_is_made_there_cannot_be_read() -> None:
    with torch.device("meta"), pytest.raises(NotImplementedError):
        torch.zeros(1).tolist()
