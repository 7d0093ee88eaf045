"""What SharpnessMonitor measures is one function throughout a run; what it refuses, and what it survives."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_tailindex import SharpnessMonitor, SharpnessReport
from lightning_tailindex.records import from_plain, to_plain

from .sharp import Classifier, Kept, Quadratic, fit, samples, watch
from .test_sharpness_monitor import ALL, dense


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
    "accumulation that changes": {"others": [GradientAccumulationScheduler({1: 2})], "max_epochs": 2},
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.filterwarnings(
    "ignore:Found .* module.s. in eval mode", "ignore:The dataloader, train_dataloader, does not"
)
def test_the_loss_is_the_same_function_at_every_measurement(name: str) -> None:
    options = dict(SAME[name])
    monitor = watch(dataloader=options.pop("dataloader", None))
    module, data = options.pop("module", Frozen)(), options.pop("data", lambda: None)()
    fit(module, monitor, *options.pop("others", ()), data=data, **options)
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
    def run(max_steps: int, **options: Any) -> SharpnessMonitor:
        monitor, saving = watch(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=6, save_top_k=-1)
        options |= {
            "enable_checkpointing": True,
            "default_root_dir": tmp_path,
            "max_steps": max_steps,
            "max_epochs": -1,
        }
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
    "max_products": ({"max_products": 40}, "for num_eigenvalues=1 must be an integer of at least 41, got 40"),
    "more products": ({"num_eigenvalues": 20}, "for num_eigenvalues=20 must be an integer of at least 83, got 82"),
    "parameters": ({"parameters": "("}, r"parameters must be regular expressions, got '\('"),
    "dataloader": ({"dataloader": iter([])}, "dataloader must be None or an iterable of batches that can be iterated"),
    "figures": ({"figures": "alpha"}, "figures must be None or among sharpness_over_steps, got 'alpha'"),
    "figures_every": ({"figures_every": 0}, "figures_every must be an integer of at least 1, got 0"),
    "seed": ({"seed": -1}, r"seed must be an integer in \[0, 2\*\*63\), got -1"),
    "on_error": ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_errors_in_words(name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        SharpnessMonitor(**{"max_products": 82, **arguments})


@pytest.mark.parametrize(("num_eigenvalues", "most"), [(1, 41), (3, 41), (12, 51)])
@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 1e-12])
def test_no_more_products_are_computed_than_may_be(num_eigenvalues: int, most: int, tolerance: float) -> None:
    options = {"num_eigenvalues": num_eigenvalues, "tolerance": tolerance, "trace_samples": None}
    monitor = watch(every_n_steps=100, max_products=most, **options)
    fit(Classifier(), monitor)
    assert 20 < monitor.reports[0].num_products <= most
    with pytest.raises(ValueError, match=f"must be an integer of at least {most}, got {most - 1}"):
        watch(max_products=most - 1, **options)


class Nothing:
    """Batches, of which nobody knows that there are none."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def test_data_that_give_nothing_are_told_of() -> None:
    with pytest.raises(ValueError, match="dataloader must have at least one batch, got 0"):
        fit(Quadratic(lr=0.1), watch(dataloader=DataLoader(samples(3), 4, drop_last=True), on_error="warn"))
    with pytest.warns(UserWarning, match="was dropped, training goes on: ValueError: the data have no minibatch"):
        trainer = fit(Quadratic(lr=0.1), watch(dataloader=Nothing(), on_error="warn"))
    assert trainer.global_step == 12


def test_what_cannot_be_measured_is_refused_before_training() -> None:
    class Manual(Quadratic):
        def __init__(self) -> None:
            super().__init__(lr=0.1)
            self.automatic_optimization = False

    with pytest.raises(MisconfigurationException, match=r"Manual optimizes manually.*Define gradient_noise_step"):
        fit(Manual(), watch())
    trainer = Trainer(accelerator="cpu", devices=2, strategy=ModelParallelStrategy(), logger=False)
    with pytest.raises(
        MisconfigurationException, match=r"sharpness cannot be measured under ModelParallelStrategy: .*DDP"
    ):
        watch().setup(trainer, Quadratic(lr=0.1), "fit")
    with pytest.raises(ValueError, match="'nothing' matches no parameter of Quadratic"):
        fit(Quadratic(lr=0.1), watch(parameters="nothing"))
    with pytest.raises(MisconfigurationException, match="num_minibatches must be a number for data without a length"):
        fit(Quadratic(lr=0.1), watch(num_minibatches=None), data=DataLoader(Stream(), 4))
