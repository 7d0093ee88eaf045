"""SharpnessMonitor says what the Hessian of the training loss is, on minibatches that stay the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_tailindex import SharpnessMonitor, SharpnessReport
from lightning_tailindex.records import from_plain, to_plain

EIGENVALUES = (8.0, 3.0, 1.0, -2.0)


def samples(size: int = 48) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(size, 4, generator=generator), torch.randint(3, (size,), generator=generator))


class Classifier(LightningModule):
    """A small net; what makes its loss random or moving is in ``spoil``."""

    def __init__(self, spoil: nn.Module | None = None, optimizer: Callable[..., Any] = torch.optim.SGD) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), spoil or nn.Identity(), nn.Linear(6, 3))
        self.unused, self.frozen = nn.Linear(2, 2), nn.Linear(3, 3).requires_grad_(False)
        self.optimizer = optimizer

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.frozen(self.net(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return self.optimizer([p for p in self.parameters() if p.requires_grad], lr=0.1)


class Quadratic(LightningModule):
    """The loss w'Aw / 2, whatever the batch, under gradient descent."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.options = options

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (torch.tensor(EIGENVALUES) * self.weight**2).sum() / 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), **self.options)


def watch(**options: Any) -> SharpnessMonitor:
    return SharpnessMonitor(**{"every_n_steps": 4, "trace_samples": 4, "on_error": "raise", "figures": None, **options})


def fit(
    module: LightningModule, *callbacks: Callback, data: Any = None, ckpt_path: str | None = None, **options: Any
) -> Trainer:
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    bars = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=list(callbacks), **{**settings, **bars, **options})
    trainer.fit(module, DataLoader(samples(), 4, shuffle=True) if data is None else data, ckpt_path=ckpt_path)
    return trainer


class Kept(Callback):
    """Keeps the weights before each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.weights[trainer.global_step] = {k: v.clone() for k, v in pl_module.state_dict().items()}


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
        module, monitor = Quadratic(lr=step_size, **options), watch(every_n_steps=100)
        fit(module, monitor, max_steps=200, max_epochs=-1)
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


def test_other_optimizers_have_no_limit() -> None:
    monitor = watch(every_n_steps=100)
    fit(Classifier(optimizer=torch.optim.AdamW), monitor)
    (report,) = monitor.reports
    assert math.isnan(report.stability_limit)
    assert report.note == "there is no limit of stability for the step size of AdamW, which rescales gradients"
    assert report.step_size_times_eigenvalue == pytest.approx(0.1 * report.largest_eigenvalue)


class Frozen(Classifier):
    """Does not learn, so that all its reports have to be the same."""

    def __init__(self, spoil: nn.Module | None = None) -> None:
        super().__init__(spoil, lambda parameters, lr: torch.optim.SGD(parameters, lr=0.0))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(list(zip(*samples().tensors, strict=True)))


class Augmented(TensorDataset):
    """Samples with random numbers of every global generator."""

    def __getitem__(self, index: int) -> Any:
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1)  # noqa: NPY002
        return self.tensors[0][index] + noise + 0.1 * torch.randn(4), self.tensors[1][index]


class OwnNumbers(nn.Module):
    """Counts its calls outside of buffers, which nobody can put back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


SAME: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"module": lambda: Frozen(nn.Dropout(0.4))},
    "batch norm": {"module": lambda: Frozen(nn.BatchNorm1d(6))},
    "augmented": {"data": lambda: DataLoader(Augmented(*samples().tensors), 4, shuffle=True)},
    "augmented in workers": {"data": lambda: DataLoader(Augmented(*samples().tensors), 4, shuffle=True, num_workers=1)},
    "a stream": {"data": lambda: DataLoader(Stream(), 4)},
    "a dataloader of its own": {"dataloader": DataLoader(samples(20), 5)},
    "accumulation": {"accumulate_grad_batches": 2, "max_epochs": 2},
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.filterwarnings(
    "ignore:Found .* module.s. in eval mode", "ignore:The dataloader, train_dataloader, does not"
)
def test_the_loss_is_the_same_function_at_every_measurement(name: str) -> None:
    options = dict(SAME[name])
    monitor = watch(dataloader=options.pop("dataloader", None))
    module, data = options.pop("module", Frozen)(), options.pop("data", lambda: None)()
    fit(module, monitor, data=data, **options)
    first, *others = (replace(report, step=0, seconds=0.0) for report in monitor.reports)
    assert others
    assert all(other == first for other in others)
    assert first.note == ""
    assert max(first.residuals) < 1e-3  # Lanczos saw one matrix, and a symmetric one


def test_other_seeds_are_other_minibatches() -> None:
    monitors = [watch(seed=seed, every_n_steps=100) for seed in (0, 1)]
    for monitor in monitors:
        fit(Frozen(), monitor)
    first, second = (monitor.reports[0] for monitor in monitors)
    assert first.loss != second.loss


def test_a_loss_that_moves_is_told_of() -> None:
    monitor = watch(every_n_steps=100, num_minibatches=1)
    fit(Frozen(OwnNumbers()), monitor)
    assert "the loss is not the same in every pass, it goes from" in monitor.reports[0].note


def test_autocast_is_off() -> None:
    plain, mixed = watch(every_n_steps=100), watch(every_n_steps=100)
    fit(Classifier(), plain)
    fit(Classifier(), mixed, precision="bf16-mixed")
    assert mixed.reports[0].eigenvalues == plain.reports[0].eigenvalues
    assert mixed.reports[0].note == ""


