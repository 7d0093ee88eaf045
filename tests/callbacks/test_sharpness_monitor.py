"""SharpnessMonitor says what the Hessian of the training loss is, on minibatches that stay the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.utils.data import DataLoader

from .sharp import EIGENVALUES, Classifier, Kept, Quadratic, fit, samples, watch


def dense(weights: dict[str, Tensor], names: list[str]) -> Tensor:
    """The Hessian over the whole training set, in double precision, from the weights at some step."""
    module, (x, y) = Classifier().double(), samples().tensors
    fixed = {name: value.double() for name, value in weights.items()}
    sizes = [fixed[name].numel() for name in names]

    def loss(flat: Tensor) -> Tensor:
        pieces = {n: part.view_as(fixed[n]) for n, part in zip(names, flat.split(sizes), strict=True)}
        return functional_call(
            Step(module), {f"module.{k}": v for k, v in {**fixed, **pieces}.items()}, ([x.double(), y],)
        )

    return hessian(loss, torch.cat([fixed[name].flatten() for name in names]))  # type: ignore[no-any-return]


class Step(nn.Module):
    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: list[Tensor]) -> Tensor:
        return self.module.training_step(batch, 0)


ALL = [f"{part}.{what}" for part in ("net.0", "net.3", "unused") for what in ("weight", "bias")]


@pytest.mark.parametrize(
    ("parameters", "names"), [(None, ALL), ("net.3", ALL[2:4]), (["0.weight", "unused"], [ALL[0], *ALL[4:]])]
)
def test_numbers_are_those_of_the_dense_matrix(parameters: Any, names: list[str]) -> None:
    monitor, kept = watch(num_eigenvalues=3, num_minibatches=None, trace_samples=50, parameters=parameters), Kept()
    fit(Classifier(), monitor, kept, data=DataLoader(samples(), 24, shuffle=True), max_epochs=3)
    assert [report.step for report in monitor.reports] == [0, 4]
    for report in monitor.reports:
        matrix = dense(kept.weights[report.step], names)
        assert report.num_parameters == len(matrix)
        assert report.eigenvalues == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:3].tolist(), rel=1e-3)
        assert report.trace == pytest.approx(matrix.trace().item(), abs=4 * report.trace_error)
        off_diagonal = (matrix - matrix.diag().diag()).norm().item()
        assert report.trace_error == pytest.approx(math.sqrt(2 / 50) * off_diagonal, rel=0.4)
        assert max(report.residuals) < 1e-3
        assert report.note == ""


def test_minibatches_in_the_loss_are_weighted_by_their_samples() -> None:
    monitor, kept = watch(num_minibatches=None, every_n_steps=100), Kept()
    fit(
        Classifier(), monitor, kept, data=DataLoader(samples(), 20, shuffle=True), accumulate_grad_batches=1
    )  # 20, 20, 8
    expected = torch.linalg.eigvalsh(dense(kept.weights[0], ALL))[-1].item()
    assert monitor.reports[0].largest_eigenvalue == pytest.approx(expected, rel=1e-3)
    assert monitor.reports[0].num_minibatches == 3


def test_a_quadratic_has_the_curvature_that_it_has() -> None:
    monitor = watch(num_eigenvalues=4)
    fit(Quadratic(lr=0.1), monitor)
    for report in monitor.reports:
        assert report.eigenvalues == pytest.approx(EIGENVALUES)
        assert (report.trace, report.trace_error) == (sum(EIGENVALUES), 0)
        assert report.step_size_times_eigenvalue == pytest.approx(0.8)
    assert monitor.reports[0].loss == 5
    assert (monitor.reports[0].minibatch_size, monitor.reports[0].num_minibatches) == (4, 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.5},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.4},
    ],
)
def test_training_diverges_just_beyond_the_limit_of_stability(options: dict[str, Any]) -> None:
    """At 0.97 of the limit the largest eigenvalue's direction shrinks, at 1.03 of it, it grows."""
    probe = watch(num_minibatches=1)
    fit(Quadratic(lr=0.01, **options), probe, max_steps=1)
    (report,) = probe.reports
    decay = options.get("weight_decay", 0)
    right_side = report.stability_limit + 0.01 * decay
    for factor, grows in ((0.97, False), (1.03, True)):
        step_size = factor * right_side / (report.largest_eigenvalue + decay)
        module, monitor = Quadratic(lr=step_size, **options), watch(every_n_steps=50)
        fit(module, monitor, max_steps=100, max_epochs=-1)
        found = monitor.reports[-1]
        assert (found.step_size_times_eigenvalue > found.stability_limit) is grows
        assert (not abs(module.weight[0].item()) < 1) is grows  # far beyond, it is NaN


