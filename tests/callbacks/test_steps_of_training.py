"""``source="training"`` measures steps that follow each other, of the same parameters and of as many samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.trainer import TrainingGradients


class Mean(LightningModule):
    """Gradients are Gaussian and do not depend on the weights: each is the mean of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(40, 1, bias=False), nn.Linear(40, 1, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return (self.body(batch[0]) + 2 * self.head(batch[0])).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def fit(path: Path, module: LightningModule, *callbacks: Callback, samples: int = 256, **options: Any) -> None:
    seed_everything(0)
    x = 3 + torch.randn(samples, 40, generator=torch.Generator().manual_seed(0))
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_steps": 200}
    loader = DataLoader(TensorDataset(x), batch_size=16, shuffle=True)
    Trainer(**{**own, **quiet, **options}, callbacks=list(callbacks)).fit(module, loader)


def monitor(**arguments: Any) -> TailIndexMonitor:
    settings = {"every_n_steps": 64, "num_minibatches": 32, "source": "training", "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **arguments})


@pytest.mark.parametrize("max_coordinates", [1024, None])
def test_a_short_last_step_of_an_epoch_is_left_out(max_coordinates: int | None, tmp_path: Path) -> None:
    whole, cut = (monitor(max_coordinates=max_coordinates) for _ in range(2))
    fit(tmp_path, Mean(), whole)
    fit(tmp_path, Mean(), cut, samples=257)
    assert [report.step for report in whole.reports] == [64, 128, 192]
    assert [report.step for report in cut.reports] == [67, 128, 192]  # 3 steps of 1 sample in the first 67
    for report in (*whole.reports, *cut.reports):
        assert report.minibatch_size == 16
        assert report.whole_model.noise_norm == pytest.approx((5 * 40 / 16) ** 0.5, rel=0.15)
        assert report.whole_model.high == pytest.approx(2, abs=0.01)


def test_short_accumulation_is_left_out(tmp_path: Path) -> None:
    watching = monitor(num_minibatches=16, every_n_steps=32)
    fit(tmp_path, Mean(), watching, accumulate_grad_batches=3)  # the sixth step of an epoch has one batch
    assert watching.reports[0].step == 38
    assert {report.minibatch_size for report in watching.reports} == {48}


class Skipping(Mean):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return None if batch_idx % 4 == 1 else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
@pytest.mark.parametrize("max_coordinates", [1024, None])
def test_a_step_without_a_loss_is_no_gradient_of_zeros(max_coordinates: int | None, tmp_path: Path) -> None:
    watching = monitor(max_coordinates=max_coordinates)
    fit(tmp_path, Skipping(), watching, max_steps=300)
    assert len(watching.reports) > 1
    for report in watching.reports:
        assert report.whole_model.noise_norm == pytest.approx((5 * 40 / 16) ** 0.5, rel=0.15)


class Switch(Callback):
    """Freezes the body for some steps."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        pl_module.body.weight.requires_grad_(not self.first <= trainer.global_step < self.last)


def test_what_is_trained_is_measured_when_parameters_are_frozen_and_thawed(tmp_path: Path) -> None:
    watching = monitor()
    fit(tmp_path, Mean(), Switch(70, 150), watching, max_steps=260)
    found = [(report.step, [each.group for each in report.measurements]) for report in watching.reports]
    both = ["body", "head", "whole_model"]
    assert found == [(64, both), (134, ["head", "whole_model"]), (214, both), (256, both)]
    norms = [tuple(report.draw_norms) for report in watching.reports]
    assert len(set(norms)) == len(norms)


class Closure(Mean):
    """Steps by an optimizer that evaluates its closure several times."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=1e-6, max_iter=4, tolerance_change=0, tolerance_grad=0)


def test_of_an_optimizer_with_a_closure_a_step_is_one_gradient(tmp_path: Path) -> None:
    watching = monitor()
    fit(tmp_path, Closure(), watching, max_steps=70)
    assert [report.step for report in watching.reports] == [64]
    assert watching.reports[0].whole_model.noise_norm == pytest.approx((5 * 40 / 16) ** 0.5, rel=0.15)


class Accumulating(Mean):
    """Accumulates by itself over four batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return super().training_step(batch, batch_idx)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        self.manual_backward(self.gradient_noise_step(batch, batch_idx) / 4)
        if batch_idx % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


def test_steps_that_were_not_seen_part_the_windows(tmp_path: Path) -> None:
    watching = monitor(every_n_steps=300, num_minibatches=16)
    fit(tmp_path, Accumulating(), watching, max_steps=-1, max_epochs=50)
    assert len(watching.reports) >= 2
    for report in watching.reports:
        assert report.minibatch_size == 64
        assert report.whole_model.noise_norm == pytest.approx((5 * 40 / 64) ** 0.5, rel=0.25)


def test_a_gradient_that_could_not_be_kept_begins_a_new_window(tmp_path: Path, monkeypatch: Any) -> None:
    row, calls = TrainingGradients._row, []

    def failing(source: TrainingGradients) -> dict[str, Tensor]:
        calls.append(source)
        if len(calls) == 21:
            raise MemoryError("broken on purpose")
        return row(source)

    monkeypatch.setattr(TrainingGradients, "_row", failing)
    watching = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="the gradient of step 20 could not be kept"):
        fit(tmp_path, Mean(), watching)
    assert [report.step for report in watching.reports] == [85, 128, 192]


class SecondOrder(Mean):
    """Gradients that can be differentiated again, as a penalty of their norm needs them."""

    def __init__(self, create_graph: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.create_graph = False, create_graph

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(
            (self.body(batch[0]) + self.head(batch[0])).square().mean(), create_graph=self.create_graph
        )
        optimizer.step()


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize("max_coordinates", [1024, None])
def test_graphs_of_gradients_are_not_kept(max_coordinates: int | None, tmp_path: Path, monkeypatch: Any) -> None:
    row, kept = TrainingGradients._row, []

    def kept_row(source: TrainingGradients) -> dict[str, Tensor]:
        kept.append(row(source))
        return kept[-1]

    monkeypatch.setattr(TrainingGradients, "_row", kept_row)
    plain, graph = (monitor(max_coordinates=max_coordinates) for _ in range(2))
    fit(tmp_path, SecondOrder(create_graph=False), plain)
    fit(tmp_path, SecondOrder(create_graph=True), graph)
    assert not any(part.requires_grad for each in kept for part in each.values())
    assert [each.whole_model for each in graph.reports] == [each.whole_model for each in plain.reports]


@pytest.mark.parametrize("change", [{0: 4, 3: 1}, {0: 1, 3: 4}])
def test_steps_of_other_sizes_begin_a_new_window(change: dict[int, int], tmp_path: Path) -> None:
    watching, accumulating = monitor(num_minibatches=16, every_n_steps=8), GradientAccumulationScheduler(change)
    fit(tmp_path, Mean(), watching, accumulating, samples=1024, max_steps=-1, max_epochs=7)
    sizes = [report.minibatch_size for report in watching.reports]
    assert (sizes[0], sizes[-1]) == (16 * change[0], 16 * change[3])
    for report in watching.reports:
        assert report.whole_model.noise_norm == pytest.approx((200 / report.minibatch_size) ** 0.5, rel=0.3)
        assert report.whole_model.high == pytest.approx(2, abs=0.02)


class SeveralSteps(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        for _ in range(3):
            optimizer.zero_grad()
            self.manual_backward((self.body(batch[0]) + 2 * self.head(batch[0])).mean())
            optimizer.step()


def test_further_steps_on_a_batch_are_left_out(tmp_path: Path) -> None:
    watching = monitor(num_minibatches=16, every_n_steps=200)
    fit(tmp_path, SeveralSteps(), watching, max_steps=-1, max_epochs=10)
    for report in watching.reports:
        assert report.whole_model.noise_norm == pytest.approx((200 / 16) ** 0.5, rel=0.3)
        assert report.whole_model.high == pytest.approx(2, abs=0.02)


class EndsEarly(Mean):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 9 else None


def test_a_batch_that_ended_an_epoch_is_not_counted(tmp_path: Path) -> None:
    watching = monitor(num_minibatches=16, every_n_steps=32)
    fit(tmp_path, EndsEarly(), watching, max_steps=-1, max_epochs=10)
    assert {report.minibatch_size for report in watching.reports} == {16}


def test_every_coordinate_waits_for_new_steps(tmp_path: Path) -> None:
    watching = monitor(num_minibatches=16, every_n_steps=8, max_coordinates=None)
    fit(tmp_path, Mean(), watching)
    assert [report.step for report in watching.reports] == list(range(32, 200, 16))
    assert all(report.whole_model.alpha > 1.5 for report in watching.reports)


class Empty(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0))


def test_a_group_without_coordinates_is_nan_and_the_others_are_measured(tmp_path: Path) -> None:
    watching = monitor(num_minibatches=16)
    fit(tmp_path, Empty(), watching)
    groups = {each.group: each for each in watching.reports[-1].measurements}
    assert groups["nothing"].alpha != groups["nothing"].alpha
    assert groups["whole_model"].alpha > 1.5


class Clipped(Mean):
    """Its gradients are clipped number by number, by hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.body.weight.register_hook(lambda gradient: gradient.clamp(max=3))
        self.head.weight.register_post_accumulate_grad_hook(self.clip)

    def clip(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.clamp_(max=6)


@pytest.mark.parametrize("module", [Mean, Clipped])
def test_hooks_of_parameters_are_in_trainings_gradients_and_told_of_for_others(module: Any, tmp_path: Path) -> None:
    training, extra = monitor(), monitor(source="extra")
    fit(tmp_path, module(), training)
    fit(tmp_path, module(), extra)
    has_hooks = module is Clipped
    assert ("hooks on the gradients of 'body.weight', 'head.weight' are not run" in extra.reports[-1].note) == has_hooks
    assert "hooks" not in training.reports[-1].note
    norms = [each.reports[-1].whole_model.noise_norm for each in (training, extra)]
    assert (norms[0] < 0.8 * norms[1]) == has_hooks
