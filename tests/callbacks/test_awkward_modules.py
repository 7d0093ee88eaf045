"""Modules, loaders and strategies of the kinds that a measurement could trip over or leave a trace in."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from lightning_tailindex import TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, train

pytestmark = pytest.mark.uncounted


class Captures(Net):
    """Calls itself through closures, hooks and a partial list of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_by_hook: list[int] = []
        self.network = lambda x: self.head(self.body(x))
        self.body.register_forward_hook(lambda module, inputs, output: self.seen_by_hook.append(len(output)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step([batch[0].clone(), batch[1]], batch_idx)
        return loss + 0.1 * self.network(batch[0]).square().mean()


class WritesOnTheTrainer(Net):
    """Stops training where it sees something that only a measurement shows it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx > 8:
            self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)


class KeepsItsLoggers(Net):
    """Holds on to a bound method, the trainer's logger and a writer of its own."""

    folder = ""

    def on_fit_start(self) -> None:
        self.log_fn, self.kept = self.log, self.logger
        self.writer = SummaryWriter(self.folder)
        self.out = (Path(self.folder) / "out.txt").open("w")

    def on_fit_end(self) -> None:
        self.writer.close()
        self.out.close()
        del self.writer, self.out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log_fn("kept", loss, batch_size=len(batch[0]))
        self.kept.log_metrics({"by_hand": loss.item()}, step=self.trainer.global_step)
        self.writer.add_scalar("by_hand", loss.item(), self.trainer.global_step)
        assert Path(self.logger.log_dir)
        return loss


class MadeInConfigureModel(Net):
    def configure_model(self) -> None:
        if not hasattr(self, "extra"):
            self.extra = nn.Linear(6, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0].clone()
        return super().training_step(batch, batch_idx) + self.extra(x).square().mean()


class CapturesEverywhere(Net):
    """Closures where deepcopy and attribute walks do not look: tuples, partials, defaults, patched methods, slots."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.calls = 1.0, 0

        def scaled(loss: Tensor) -> Tensor:
            self.scale *= 0.9
            return loss * self.scale

        def counted(module: LightningModule, loss: Tensor) -> Tensor:
            module.calls += 1
            self.calls += 1
            return loss

        self.terms = (("scaled", scaled),)
        self.partial = functools.partial(scaled)
        self.with_default = lambda loss, module=self: loss + 0.01 * module.head.bias.sum() * module.scale
        self.patched = types.MethodType(counted, self)
        self.slotted = Slotted(scaled)
        self.log_later = functools.partial(self.log, on_step=True, on_epoch=True, batch_size=6)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log_later("later", loss)
        for _, term in self.terms:
            loss = term(loss)
        return self.with_default(self.patched(self.slotted.function(self.partial(loss))))


class Slotted:
    __slots__ = ("function",)

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function


class UsesTheTrainer(Net):
    """Steps schedulers, reads and writes step sizes, and reaches itself through the trainer."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        schedule: Any = self.lr_schedulers()
        schedule.step()
        optimizer: Any = self.optimizers()
        optimizer.param_groups[0]["lr"] *= 1 - 0.01 * (batch_idx > 8)
        assert self.trainer.lightning_module is self
        return super().training_step(batch, batch_idx)


class AveragesItsWeights(Net):
    """Keeps a running average of its weights, which would have gradients but for that no optimizer steps them."""

    def __init__(self) -> None:
        super().__init__()
        self.keep(AveragedModel(self.head, multi_avg_fn=get_ema_multi_avg_fn(0.9)))

    def keep(self, average: AveragedModel) -> None:
        self.average = average

    def kept(self) -> AveragedModel:
        return self.average

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch[0].clone(), batch[1]
        loss = super().training_step([x, y], batch_idx)
        self.kept().update_parameters(self.head)
        return loss + 0.1 * (self.head.weight - self.kept().module.weight.detach()).square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([*self.body.parameters(), *self.head.parameters()], lr=0.1)


class SteppedWithItsAverage(AveragesItsWeights):
    """Gives its optimizer the average, too, which has no gradient."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class HidesItsAverage(AveragesItsWeights):
    """Keeps the average in a tuple, so that no checkpoint has it."""

    def keep(self, average: AveragedModel) -> None:
        self.hidden = (average,)

    def kept(self) -> AveragedModel:
        return self.hidden[0]


MODULES: dict[str, Callable[[], LightningModule]] = {
    "closures over the module": Captures,
    "writing on the trainer": WritesOnTheTrainer,
    "loggers and files of its own": KeepsItsLoggers,
    "layers made in configure_model": MadeInConfigureModel,
    "closures everywhere": CapturesEverywhere,
    "schedulers and optimizers": UsesTheTrainer,
    "averages of its weights": AveragesItsWeights,
    "averages in its optimizer": SteppedWithItsAverage,
    "averages in a tuple": HidesItsAverage,
}


def loader() -> DataLoader[Any]:
    return DataLoader(NoisyData(), batch_size=6, shuffle=True)


def monitor(**options: Any) -> TailIndexMonitor:
    settings: dict[str, Any] = {"every_n_steps": 3, "num_minibatches": 16, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **options})


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # what that module does, it does in training
@pytest.mark.parametrize("name", MODULES)
def test_training_is_the_same_bit_for_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeepsItsLoggers, "folder", str(tmp_path))
    without, _ = train(str(tmp_path / "without"), loader, module=MODULES[name])
    watcher = monitor()
    watched, _ = train(str(tmp_path / "with"), loader, [watcher], module=MODULES[name])
    assert without.differences(watched) == []
    naive, _ = train(str(tmp_path / "naive"), loader, [NaiveMeasurement()], module=MODULES[name])
    assert "parameters" in without.differences(naive)
    assert len(watcher.reports) == 7
    assert all(math.isfinite(report.whole_model.alpha) for report in watcher.reports)


class OwnRandomness(LightningDataModule):
    """Augments on the device, with a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
        self.calls = 0

    def train_dataloader(self) -> DataLoader[Any]:
        return loader()

    def augment(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + 0.1 * torch.randn(x.shape, generator=self.generator)


class AugmentsByDatamodule(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return super().training_step([datamodule.augment(batch[0]), batch[1]], batch_idx)


def test_a_datamodule_reached_through_the_trainer_is_a_copy(tmp_path: Path) -> None:
    plain, watched = OwnRandomness(), OwnRandomness()
    without, _ = train(str(tmp_path / "without"), lambda: plain, module=AugmentsByDatamodule)
    watcher = monitor()
    with_it, _ = train(str(tmp_path / "with"), lambda: watched, [watcher], module=AugmentsByDatamodule)
    assert without.differences(with_it) == []
    assert plain.calls == watched.calls > 0
    naive, _ = train(str(tmp_path / "naive"), OwnRandomness, [NaiveMeasurement()], module=AugmentsByDatamodule)
    assert "parameters" in without.differences(naive)
    assert len(watcher.reports) == 7


def test_an_explicit_batch_sampler_is_measured(tmp_path: Path) -> None:
    data = NoisyData()
    watcher = monitor(full_gradient_batches=None)
    batches = BatchSampler(RandomSampler(data), 6, drop_last=False)
    train(str(tmp_path), lambda: DataLoader(data, batch_sampler=batches), [watcher])
    assert {report.whole_model.num_draws for report in watcher.reports} == {16}
    assert {report.minibatch_size for report in watcher.reports} == {6}


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def still_data() -> TensorDataset:
    data = NoisyData(200)
    return TensorDataset(data.x, data.y)


def test_full_batches_have_no_noise_and_no_tail_index(tmp_path: Path) -> None:
    watcher = monitor()
    train(str(tmp_path), lambda: DataLoader(still_data(), 200, shuffle=True), [watcher], module=Plain, max_epochs=10)
    for report in watcher.reports:
        for measurement in report.measurements:
            assert math.isnan(measurement.alpha)
            assert math.isnan(measurement.gaussian_alpha)
            assert "rounding" in measurement.note or "left out" in measurement.note


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_early_stopping_finds_the_last_value_after_resuming(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        stopping = EarlyStopping("tail_index", patience=1000, check_on_train_epoch_end=True)
        return [monitor(every_n_steps=100), stopping]

    make = lambda: DataLoader(still_data(), 10, shuffle=True)  # noqa: E731
    _, first = train(str(tmp_path / "first"), make, callbacks(), module=Plain, max_epochs=2)
    (path,) = (tmp_path / "first" / "checkpoints").glob("*.ckpt")
    last = float(first.callback_metrics["tail_index"])
    _, resumed = train(str(tmp_path / "again"), make, callbacks(), module=Plain, max_epochs=3, ckpt_path=str(path))
    assert resumed.global_step == 60
    assert float(resumed.callback_metrics["tail_index"]) == pytest.approx(last)


class DeepSpeedStrategy(SingleDeviceStrategy):
    """Of the name that counts, and built on one that is supported, as the real one is."""


def test_strategies_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="cannot be measured under DeepSpeedStrategy"):
        train(str(tmp_path), loader, [monitor()], strategy=DeepSpeedStrategy(torch.device("cpu")))


def test_one_monitor_is_enough(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="use one per Trainer"):
        train(str(tmp_path), loader, [monitor(), _Other(every_n_steps=3)])


class _Other(TailIndexMonitor):
    """A second one, under a name that Lightning itself would let pass."""


def test_nothing_measured_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Nothing(TailIndexMonitor):
        def on_train_batch_start(self, *args: Any) -> None:
            """Never measures."""

    caplog.set_level("INFO")
    _, trainer = train(str(tmp_path), loader, [Nothing()])
    assert isinstance(trainer, Trainer)
    assert "nothing was measured" in caplog.text