def test_coarse_parameters_are_told_of() -> None:
    monitor, plain = watch(every_n_steps=100), watch(every_n_steps=100)
    fit(Classifier(), monitor, precision="bf16-true")
    fit(Classifier(), plain)
    (report,) = monitor.reports
    assert "parameters are bfloat16: products are rounded to two or three digits" in report.note
    assert report.largest_eigenvalue == pytest.approx(plain.reports[0].largest_eigenvalue, rel=0.1)


def test_double_precision_is_kept() -> None:
    monitor, kept = watch(num_minibatches=None, every_n_steps=100, tolerance=1e-12), Kept()
    fit(Classifier(), monitor, kept, precision="64-true")
    expected = torch.linalg.eigvalsh(dense(kept.weights[0], ALL))[-1].item()
    assert monitor.reports[0].largest_eigenvalue == pytest.approx(expected, rel=1e-11)


def test_a_loss_that_is_not_finite_gives_nan_and_a_note() -> None:
    class Broken(Quadratic):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * math.nan

    monitor = watch(every_n_steps=100)
    fit(Broken(lr=0.1), monitor)
    (report,) = monitor.reports
    assert math.isnan(report.largest_eigenvalue)
    assert math.isnan(report.trace)
    assert report.note.startswith("products of the Hessian with vectors are not finite")


def test_what_cannot_be_measured_is_dropped_and_told_in_words() -> None:
    class Nothing(Quadratic):
        def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            return None

    monitor = watch(on_error="warn")
    with pytest.warns(UserWarning, match="no minibatch has a loss"):
        fit(Nothing(lr=0.1), monitor)
    assert monitor.reports == []


def test_the_callback_metric_is_the_largest_eigenvalue(tmp_path: Path) -> None:
    monitor = watch()
    best = ModelCheckpoint(tmp_path, monitor="sharpness", mode="min", save_top_k=1)
    trainer = fit(Classifier(), monitor, best, enable_checkpointing=True, default_root_dir=tmp_path)
    assert trainer.callback_metrics["sharpness"].item() == pytest.approx(monitor.reports[-1].largest_eigenvalue)
    assert best.best_model_score == trainer.callback_metrics["sharpness"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists", "ignore:You're resuming from a checkpoint")
def test_a_resumed_run_goes_on_with_its_reports(tmp_path: Path) -> None:
    def run(max_epochs: int, **options: Any) -> SharpnessMonitor:
        monitor, saving = watch(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=6, save_top_k=-1)
        options |= {"enable_checkpointing": True, "default_root_dir": tmp_path, "max_epochs": max_epochs}
        # one batch an epoch: Lightning gives a run that stopped within one its place in the data not back
        fit(Classifier(), monitor, saving, data=DataLoader(samples(), 48), **options)
        return monitor

    stopped = run(6)
    resumed, whole = run(12, ckpt_path=str(tmp_path / "step=6.ckpt")), run(12)
    assert [report.step for report in stopped.reports] == [0, 4]
    compared = [[replace(report, seconds=0.0) for report in monitor.reports] for monitor in (whole, resumed)]
    assert [report.step for report in compared[1]] == [0, 4, 8]
    assert compared[0] == compared[1]
    assert compared[0][0].eigenvalues != compared[0][1].eigenvalues  # the control


def test_a_report_comes_back_from_plain_types_as_it_was() -> None:
    monitor = watch(num_eigenvalues=2)
    fit(Classifier(), monitor)
    report = monitor.reports[0]
    assert from_plain(SharpnessReport, to_plain(report)) == report


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "every_n_steps": ({"every_n_steps": 0}, "every_n_steps must be an integer of at least 1, got 0"),
    "num_eigenvalues": ({"num_eigenvalues": 1.5}, "num_eigenvalues must be an integer of at least 1, got 1.5"),
    "num_minibatches": ({"num_minibatches": 0}, "num_minibatches must be None or an integer of at least 1, got 0"),
    "trace_samples": ({"trace_samples": 1}, "trace_samples must be None or an integer of at least 2, got 1"),
    "tolerance": ({"tolerance": 0}, "tolerance must be a number above 0, got 0"),
    "max_products": ({"max_products": 39}, "max_products must be an integer of at least 40, got 39"),
    "more products": ({"num_eigenvalues": 20}, "max_products must be an integer of at least 82, got 81"),
    "parameters": ({"parameters": "("}, r"parameters must be regular expressions, got '\('"),
    "dataloader": ({"dataloader": iter([])}, "dataloader must be None or an iterable of batches that can be iterated"),
    "figures": ({"figures": "alpha"}, "figures must be None or among sharpness_over_steps, got 'alpha'"),
    "figures_every": ({"figures_every": 0}, "figures_every must be an integer of at least 1, got 0"),
    "seed": ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    "on_error": ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_errors_in_words(name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        SharpnessMonitor(**{"max_products": 81, **arguments})


def test_what_cannot_be_measured_is_refused_before_training() -> None:
    class Manual(Quadratic):
        def __init__(self) -> None:
            super().__init__(lr=0.1)
            self.automatic_optimization = False

    with pytest.raises(MisconfigurationException, match=r"Manual optimizes manually.*Define gradient_noise_step"):
        fit(Manual(), watch())
    with pytest.raises(ValueError, match="'nothing' matches no parameter of Quadratic"):
        fit(Quadratic(lr=0.1), watch(parameters="nothing"))
    with pytest.raises(MisconfigurationException, match="num_minibatches must be a number for data without a length"):
        fit(Quadratic(lr=0.1), watch(num_minibatches=None), data=DataLoader(Stream(), 4))
