"""What a training step and the loader can reach is its own in a measurement: training stays as it is, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.trainer.silence import Silence
from tests.noise.test_reaching import PLACES

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, (X.sum(1) > 0).long())


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.02)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([DATA[i % len(DATA)] for i in range(67)])  # a measurement begins in the middle of an accumulation


class Masking:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, items: Any) -> Any:
        x, y = default_collate(items)
        return [x * torch.from_numpy(self.rng.random(x.shape) > 0.2), y]


def stream() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=4)


def shuffled(collate: Any = None) -> DataLoader[Any]:
    return DataLoader(DATA, batch_size=4, shuffle=True, collate_fn=collate)


def monitor(**arguments: Any) -> TailIndexMonitor:
    settings = {"every_n_steps": 4, "num_minibatches": 16, "full_gradient_batches": None, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **arguments})


def fit(path: Path, module: type[Net], data: Any, watching: TailIndexMonitor | None, **options: Any) -> Tensor:
    seed_everything(0)
    net = module()
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 3}
    callbacks = [*options.pop("callbacks", []), *([] if watching is None else [watching])]
    trainer = Trainer(**{**own, **quiet, **options}, callbacks=callbacks)
    if isinstance(data, LightningDataModule):
        trainer.fit(net, datamodule=data)
    else:
        trainer.fit(net, data)
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def both(path: Path, module: type[Net], data: Callable[[], Any], **options: Any) -> tuple[Tensor, Tensor]:
    watching = monitor(engine="loop")
    weights = fit(path, module, data(), None, **options), fit(path, module, data(), watching, **options)
    assert len(watching.reports) >= 3
    return weights


class Looking(Net):
    """Looks for the momentum of a weight, and clears it now and then."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        state: Any = self.optimizers().state  # type: ignore[union-attr]
        if "exp_avg" in state[self.layer.weight] and batch_idx % 5 == 0:
            state[self.layer.weight]["exp_avg"].zero_()
        return super().training_step(batch, batch_idx)


def test_the_state_of_an_optimizer(tmp_path: Path) -> None:
    checkpoint = {"enable_checkpointing": True}
    alone = fit(tmp_path, Looking, shuffled(), None, callbacks=[ModelCheckpoint(tmp_path / "a")], **checkpoint)
    watched = fit(tmp_path, Looking, shuffled(), monitor(), callbacks=[ModelCheckpoint(tmp_path / "b")], **checkpoint)
    assert torch.equal(alone, watched)
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None))  # to look changes something


class Penalty(Net):
    """A penalty on whatever the optimizer holds."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        groups: Any = self.optimizers().param_groups  # type: ignore[union-attr]
        return super().training_step(batch, batch_idx) + sum(p.square().sum() for g in groups for p in g["params"]) / 2


class Clearing(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx % 4 == 0:
            self.optimizers().zero_grad()  # type: ignore[union-attr]
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("module", [Penalty, Clearing])
def test_the_parameters_of_an_optimizer(module: type[Net], tmp_path: Path) -> None:
    alone, watched = both(tmp_path, module, stream, accumulate_grad_batches=3, max_epochs=12)
    assert torch.equal(alone, watched)


@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_a_penalty_on_the_parameters_of_an_optimizer_is_measured(engine: Any, tmp_path: Path) -> None:
    watching = monitor(engine=engine)
    fit(tmp_path, Penalty, shuffled(), watching, max_steps=1)
    seed_everything(0)
    net = Net()
    loss = (
        nn.functional.cross_entropy(net.layer(X), DATA.tensors[1]) + sum(p.square().sum() for p in net.parameters()) / 2
    )
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm()
    assert watching.reports[0].whole_model.gradient_norm == pytest.approx(float(expected), rel=1e-4)


class InSequence(Net):
    def scheduler(self, optimizer: Any) -> LRScheduler:
        parts = [LinearLR(optimizer, 0.1, 1.0, 10), ExponentialLR(optimizer, 0.95)]
        return SequentialLR(optimizer, parts, [10])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.lr_schedulers().step()  # type: ignore[union-attr, call-arg]
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": self.scheduler(optimizer), "interval": "step", "frequency": 10**9}]


class Chained(InSequence):
    def scheduler(self, optimizer: Any) -> LRScheduler:
        return ChainedScheduler([LinearLR(optimizer, 0.1, 1.0, 10), ExponentialLR(optimizer, 0.95)])


@pytest.mark.filterwarnings("ignore::UserWarning")  # that the scheduler steps before the optimizer
@pytest.mark.parametrize("module", [InSequence, Chained])
def test_schedulers_of_schedulers(module: type[Net], tmp_path: Path) -> None:
    alone, watched = both(tmp_path, module, shuffled)
    assert torch.equal(alone, watched)


class LogsByItsClass(Net):
    """Logs by methods of the class, and trains by what it logged."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        super().log("loss", loss, on_step=True, on_epoch=True)
        LightningModule.log_dict(self, {"twice": 2 * loss, "batch": batch_idx})
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return [optimizer], [{"scheduler": plateau, "monitor": "loss", "interval": "step"}]


