"""What the monitor measures, when, and where it says so."""

from __future__ import annotations

import gc
import logging
import math
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, TensorDataset, default_collate

from lightning_tailindex import NamedEstimator, TailIndexMonitor
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional import grouped_mle, hill
from lightning_tailindex.noise.engine import Engine
from lightning_tailindex.records import Report


def fit(module: LightningModule, data: Any, *callbacks: Callback, **options: Any) -> Trainer:
    settings = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(**{**settings, **options}, callbacks=list(callbacks))
    trainer.fit(module, data)
    return trainer


def by_group(report: Report) -> dict[str, Any]:
    return {measurement.group: measurement for measurement in report.measurements}


class Inner(LightningModule):
    """loss = ⟨w, x⟩: the gradient of a minibatch is the mean of its rows, whatever w is."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dim))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (batch[0] @ self.w).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def stable_rows(alpha: float, rows: int = 300, dim: int = 400) -> Tensor:
    torch.manual_seed(1)
    scales, location = torch.randn(dim).exp(), 3 * torch.randn(dim)
    return SymmetricStable(torch.tensor(alpha)).sample((rows, dim)) * scales + location


@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_noise_that_is_stable_by_construction(alpha: float) -> None:
    data = DataLoader(TensorDataset(stable_rows(alpha)), batch_size=1, shuffle=True)
    monitor = TailIndexMonitor(every_n_steps=1000, num_minibatches=100, on_error="raise")
    fit(Inner(400), data, monitor, limit_train_batches=150)
    (report,) = monitor.reports
    whole = report.whole_model
    assert whole.alpha == pytest.approx(alpha, abs=0.03)
    assert whole.gaussian_alpha == pytest.approx(2.0, abs=0.03)
    assert whole.low <= alpha <= whole.high
    assert whole.num_draws == 100
    assert whole.num_coordinates == whole.group_size == 400
    assert whole.zero_share == 0
    assert whole.note == ""
    assert by_group(report)["w"].alpha == pytest.approx(whole.alpha, abs=1e-6)
    assert report.minibatch_size == 1


class TwoLayers(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.second(self.first(x).relu()), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(160, 4, generator=generator), torch.randint(2, (160,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, generator=generator)


def small(**options: Any) -> TailIndexMonitor:
    settings: dict[str, Any] = {"every_n_steps": 10, "num_minibatches": 16, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **options})


def steps(monitor: TailIndexMonitor) -> list[int]:
    return [report.step for report in monitor.reports]


def test_measures_at_its_steps_and_at_step_0(data: DataLoader[Any]) -> None:
    monitor = small()
    fit(TwoLayers(), data, monitor, max_epochs=2)
    assert steps(monitor) == [0, 10, 20, 30, 40, 50, 60, 70]


def test_accumulated_batches_share_one_step(data: DataLoader[Any]) -> None:
    monitor = small(every_n_steps=2)
    fit(TwoLayers(), data, monitor, accumulate_grad_batches=4)
    assert steps(monitor) == [0, 2, 4, 6, 8]
    assert {report.minibatch_size for report in monitor.reports} == {16}
    assert monitor.reports[0].whole_model.num_draws == 16
    assert "share data" in monitor.reports[0].note  # 40 loader batches are 10 minibatches


def test_the_default_schedule_keeps_to_its_overhead(data: DataLoader[Any]) -> None:
    monitor = small(every_n_steps=None, max_overhead=2.0, full_gradient_batches=30)
    fit(TwoLayers(), data, monitor, max_epochs=2)
    assert steps(monitor) == [0, 15, 30, 45, 60, 75]


def test_the_start_says_what_it_will_do_and_cost(data: DataLoader[Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(TwoLayers(), data, small(full_gradient_batches=30))
    (line,) = [record.message for record in caplog.records if "TailIndexMonitor" in record.message]
    assert "every 10 optimizer steps (at most 4 measurements from step 0 to the end at step 40)" in line
    assert "16 draws and a full gradient over 30 minibatches" in line
    assert "30 extra minibatch passes each time, 3 per training minibatch" in line


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({0: 4, 2: 1}, {"max_epochs": 4}),
        ({0: 1, 2: 3}, {"max_epochs": 4}),
        ({1: 8, 9: 2}, {"max_epochs": 2}),
        ({0: 4, 2: 1}, {"max_epochs": 4, "max_steps": 50}),
        ({0: 4, 1: 1}, {"max_epochs": -1, "max_steps": 50}),
        ({0: 4, 1: 1}, {"max_epochs": 2, "limit_train_batches": 7}),
    ],
)
def test_a_run_whose_accumulation_changes_ends_at_the_step_that_was_said(
    change: dict[int, int], options: dict[str, int], data: DataLoader[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        trainer = fit(TwoLayers(), data, small(), GradientAccumulationScheduler(change), **options)
    assert f"from step 0 to the end at step {trainer.global_step})" in caplog.text


def test_reports_hold_each_group_and_the_whole_model_last(data: DataLoader[Any]) -> None:
    monitor = small(full_gradient_batches=None)
    fit(TwoLayers(), data, monitor)
    report = monitor.reports[0]
    assert [m.group for m in report.measurements] == ["first", "second", "whole_model"]
    assert [m.group_size for m in report.measurements] == [30, 14, 44]
    assert report.num_full_minibatches == 40
    assert report.note == ""
    assert report.seconds > 0
    for measurement in report.measurements:
        assert 0.2 <= measurement.low <= measurement.alpha <= measurement.high <= 2
        assert measurement.signal_to_noise == pytest.approx(measurement.gradient_norm / measurement.noise_norm)
        assert 1 <= measurement.effective_coordinates <= measurement.num_coordinates
        measured = sum(measurement.coordinate_alphas.counts)  # the coordinates of dead units have no alpha
        assert 0 < measured <= measurement.num_coordinates
        assert 0 < sum(measurement.standardized_noise.counts) <= 16 * measured  # exact zeros are left out


def test_the_same_seed_gives_the_same_reports(data: DataLoader[Any]) -> None:
    def numbers(seed: int) -> list[float]:
        torch.manual_seed(0)
        monitor = small(seed=seed)
        fit(TwoLayers(), data, monitor, limit_train_batches=2)
        return [number for m in monitor.reports[0].measurements for number in (m.alpha, m.low, m.scale, m.noise_norm)]

    assert numbers(0) == numbers(0) != numbers(1)


def test_groups_parameters_and_coordinates_can_be_chosen(data: DataLoader[Any]) -> None:
    monitor = small(group_by="parameter", parameters="weight", max_coordinates=10)
    fit(TwoLayers(), data, monitor)
    found = {m.group: (m.num_coordinates, m.group_size) for m in monitor.reports[0].measurements}
    assert found == {"first.weight": (10, 24), "second.weight": (10, 12), "whole_model": (10, 36)}


def test_several_estimators_stand_beside_each_other(data: DataLoader[Any], tmp_path: Path) -> None:
    monitor = small(estimators=["grouped_mle", "group_sum"], group_by="model")
    fit(TwoLayers(), data, monitor, logger=TensorBoardLogger(tmp_path, "", ""))
    assert [m.estimator for m in monitor.reports[0].measurements] == ["grouped_mle", "group_sum"]
    assert monitor.reports[0].whole_model.estimator == "grouped_mle"
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert "tail_index_detail/group_sum/whole_model" in tags


def test_an_estimator_may_be_a_function(data: DataLoader[Any]) -> None:
    def own(x: Tensor, *, pooled: bool = False) -> Any:
        return grouped_mle(x, pooled=pooled)

    monitor = small(estimators=own)
    fit(TwoLayers(), data, monitor)
    assert monitor.reports[0].whole_model.estimator == "own"
    assert small(estimators=torch.std).reports == []  # of what is no Python function, no arguments are known


@pytest.mark.parametrize(
    ("is_pooled", "rule"),
    [
        (False, r"alpha of shape \(\) where pooled is True, own returned one of shape \(\d+,\)"),
        (True, r"alpha of shape \(\d+,\) where pooled is False, own returned one of shape \(\)"),
    ],
)
def test_a_function_that_pools_otherwise_is_told_of(is_pooled: bool, rule: str, data: DataLoader[Any]) -> None:
    def own(x: Tensor, *, pooled: bool = False) -> Any:
        return grouped_mle(x, pooled=is_pooled)

    with pytest.raises(ValueError, match=f"estimators must return {rule}"):
        fit(TwoLayers(), data, small(estimators=own))


def test_a_function_that_returns_something_else_is_told_of(data: DataLoader[Any]) -> None:
    def own(x: Tensor, *, pooled: bool = False) -> float:
        return 1.5

    with pytest.warns(UserWarning, match="estimators must return a TailIndexEstimate, own returned float"):
        fit(TwoLayers(), data, small(estimators=own, on_error="warn"))


INTERVAL = ("high", "low", "effective_coordinates", "coordinate_median", "coordinate_harmonic_mean")
FIT = ("gain", "gain_gaussian", "gain_student_t", "gain_laplace", "gaussian_p_value", "kolmogorov_distance")
TESTS = tuple(f"{test}_acceptance{of}" for test in ("anderson_darling", "shapiro_wilk") for of in ("", "_gaussian"))
NOISE = ("scale", "norm", "full_gradient_norm", "signal_to_noise", "zero_share", *TESTS)


def test_the_event_file_has_the_names_and_steps_that_are_promised(data: DataLoader[Any], tmp_path: Path) -> None:
    monitor = small(num_minibatches=32)
    fit(TwoLayers(), data, monitor, logger=TensorBoardLogger(tmp_path, "", ""), log_every_n_steps=7)
    events = EventAccumulator(str(tmp_path), {"scalars": 0, "histograms": 0, "tensors": 0}).Reload()
    groups = ("first", "second", "whole_model")
    expected = {f"{tag}/{group}" for tag in ("tail_index", "tail_index_gaussian") for group in groups}
    expected |= {f"tail_index_detail/{name}/{group}" for name in INTERVAL + FIT for group in groups}
    expected |= {f"gradient_noise/{name}/{group}" for name in NOISE for group in groups}
    kinds = ("", "_gaussian", "_low", "_high")
    expected |= {f"tail_index_aggregated/2_minibatches{of}/{group}" for of in kinds for group in groups}
    expected |= {f"gradient_noise/{what}/whole_model" for what in ("cost_seconds", "minibatch_size", "draws")}
    assert set(events.Tags()["scalars"]) - {"loss", "epoch"} == expected
    for tag in expected:
        assert [event.step for event in events.Scalars(tag)] == [0, 10, 20, 30]
    shown = [event.value for event in events.Scalars("tail_index/first")]
    assert shown == pytest.approx([by_group(report)["first"].alpha for report in monitor.reports])
    histograms = {f"{tag}/{g}" for tag in ("tail_index_per_coordinate", "standardized_noise") for g in groups}
    assert set(events.Tags()["histograms"]) == histograms
    for tag in histograms:
        assert [event.step for event in events.Histograms(tag)] == [0, 10, 20, 30]
    text = events.Tensors("tail_index_law/text_summary")
    assert [event.step for event in text] == [0, 10, 20, 30]
    (table,) = text[-1].tensor_proto.string_val
    assert [line.split(" | ")[0] for line in table.decode().splitlines()[2:]] == [f"| {group}" for group in groups]
    (first, *_) = events.Histograms("standardized_noise/first")
    assert first.histogram_value.num == sum(by_group(monitor.reports[0])["first"].standardized_noise.counts) > 0


def test_without_a_logger_reports_and_callback_metrics_still_have_it(data: DataLoader[Any]) -> None:
    monitor = small()
    trainer = fit(TwoLayers(), data, monitor)
    assert float(trainer.callback_metrics["tail_index"]) == pytest.approx(monitor.reports[-1].whole_model.alpha)
    assert float(trainer.callback_metrics["tail_index_gaussian"]) == pytest.approx(
        monitor.reports[-1].whole_model.gaussian_alpha
    )


def test_early_stopping_and_checkpoints_can_monitor_it(data: DataLoader[Any], tmp_path: Path) -> None:
    stopping = EarlyStopping("tail_index", stopping_threshold=0.1, mode="max", check_on_train_epoch_end=True)
    saving = ModelCheckpoint(tmp_path, "{step}-{tail_index:.2f}", monitor="tail_index", mode="min")
    trainer = fit(TwoLayers(), data, small(), stopping, saving, enable_checkpointing=True, max_epochs=5)
    assert trainer.current_epoch == 1
    assert next(tmp_path.iterdir()).name.startswith("step=40-tail_index=")


class Unsized(BatchSampler):
    """Batches of which nobody knows how many there are."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        raise TypeError("no length")

    def __iter__(self) -> Iterator[list[int]]:
        yield from ([i, i + 1, i + 2, i + 3] for i in range(0, 160, 4))


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(torch.randn(160, 4), torch.randint(2, (160,)), strict=True)