def test_step_sizes_are_those_of_the_next_step() -> None:
    class Scheduled(Quadratic):
        def configure_optimizers(self) -> Any:
            other = nn.Parameter(torch.ones(1))
            groups = [{"params": [self.weight], "lr": 0.01}, {"params": [other], "lr": 0.02, "momentum": 0.5}]
            optimizer = torch.optim.SGD(groups)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    monitor = watch()
    fit(Scheduled(), monitor)
    assert [report.step_sizes for report in monitor.reports] == [
        pytest.approx((0.01 / factor, 0.02 / factor)) for factor in (1, 2, 4)
    ]
    assert [report.step_size_times_eigenvalue for report in monitor.reports] == pytest.approx([0.16, 0.08, 0.04])
    assert [report.stability_limit for report in monitor.reports] == [2, 2, 2]


class SGD(torch.optim.Optimizer):
    """Of the name alone, with step sizes and nothing else of torch's."""

    def __init__(self, parameters: Any, **settings: Any) -> None:
        super().__init__(parameters, settings)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        closure()


class Still(Quadratic):
    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), **self.options)


@pytest.mark.parametrize(
    ("module", "limit", "words"),
    [
        (Quadratic(lr=0.1, momentum=0.9, dampening=1.0), math.inf, ""),
        (Quadratic(lr=0.01, momentum=0.9, dampening=1.5), math.nan, "for an SGD that dampens by more than 1"),
        (Quadratic(lr=0.01, maximize=True), math.nan, "for an SGD that maximizes: it ascends"),
        (Still(lr=0.1), 2.0, ""),
        (Still(lr=0.1, momentum=None), 2.0, ""),
        (Still(lr=None), math.nan, "for an SGD that dampens by more than 1 or has no step size"),
        (Still(), math.nan, "for an SGD that dampens by more than 1 or has no step size"),
    ],
)
def test_unusual_gradient_descent_is_measured(module: Quadratic, limit: float, words: str) -> None:
    monitor = watch(every_n_steps=100)
    fit(module, monitor)
    (report,) = monitor.reports
    assert report.eigenvalues[0] == pytest.approx(EIGENVALUES[0])
    assert report.stability_limit == pytest.approx(limit, nan_ok=True)
    assert ("there is no limit of stability" in report.note) is math.isnan(limit)
    assert words in report.note


class WithoutOptimizer(Classifier):
    def configure_optimizers(self) -> Any:
        return None


@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`")
def test_without_an_optimizer_there_is_no_limit() -> None:
    monitor = watch(every_n_steps=100)
    fit(WithoutOptimizer(), monitor)
    words = "there is no limit of stability for the step size where Lightning knows no optimizer"
    assert words in monitor.reports[0].note


def test_other_optimizers_have_no_limit() -> None:
    monitor = watch(every_n_steps=100)
    fit(Classifier(optimizer=torch.optim.AdamW), monitor)
    (report,) = monitor.reports
    assert math.isnan(report.stability_limit)
    assert report.note == "there is no limit of stability for the step size of AdamW, which rescales gradients"
    assert report.step_size_times_eigenvalue == pytest.approx(0.1 * report.largest_eigenvalue)