@pytest.mark.parametrize("data", [shuffled, stream])
def test_the_log_of_the_class(data: Callable[[], Any], tmp_path: Path) -> None:
    alone, watched = both(tmp_path, LogsByItsClass, data)
    assert torch.equal(alone, watched)
    assert not torch.equal(alone, fit(tmp_path, Net, data(), None))  # what is logged changes something


class CountsInTheMetrics(Net):
    """Weighs its loss by how often it was called, which it keeps among the trainer's metrics."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        metrics = self.trainer.callback_metrics
        metrics["seen"] = metrics.get("seen", torch.tensor(0.0)) + 1
        return super().training_step(batch, batch_idx) / metrics["seen"]


def test_the_metrics_of_the_trainer(tmp_path: Path) -> None:
    alone, watched = both(tmp_path, CountsInTheMetrics, shuffled)
    assert torch.equal(alone, watched)
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None))


class WritesToItsLogger(Net):
    """Looks its logger up by the class."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (logger,) = [each for each in self.loggers if isinstance(each, TensorBoardLogger)]
        assert self.trainer.log_dir == logger.log_dir
        logger.log_graph(self)
        logger.log_metrics({"seen": batch_idx}, self.global_step)
        logger.experiment.add_scalar("written", torch.rand(()), self.global_step)
        logger.experiment.file_writer.event_writer.flush()
        return super().training_step(batch, batch_idx)


def test_a_logger_that_is_looked_up_by_its_class(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "", "")
    fit(tmp_path, WritesToItsLogger, shuffled(), monitor(figures=None), logger=logger)
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag in ("seen", "written"):
        assert [event.step for event in events.Scalars(tag)] == list(range(48))  # what training itself writes
    assert [event.step for event in events.Scalars("tail_index/whole_model")] == list(range(0, 48, 4))


class ReadsItsLogger(Net):
    """Computes with what its logger tells, and marks the loss as Comet wants it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logger: Any = self.logger
        assert str(Path(logger.root_dir, "")) == str(Path(logger.experiment.log_dir))
        with logger.experiment.train():
            return super().training_step(batch, batch_idx) * len(logger.hparams) * logger.experiment.steps


class Comet(TensorBoardLogger):
    """TensorBoard with what other loggers' runs can be asked."""

    @property
    def experiment(self) -> Any:
        writer: Any = super().experiment
        writer.train, writer.steps = nullcontext, 3
        return writer


def test_what_a_logger_tells_is_read(tmp_path: Path) -> None:
    logger = Comet(tmp_path, "", "")
    logger.log_hyperparams({"lr": 0.1})
    watched = fit(tmp_path, ReadsItsLogger, shuffled(), monitor(figures=None), logger=logger)
    assert not torch.equal(watched, fit(tmp_path, Net, shuffled(), None))  # the factor changes something


class Config:
    """Settings of a run as W&B has them: items, and no mapping."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def __getitem__(self, name: str) -> Any:
        return self._settings[name]

    def __contains__(self, name: str) -> bool:
        return name in self._settings


class Tells(TensorBoardLogger):
    """TensorBoard with more of what loggers and their runs tell."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "", version=3)
        self.kept: list[int] = []
        self.run = Config(series=SimpleNamespace(append=self.kept.append))

    @property
    def experiment(self) -> Any:
        writer: Any = super().experiment
        writer.config = Config(lr=[0.1], deep={"er": 0.5}, clip=None)
        writer.mean, writer.metrics, writer.sweep, writer.tags = np.float32(0.5), [{}, {}], None, {"a"}
        writer.nested = SimpleNamespace(level=SimpleNamespace(number=2.0))
        return writer


class AsksItsLogger(Net):
    """Computes with all of that, and holds the writer itself."""

    def on_fit_start(self) -> None:
        logger: Any = self.logger
        self.writer = logger.experiment

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logger: Any = self.logger
        run = logger.experiment
        assert Path(self.writer.log_dir) == Path(logger.log_dir)
        assert logger.version + 1 == 4
        assert logger.sub_dir is None
        logger.run["series"].append(batch_idx)
        assert run.config["clip"] is run.sweep is None
        assert "lr" in run.config
        assert "a" in run.tags
        assert "other" not in run.config
        factors = run.config["lr"][0], run.config["deep"]["er"], run.mean, len(run.metrics), run.nested.level.number
        return super().training_step(batch, batch_idx) * float(np.prod(factors))