@pytest.mark.parametrize("kind", ["iterable data set", "batch sampler without a length"])
def test_a_stream_is_measured_on_the_minibatches_that_training_saw(
    kind: str, data: DataLoader[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    is_iterable = kind == "iterable data set"
    stream = DataLoader(Streamed(), batch_size=4) if is_iterable else DataLoader(data.dataset, batch_sampler=Unsized())
    monitor = small()
    fit(TwoLayers(), stream, monitor)
    assert "on the last minibatches that training saw, as its data are read only once" in caplog.text
    assert steps(monitor) == [16, 20, 30]  # due at 0 and at 10, measured when 16 minibatches had been seen
    assert {report.num_full_minibatches for report in monitor.reports} == {16}
    assert all(math.isfinite(report.whole_model.alpha) for report in monitor.reports)


class Uncopyable(list[Tensor]):
    """A batch that cannot be kept."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise OSError("this batch cannot be copied")


def test_a_stream_that_cannot_be_kept_does_not_end_training() -> None:
    stream = DataLoader(Streamed(), batch_size=4, collate_fn=lambda rows: Uncopyable(default_collate(rows)))
    monitor = small(on_error="warn")
    with pytest.warns(UserWarning, match="OSError: this batch cannot be copied") as caught:
        trainer = fit(TwoLayers(), stream, monitor)
    assert trainer.global_step == 40
    assert monitor.reports == []
    assert len([warning for warning in caught if "cannot be copied" in str(warning.message)]) == 1


class Remembered(TwoLayers):
    """Keeps weak references to all modules that ever took a step in its name."""

    steppers: ClassVar[list[weakref.ref[Any]]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.steppers.append(weakref.ref(self))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_shadow_is_freed_when_its_measurement_ends(data: DataLoader[Any], engine: Engine) -> None:
    module = Remembered()
    module.steppers.clear()
    gc.collect()
    gc.disable()
    try:
        fit(module, data, small(engine=engine))
        alive = {id(step()) for step in module.steppers if step() is not None}
    finally:
        gc.enable()
    assert len(module.steppers) > (100 if engine == "loop" else 45)  # 40 of them training's own
    assert alive == {id(module)}


class Awkward(TwoLayers):
    """A layer that no gradient reaches, one that is frozen, a buffer-less dead one."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step([self.frozen(batch[0]), batch[1]], batch_idx)


def test_a_group_without_a_usable_draw_reads_nan_and_says_why(
    data: DataLoader[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = small()
    fit(Awkward(), data, monitor, logger=TensorBoardLogger(tmp_path, "", ""))
    assert len(monitor.reports) > 1
    said = "TailIndexMonitor: no tail index of 'unused' at step 0: no gradient reached this group."
    assert [record.getMessage() for record in caplog.records if "no tail index" in record.getMessage()] == [said]
    events = EventAccumulator(str(tmp_path)).Reload()
    (table,) = events.Tensors("tail_index_law/text_summary")[0].tensor_proto.string_val
    assert [line for line in table.decode().splitlines() if line.endswith("| no gradient reached this group |")]
    groups = by_group(monitor.reports[0])
    assert list(groups) == ["first", "second", "unused", "whole_model"]
    assert math.isnan(groups["unused"].alpha)
    assert math.isnan(groups["unused"].signal_to_noise)
    assert groups["unused"].note == "no gradient reached this group"
    assert math.isfinite(groups["whole_model"].alpha)


def test_a_further_estimator_without_a_number_says_why(data: DataLoader[Any], caplog: pytest.LogCaptureFixture) -> None:
    hill = NamedEstimator("hill", {"k": 1000})  # of 16 draws
    monitor = small(estimators=["grouped_mle", hill])
    fit(Awkward(), data, monitor)
    assert len(monitor.reports) > 1
    too_few, no_gradient = [
        text for text in map(logging.LogRecord.getMessage, caplog.records) if "no tail index" in text
    ]
    assert no_gradient == "TailIndexMonitor: no tail index of 'unused' at step 0: no gradient reached this group."
    assert too_few.startswith(
        "TailIndexMonitor: no tail index of 'first', 'second', 'whole_model' by hill(k=1000) at step 0:"
    )
    assert re.search(r" got k=1000, n=\d+\.$", too_few)


class BadLoss(TwoLayers):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * math.nan


def test_a_loss_that_is_not_a_number_gives_no_number(data: DataLoader[Any]) -> None:
    monitor = small()
    fit(BadLoss(), data, monitor)
    whole = monitor.reports[0].whole_model
    assert math.isnan(whole.alpha)
    assert whole.note


def test_a_lazy_layer_is_left_out_until_it_has_a_shape(data: DataLoader[Any]) -> None:
    class Lazy(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LazyLinear(6)

    monitor = small()
    fit(Lazy(), data, monitor)
    assert [m.group for m in monitor.reports[0].measurements] == ["second", "whole_model"]
    assert [m.group for m in monitor.reports[1].measurements] == ["first", "second", "whole_model"]


class Manual(TwoLayers):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class ManualWithStep(Manual):
    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return TwoLayers.training_step(self, batch, batch_idx)


class TakesIterator(TwoLayers):
    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        return super().training_step(next(dataloader_iter)[0], 0)


def test_the_largest_seed_measures(data: DataLoader[Any]) -> None:
    monitor = small(seed=2**63 - 1, on_error="raise", estimators=["grouped_mle", "group_sum"])
    fit(TwoLayers(), data, monitor)
    assert len(monitor.reports) == 4


def test_manual_optimization_is_refused_with_a_way_out(data: DataLoader[Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"Manual optimizes manually.*gradient_noise_step"):
        fit(Manual(), data, small())
    monitor = small()
    fit(ManualWithStep(), data, monitor)
    assert steps(monitor) == [0, 10, 20, 30]


class Perturbing(ManualWithStep):
    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].clone().requires_grad_()
        self.manual_backward(super().gradient_noise_step([x, *batch[1:]], batch_idx))
        assert x.grad is not None
        return super().gradient_noise_step([x.detach() + 0.1 * x.grad.sign(), *batch[1:]], batch_idx)


class Listening(Callback):
    """Counts the backward passes that it hears of."""

    def __init__(self) -> None:
        self.heard = 0

    def on_before_backward(self, *args: Any) -> None:
        self.heard += 1

    on_after_backward = on_before_backward  # type: ignore[assignment]


def test_callbacks_do_not_hear_of_a_measurements_backward_passes(data: DataLoader[Any]) -> None:
    module, monitor, listening = Perturbing(), small(), Listening()
    fit(module, data, monitor, listening)
    assert len(monitor.reports) == 4
    assert listening.heard == 2 * module.trainer.global_step > 0


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
def test_a_step_that_takes_the_iterator_is_refused(data: DataLoader[Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"takes dataloader_iter.*gradient_noise_step"):
        fit(TakesIterator(), data, small())


def test_parameters_that_match_nothing_are_refused_before_training(data: DataLoader[Any]) -> None:
    with pytest.raises(ValueError, match="'third' matches no parameter of TwoLayers"):
        fit(TwoLayers(), data, small(parameters="third"))


class OneArgument(TwoLayers):
    def training_step(self, batch: list[Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        return {"loss": super().training_step(batch, 0)}


def test_a_step_may_take_the_batch_alone_and_return_a_dictionary(data: DataLoader[Any]) -> None:
    monitor = small()
    fit(OneArgument(), data, monitor)
    assert len(monitor.reports) == 4


class SkipsEverything(TwoLayers):
    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> None:
        return None


def test_without_a_single_draw_every_group_reads_nan_and_says_why(data: DataLoader[Any], tmp_path: Path) -> None:
    monitor = small()
    fit(SkipsEverything(), data, monitor, logger=TensorBoardLogger(tmp_path, "", ""))
    assert {m.note for m in monitor.reports[0].measurements} == {"no minibatch gave a draw"}
    assert all(math.isnan(m.alpha) and m.num_draws == 0 for m in monitor.reports[0].measurements)


class WithoutGradient(TwoLayers):
    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return torch.zeros(())


def test_a_loss_without_a_gradient_is_named(data: DataLoader[Any]) -> None:
    with pytest.raises(ValueError, match="must be a tensor with a gradient"):
        fit(WithoutGradient(), data, small())


class Doubling(LightningDataModule):
    """Its transfer hook doubles the inputs and counts."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__()
        self.loader = loader
        self.transfers = 0

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        self.transfers += 1
        return [2 * batch[0], batch[1]]


def test_transfer_hooks_are_followed_on_a_copy(data: DataLoader[Any]) -> None:
    class Watching(TwoLayers):
        largest = 0.0

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            Watching.largest = max(Watching.largest, float(batch[0].abs().max()))
            return super().training_step(batch, batch_idx)

    module = Doubling(data)
    fit(Watching(), module, small(every_n_steps=1000, full_gradient_batches=None), limit_train_batches=1)
    assert module.transfers == 1
    Watching.largest = 0.0
    fit(Watching(), data, limit_train_batches=1)
    alone = Watching.largest
    assert alone > 0


def test_a_second_fit_starts_its_reports_anew(data: DataLoader[Any]) -> None:
    monitor = small()
    fit(TwoLayers(), data, monitor)
    fit(TwoLayers(), data, monitor)
    assert steps(monitor) == [0, 10, 20, 30]


def called(name: str) -> Any:
    def estimator(x: Tensor, *, pooled: bool = False) -> Any:
        return hill(x, pooled=pooled)

    estimator.__name__ = name
    return estimator


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be None or an integer of at least 1, got 0"),
        ({"every_n_steps": 2.5}, "every_n_steps must be None or an integer of at least 1, got 2.5"),
        ({"num_minibatches": 8}, "num_minibatches must be an integer of at least 16, got 8"),
        ({"num_minibatches": True}, "num_minibatches must be an integer of at least 16, got True"),
        ({"num_minibatches": None}, "num_minibatches must be an integer of at least 16, got None"),
        ({"max_overhead": True}, "max_overhead must be a number above 0, got True"),
        ({"parameters": 3}, "parameters must be None or at least one regular expression, got 3"),
        ({"parameters": ""}, "parameters must be None or at least one regular expression, got ''"),
        ({"estimators": None}, "estimators must be names or functions, got None"),
        ({"full_gradient_batches": 0}, "full_gradient_batches must be None or an integer of at least 1, got 0"),
        ({"max_coordinates": -1}, "max_coordinates must be None or an integer of at least 1, got -1"),
        ({"max_overhead": 0.0}, "max_overhead must be a number above 0, got 0.0"),
        ({"max_overhead": math.nan}, "max_overhead must be a number above 0, got nan"),
        ({"seed": -1}, r"seed must be an integer in \[0, 2\*\*63\), got -1"),
        ({"seed": 2**63}, r"seed must be an integer in \[0, 2\*\*63\), got 9223372036854775808"),
        ({"group_by": "layer"}, "group_by must be one of .* got 'layer'"),
        ({"parameters": "("}, r"parameters must be regular expressions, got '\('"),
        ({"estimators": "hill_climb"}, "estimators must be among .*grouped_mle.* got 'hill_climb'"),
        ({"estimators": []}, "estimators must be one or several different ones"),
        ({"estimators": ["hill", called("low")]}, "names that tags can have and other numbers have not, got 'low'"),
        ({"estimators": ["hill", called("a/b")]}, "names that tags can have and other numbers have not, got 'a/b'"),
        ({"estimators": ["hill", called("x"), called("x_low")]}, "other numbers have not, got 'x_low'"),
        ({"estimators": lambda x: x}, r"of draws and the keyword pooled, got <lambda>\(x\): .* 'pooled'"),
        ({"estimators": ["grouped_mle"] * 2}, "estimators must be one or several different ones"),
        ({"noise_unit": "batch"}, "noise_unit must be 'step' or 'loader', got 'batch'"),
        ({"dataloader": 3}, "dataloader must be None or an iterable of batches .* again, got int"),
        ({"dataloader": iter([1])}, "dataloader must be None or an iterable of batches .* again, got list_iterator"),
        ({"dataloader": {"a": [1]}}, "dataloader must be None or an iterable of batches .* again, got dict"),
        ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
    ],
)
def test_bad_arguments_fail_at_construction_and_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TailIndexMonitor(**options)
