"""Samplers and data sets that draw random numbers to tell their length: training is the same bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Sampler

from lightning_tailindex import SharpnessMonitor, TailIndexMonitor

from .test_kinds_of_loaders import TakesSeveral
from .training_trace import NoisyData, train

pytestmark = pytest.mark.uncounted


class Buckets(Sampler[list[int]]):
    """Makes its batches anew whenever it is asked how many there are."""

    def __init__(self, shuffle: Callable[[Any], None]) -> None:
        self.shuffle = shuffle

    def _batches(self) -> list[list[int]]:
        order = list(range(40))
        self.shuffle(order)
        return [order[i : i + 5] for i in range(0, 40, 5)]

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())


class Samples(Buckets):
    """The same of single samples."""

    def __len__(self) -> int:
        return 5 * super().__len__()

    def __iter__(self) -> Iterator[Any]:
        return (index for batch in super().__iter__() for index in batch)


class DrawingData(NoisyData):
    """Augments samples from the generator that its length draws from."""

    def __len__(self) -> int:
        self.own.normal()
        random.random()
        return super().__len__()


def torch_shuffle(order: list[int]) -> None:
    order[:] = [order[i] for i in torch.randperm(len(order)).tolist()]


def own_shuffle() -> Callable[[list[int]], None]:
    generator = np.random.default_rng(3)
    return lambda order: generator.shuffle(order)  # with NumPy 1 its method itself would be shared by copies


SHUFFLES: dict[str, Callable[[], Callable[[Any], None]]] = {
    "Python's": lambda: random.shuffle,
    "NumPy's": lambda: np.random.shuffle,
    "torch's": lambda: torch_shuffle,
    "its own": own_shuffle,
}
KINDS: dict[str, Callable[[], Any]] = {
    **{
        f"batch sampler of {name} random numbers": lambda shuffle=shuffle: DataLoader(
            NoisyData(), batch_sampler=Buckets(shuffle())
        )
        for name, shuffle in SHUFFLES.items()
    },
    "sampler": lambda: DataLoader(NoisyData(), 6, sampler=Samples(random.shuffle)),
    "sampler with a generator of its own": lambda: DataLoader(
        NoisyData(), 6, sampler=Samples(random.Random(3).shuffle)
    ),
    "data set": lambda: DataLoader(DrawingData(), 6),
    "data set that is shuffled": lambda: DataLoader(DrawingData(), 6, shuffle=True),
    "several": lambda: [
        DataLoader(NoisyData(), batch_sampler=Buckets(random.Random(3).shuffle)),
        DataLoader(DrawingData(), 4, shuffle=True),
    ],
}
MONITORS: dict[str, Callable[..., Any]] = {
    "noise": lambda **options: TailIndexMonitor(8, num_minibatches=16, group_by="model", on_error="raise", **options),
    "sharpness": lambda **options: SharpnessMonitor(
        8, num_minibatches=2, trace_samples=2, parameters="0.weight", on_error="raise", **options
    ),
}


class AsksTraining(Callback):
    """The control: it asks training's own loaders how long they are."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tree_map(len, trainer.train_dataloader)


def run(path: Path, kind: str, *callbacks: Callback) -> Any:
    module = {"module": TakesSeveral} if kind == "several" else {}
    return train(str(path), KINDS[kind], callbacks, **module)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    without = run(tmp_path / "without", kind)
    for name, make in MONITORS.items():
        watcher = make()
        watched = run(tmp_path / name, kind, watcher)
        assert watcher.reports, "nothing was measured, so nothing was shown"
        assert without.differences(watched) == []
    assert "parameters" in without.differences(run(tmp_path / "asked", kind, AsksTraining()))


@pytest.mark.parametrize("name", MONITORS)
def test_training_is_the_same_where_its_own_loader_is_given_to_the_monitor(name: str, tmp_path: Path) -> None:
    kind = "batch sampler of its own random numbers"
    without = run(tmp_path / "without", kind)
    loader = KINDS[kind]()
    watcher = MONITORS[name](dataloader=loader)
    watched, _ = train(str(tmp_path / "with"), lambda: loader, [watcher])
    assert watcher.reports
    assert without.differences(watched) == []
