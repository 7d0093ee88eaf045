"""Run as a script: two processes, the second of which fails while it measures; saves what was left of each.

Arguments: the folder to save in, and a stage whose failure shall end training, if any shall.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import NoiseUnit
from lightning_tailindex.noise.recorder import Recorder
from lightning_tailindex.trainer import ExtraMinibatches, TrainingGradients
from tests.callbacks.ddp_training import shuffled, train
from tests.callbacks.fragile import Armed, FragileData, FragileEstimator, FragileNet, raises
from tests.callbacks.training_trace import Net, NoisyData

RANK = int(os.environ.get("LOCAL_RANK", "0"))


class Numbered(IterableDataset[Any]):
    """A stream whose samples say which they are."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        for number in range(80):
            yield torch.randn(6, generator=torch.Generator().manual_seed(number)), torch.tensor(number % 3), number


class Unkept(list[Any]):
    """A batch that the second process cannot keep."""

    def clone(self) -> list[Any]:
        return [part.clone() for part in self]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if RANK == 1:
            raise OSError(f"batch of sample {int(self[2][0])} cannot be kept: broken on purpose")
        return [part.clone() for part in self]


def stream(is_unkept: Callable[[int], bool]) -> Callable[[], DataLoader[Any]]:
    def collate(rows: list[Any]) -> Any:
        batch = default_collate(rows)
        return Unkept(batch) if is_unkept(rows[0][2]) else batch

    return lambda: DataLoader(Numbered(), batch_size=4, collate_fn=collate)


@dataclass
class Stage:
    module: Callable[[], Net] = Net
    data: Callable[[], DataLoader[Any]] = shuffled
    target: Callable[[Trainer], Any] | None = None
    estimator: Any = "grouped_mle"
    max_coordinates: int | None = 1024
    noise_unit: NoiseUnit = "step"
    source: Any = "extra"

    def monitor(self, on_error: Any) -> TailIndexMonitor:
        return TailIndexMonitor(
            4,
            num_minibatches=16,
            estimators=self.estimator,
            max_coordinates=self.max_coordinates,
            noise_unit=self.noise_unit,
            source=self.source,
            on_error=on_error,
        )

    def watch(self, monitor: TailIndexMonitor) -> dict[str, object]:
        if self.target is None:
            return train(monitor, module=self.module, data=self.data)
        arm, disarm = (Armed(self.target, is_armed and RANK == 1) for is_armed in (True, False))
        return train(arm, monitor, disarm, module=self.module, data=self.data)


def fragile_data() -> DataLoader[Any]:
    return DataLoader(FragileData(size=80), batch_size=4, shuffle=True)


def fragile_net() -> Net:
    return FragileNet(raises(ValueError))


class FragileMethod:
    """Lets a method need more memory than there is, from its second call while it is armed on."""

    def __init__(self, owner: type, name: str) -> None:
        self._is_armed, self.calls = False, 0
        method = getattr(owner, name)

        def failing(*args: Any) -> Any:
            self.calls += 1
            if self.is_due():
                raise torch.OutOfMemoryError("broken on purpose")
            return method(*args)

        setattr(owner, name, failing)

    def is_due(self) -> bool:
        return self.calls > 1 and self._is_armed

    def arm(self, is_armed: bool) -> None:
        self._is_armed, self.calls = is_armed, 0

    is_armed = property(lambda self: self._is_armed, lambda self, is_armed: self.arm(is_armed))


class FailsNext(FragileMethod):
    """Lets it need that the next time that it is called after it was armed, however long after."""

    def is_due(self) -> bool:
        is_due, self._is_armed = self._is_armed, False
        return is_due

    def arm(self, is_armed: bool) -> None:
        self._is_armed |= is_armed


def two_by_two() -> DataLoader[Any]:
    return DataLoader(NoisyData(160), batch_size=2, shuffle=True)


def data_set(trainer: Trainer) -> Any:
    return trainer.train_dataloader.dataset


def module(trainer: Trainer) -> Any:
    return trainer.lightning_module


ESTIMATOR = FragileEstimator()
FULL_GRADIENT = FragileMethod(Recorder, "full_gradient")
COPY = FragileMethod(PairRecorder, "_of")
TOGETHER = FragileMethod(PairRecorder, "_together")
ROW, GROUP = FailsNext(TrainingGradients, "_row"), FailsNext(TrainingGradients, "_group")
READY = FailsNext(ExtraMinibatches, "is_ready")
STAGES = {
    "data": Stage(data=fragile_data, target=data_set),
    "data, every coordinate": Stage(data=fragile_data, target=data_set, max_coordinates=None),
    "training_step": Stage(fragile_net, target=module),
    "training_step, every coordinate": Stage(fragile_net, target=module, max_coordinates=None),
    "estimator": Stage(target=lambda trainer: ESTIMATOR, estimator=ESTIMATOR),
    "full gradient": Stage(target=lambda trainer: FULL_GRADIENT),
    "a draw, every coordinate": Stage(target=lambda trainer: COPY, max_coordinates=None),
    "averages, every coordinate": Stage(target=lambda trainer: TOGETHER, max_coordinates=None, noise_unit="loader"),
    "whether it is ready": Stage(target=lambda trainer: READY),
    "a step of training": Stage(data=two_by_two, target=lambda trainer: ROW, source="training"),
    "the steps of training": Stage(data=two_by_two, target=lambda trainer: GROUP, source="training"),
    "a stream": Stage(data=stream(lambda number: False)),
    "a batch of a stream": Stage(data=stream(lambda number: number == 20)),
    "every batch of a stream": Stage(data=stream(lambda number: True)),
}


def main(folder: Path, fatal: str | None = None) -> None:
    if fatal is None:
        trainings = dict.fromkeys((stage.module, stage.data) for stage in STAGES.values())
        without = {alike: train(module=alike[0], data=alike[1]) for alike in trainings}
        results = {
            name: [without[stage.module, stage.data], stage.watch(stage.monitor("warn"))]
            for name, stage in STAGES.items()
        }
        torch.save(results, folder / f"rank{RANK}.pt")
        return
    try:
        STAGES[fatal].watch(STAGES[fatal].monitor("raise"))
    except Exception as error:
        (folder / f"rank{RANK}.txt").write_text(type(error).__name__)
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
