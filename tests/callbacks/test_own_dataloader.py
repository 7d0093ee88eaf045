"""Minibatches from a loader of the measurement's own: what they are, and that training does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.noise.cloning import full_clone
from lightning_tailindex.records import Report

from .training_trace import NaiveMeasurement, NoisyData, Trace, train


def monitor(dataloader: Any, **options: Any) -> TailIndexMonitor:
    settings: dict[str, Any] = {"every_n_steps": 6, "num_minibatches": 16, "group_by": "model", "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **options}, dataloader=dataloader)


def batches(count: int = 20, size: int = 5) -> list[list[Tensor]]:
    data = NoisyData(count * size)
    return [[data.x[i : i + size], data.y[i : i + size]] for i in range(0, count * size, size)]


class Stream(IterableDataset[Any]):
    """Counts how often it was read, in itself."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        yield from NoisyData(100)


class Shuffles:
    """Batches in a new order each time, from random states that training uses too; nobody knows how many."""

    def __iter__(self) -> Iterator[Any]:
        kept = batches()
        for i in torch.randperm(len(kept)).tolist():
            yield kept[i]


OWN: dict[str, Callable[[DataLoader[Any]], Any]] = {
    "another loader": lambda loader: DataLoader(NoisyData(100), 5, shuffle=True),
    "training's own loader": lambda loader: loader,
    "list of batches": lambda loader: batches(),
    "stream": lambda loader: DataLoader(Stream(), 5),
    "iterable without a length": lambda loader: Shuffles(),
    "CombinedLoader": lambda loader: CombinedLoader([loader, loader], "min_size"),
}


class TakesTwo(LightningModule):
    """Draws what it wants of the batch, a pair or two pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch if isinstance(batch[0], Tensor) else batch[0]
        loss = nn.functional.cross_entropy(self.layer(x.clone()), y)
        x.zero_()  # what a step does to its batch is its own business
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def training_loader(workers: int) -> DataLoader[Any]:
    return DataLoader(NoisyData(), 6, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


@pytest.fixture(scope="module", params=[0, 2])
def workers(request: pytest.FixtureRequest) -> int:
    """How many processes training's own loader has."""
    return int(request.param)


@pytest.fixture(scope="module")
def without(workers: int, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What training leaves if nobody measures."""
    path = tmp_path_factory.mktemp("without")
    return train(str(path), lambda: training_loader(workers), module=TakesTwo)[0]


@pytest.mark.parametrize("kind", OWN)
def test_training_is_the_same_bit_for_bit(kind: str, workers: int, without: Trace, tmp_path: Path) -> None:
    training = training_loader(workers)
    watcher = monitor(OWN[kind](training))
    watched, _ = train(str(tmp_path), lambda: training, [watcher], module=TakesTwo)
    assert without.differences(watched) == []
    assert [report.step for report in watcher.reports] == [0, 6, 12, 18]
    size = 6 if kind in ("training's own loader", "CombinedLoader") else 5
    assert {report.minibatch_size for report in watcher.reports} == {size}


def test_the_comparison_can_fail(workers: int, without: Trace, tmp_path: Path) -> None:
    naive, _ = train(str(tmp_path), lambda: training_loader(workers), [NaiveMeasurement()], module=TakesTwo)
    assert "parameters" in without.differences(naive)


class Inner(LightningModule):
    """loss = ⟨w, x⟩: the gradient of a minibatch is the mean of its rows, whatever w is."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(6))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [self.factor * batch[0]]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (batch[0] @ self.w).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Doubled(Inner):
    factor = 2.0


def first_report(watcher: TailIndexMonitor, module: LightningModule | None = None, **options: Any) -> Report:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watcher],
        **options,
    )
    trainer.fit(module or Inner(), DataLoader(TensorDataset(torch.ones(60, 6)), 3))
    return watcher.reports[0]


def full(report: Report) -> float:
    return report.whole_model.gradient_norm


def norm_of_mean(rows: list[Tensor]) -> float:
    return float(torch.cat(rows).mean(0).norm())


def test_the_full_gradient_is_that_of_these_batches() -> None:
    own = [x for x, _ in batches()]
    report = first_report(monitor([[x] for x in own], full_gradient_batches=None))
    assert full(report) == pytest.approx(norm_of_mean(own), rel=1e-5)
    assert report.num_full_minibatches == 20
    assert full(report) != pytest.approx(6**0.5, rel=0.1)  # that of the training data, which are ones