def test_all_that_a_logger_tells_is_read(tmp_path: Path) -> None:
    watching = monitor(figures=None)
    first, second = Tells(tmp_path / "a"), Tells(tmp_path / "b")
    alone = fit(tmp_path, AsksItsLogger, shuffled(), None, logger=first)
    watched = fit(tmp_path, AsksItsLogger, shuffled(), watching, logger=second)
    assert torch.equal(alone, watched)
    assert len(watching.reports) == 12
    assert first.kept == second.kept == 3 * list(range(16))
    logger = Tells(tmp_path / "c")
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None, logger=logger))  # the factors change something


class NotesWhatItSaw(Net):
    """Trains by what it keeps with its logger."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logger: Any = self.logger
        run = logger.experiment
        kept = logger.hparams["seen"], run.config["seen"], run.seen["deep"]["er"], run.history["loss"]
        for seen in kept:
            seen.append(batch_idx)
        return super().training_step(batch, batch_idx) * (1 + 0.001 * sum(map(len, kept)))


class Keeps(TensorBoardLogger):
    """TensorBoard whose run keeps what it is given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "", "")
        self.log_hyperparams({"seen": []})
        run: Any = self.experiment
        run.config, run.seen, run.history = Config(seen=[]), {"deep": {"er": []}}, {"loss": [0] * 1001}


def test_what_a_step_keeps_with_its_logger_is_its_own(tmp_path: Path) -> None:
    watching = monitor(figures=None)
    alone = fit(tmp_path, NotesWhatItSaw, shuffled(), None, logger=Keeps(tmp_path / "a"))
    watched = fit(tmp_path, NotesWhatItSaw, shuffled(), watching, logger=Keeps(tmp_path / "b"))
    assert torch.equal(alone, watched)
    assert len(watching.reports) == 12
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None, logger=False))


class SavesAndProfiles(Net):
    """Saves checkpoints by itself, in two ways, and times itself."""

    def on_fit_start(self) -> None:
        self.save = self.trainer.save_checkpoint

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        trainer: Any = self.trainer
        trainer.save_checkpoint(Path(trainer.default_root_dir, "own.ckpt"))
        self.save(Path(trainer.default_root_dir, "other.ckpt"))
        with trainer.profiler.profile("own"):
            return super().training_step(batch, batch_idx)


def test_checkpoints_and_times_are_those_of_training(tmp_path: Path) -> None:
    seen: dict[bool, tuple[int, int]] = {}
    for is_watched in (False, True):
        profiler, saves = SimpleProfiler(), Saves()
        options = {"callbacks": [saves, *([monitor()] if is_watched else [])], "profiler": profiler}
        fit(tmp_path, SavesAndProfiles, shuffled(), None, **options)
        seen[is_watched] = saves.count, len(profiler.recorded_durations["own"])
    assert seen[False] == seen[True] == (96, 48)


class Saves(Callback):
    """Counts checkpoints."""

    count = 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.count += 1


class Masked(LightningDataModule):
    """A data module whose method makes batches."""

    def __init__(self) -> None:
        super().__init__()
        self.masking = Masking()

    def collate(self, items: Any) -> Any:
        return self.masking(items)

    def train_dataloader(self) -> DataLoader[Any]:
        return shuffled(self.collate)


def captured() -> DataLoader[Any]:
    masking = Masking()
    return shuffled(lambda items: masking(items))


@pytest.mark.parametrize("data", [lambda: shuffled(Masking()), captured, Masked], ids=["object", "closure", "module"])
def test_what_makes_batches(data: Callable[[], Any], tmp_path: Path) -> None:
    alone, watched = both(tmp_path, Net, data)
    assert torch.equal(alone, watched)
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None))  # the masks change something


class Decaying(Net):
    """Weighs the loss by what each call makes smaller, and holds the function that does it in some place."""

    place = ""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0
        self.held = PLACES[self.place][0](lambda: self.decayed())

    def decayed(self) -> Any:
        self.factor *= 0.99
        return self.factor

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        factor = PLACES[self.place][1](self.held)
        self.held = PLACES[self.place][0](lambda: self.decayed())
        return super().training_step(batch, batch_idx) * factor


@pytest.mark.parametrize("place", ["a list", "a private slot", "a default factory", "a wrapper", "a mapping proxy"])
def test_functions_that_captured_the_module(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decaying, "place", place)
    alone, watched = both(tmp_path, Decaying, shuffled)
    assert torch.equal(alone, watched)
    assert not torch.equal(alone, fit(tmp_path, Net, shuffled(), None))  # the factor changes something


def test_what_is_silent_can_be_gone_through() -> None:
    silence = Silence()
    assert list(silence) == list(silence.config.items()) == []
    assert "entry" not in silence
    assert silence[0].add_image("a") is silence
    assert copy.deepcopy(Silence(Lock())) is not None  # which itself cannot be copied