def test_a_part_of_them_is_read_from_the_start() -> None:
    own = [x for x, _ in batches()]
    report = first_report(monitor([[x] for x in own], full_gradient_batches=17))
    assert full(report) == pytest.approx(norm_of_mean(own[:17]), rel=1e-5)


def test_batches_go_the_trainers_own_way_to_the_device() -> None:
    own = [[x] for x, _ in batches()]
    assert full(first_report(monitor(own), Doubled())) == pytest.approx(2 * full(first_report(monitor(own))), rel=1e-5)
    report = first_report(monitor(own), precision="64-true")  # the module would refuse batches in single precision
    assert full(report) == pytest.approx(full(first_report(monitor(own))), rel=1e-5)


def test_batches_are_accumulated_as_in_training() -> None:
    own = [[x] for x, _ in batches(40)]
    report = first_report(monitor(own, full_gradient_batches=None), accumulate_grad_batches=2)
    assert (report.minibatch_size, report.num_full_minibatches, report.whole_model.num_draws) == (10, 20, 16)


def test_a_last_batch_that_is_cut_short_is_no_draw() -> None:
    own = [[x] for x, _ in batches(15)]
    short = [own[0][0][:1]]
    report = first_report(monitor([*own, short], full_gradient_batches=None))
    assert report.num_full_minibatches == 16
    assert "share data" in report.note  # the sixteenth draw had to come from the second time through
    assert "share data" not in first_report(monitor([*own, own[0]])).note


def test_where_it_is_not_known_how_many_there_are_the_first_are_taken_once() -> None:
    few = [[x] for x, _ in batches(12)]
    report = first_report(monitor(Unsized(few)))
    assert report.whole_model.num_draws == report.num_full_minibatches == 12
    assert "there are 12 draws instead of 16" in report.note
    many = [[x] for x, _ in batches(40)]
    report = first_report(monitor(Unsized(many), full_gradient_batches=30))
    assert (report.whole_model.num_draws, report.num_full_minibatches) == (16, 30)


class Unsized:
    def __init__(self, kept: list[Any]) -> None:
        self.kept = kept

    def __iter__(self) -> Iterator[Any]:
        return iter(self.kept)


def test_a_stream_in_training_need_not_be_waited_for(tmp_path: Path) -> None:
    with_it, without = monitor(batches()), monitor(None)
    for name, watcher in (("with", with_it), ("without", without)):
        train(str(tmp_path / name), lambda: DataLoader(Stream(), 5), [watcher], module=TakesTwo, max_epochs=1)
    assert [report.step for report in with_it.reports] == [0, 6, 12, 18]
    assert [report.step for report in without.reports] == [16, 18]


def test_what_gives_no_batch_is_refused_before_training() -> None:
    some, few = DataLoader(NoisyData(), 6), DataLoader(NoisyData(3), 4, drop_last=True)
    pairs = [CombinedLoader([some, few], mode) for mode in ("min_size", "max_size_cycle")]
    for empty in ([], DataLoader([]), few, *pairs):  # type: ignore[arg-type, var-annotated]
        with pytest.raises(ValueError, match="dataloader must have at least one batch, got 0"):
            first_report(monitor(empty, on_error="warn"))
    loaders = [DataLoader(NoisyData(), 6)] * 2
    with pytest.raises(ValueError, match=r"of mode 'min_size' or 'max_size_cycle' .* got mode 'sequential'"):
        monitor(CombinedLoader(loaders, "sequential"))
    with pytest.raises(ValueError, match=r"that have a length and can be copied .* got one over Stream"):
        monitor(CombinedLoader([DataLoader(NoisyData(), 6), DataLoader(Stream(), 6)], "min_size"))


def test_a_loader_is_copied_once_to_see_whether_it_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler may hold all batches in a list, of which each copy takes time."""
    copied: list[Any] = []
    monkeypatch.setattr(
        "lightning_tailindex.noise.lengths.full_clone", lambda loader: (copied.append(loader), full_clone(loader))[1]
    )
    loaders = [DataLoader(NoisyData(), 6), DataLoader(NoisyData(), 5)]
    monitor(CombinedLoader(loaders, "min_size"))
    assert copied == loaders
