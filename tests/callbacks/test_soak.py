"""Thousands of measurements leave behind their reports and events, and nothing else."""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor

STEPS = int(os.environ.get("SOAK_STEPS", "20000"))
EVERY = 10
WARM_UP = 0.25

MEMORY_ALLOWANCE = 8 * 2**20
"""What an allocator may keep beyond what is alive; a leak of 6 KB a measurement would be more in 1,500 of them."""

LOOKS, APART = 8, 70
"""Looks at the process, and the steps between them: at all times between two figures."""

REPORT_BYTES = 15_000
EVENT_BYTES = 30_000
"""At most, in main memory and in the event file, for a measurement of two layers and the whole model, with figures."""


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.second(self.first(batch[0]).relu()), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@dataclass(frozen=True)
class Mark:
    """What the process holds at one step."""

    step: int
    memory: int
    descriptors: int
    events: int
    objects: int


class Surveyor(Callback):
    """Looks at the process at the end of the warm-up, half way from there to the end, and at the end.

    Each time it looks several times and keeps the least memory: while figures are drawn, some 20 MB more are in use.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        ends = [int(STEPS * share) for share in (WARM_UP, (1 + WARM_UP) / 2, 1)]
        self.steps = {end - look * APART: end for end in ends for look in range(LOOKS)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in self.steps:
            mark = self._mark(trainer)
            if self.marks and self.steps[self.marks[-1].step] == self.steps[mark.step]:
                mark = replace(mark, memory=min(mark.memory, self.marks.pop().memory))
            self.marks.append(mark)

    def _mark(self, trainer: Trainer) -> Mark:
        gc.collect()
        trainer.logger.experiment.flush()  # type: ignore[union-attr]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        events = sum(path.stat().st_size for path in Path(str(trainer.log_dir)).glob("events*"))
        return Mark(
            step=trainer.global_step,
            memory=pages * os.sysconf("SC_PAGE_SIZE"),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            events=events,
            objects=len(gc.get_objects()),
        )


def deep_size(item: object, seen: set[int]) -> int:
    """Bytes of a record and all that is in it, what it shares with others counted once."""
    if id(item) in seen:
        return 0
    seen.add(id(item))
    parts = vars(item).values() if dataclasses.is_dataclass(item) else item if isinstance(item, tuple) else ()
    own = sys.getsizeof(item) + (sys.getsizeof(vars(item)) if dataclasses.is_dataclass(item) else 0)
    return own + sum(deep_size(part, seen) for part in parts)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the process's memory is read from Linux's /proc")
def test_memory_and_descriptors_stay_as_they_are_and_files_grow_evenly(tmp_path: Path) -> None:
    data = TensorDataset(torch.randn(400, 4), torch.randint(2, (400,)))
    monitor = TailIndexMonitor(
        EVERY, num_minibatches=16, full_gradient_batches=16, max_coordinates=32, on_error="raise"
    )
    surveyor = Surveyor()
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, "", ""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor, surveyor],
    )
    trainer.fit(Net(), DataLoader(data, batch_size=4, shuffle=True))
    assert len(monitor.reports) == STEPS // EVERY
    first, middle, last = surveyor.marks
    measured = (last.step - first.step) / EVERY

    seen: set[int] = set()
    per_report = sum(deep_size(report, seen) for report in monitor.reports) / len(monitor.reports)
    events = [(b.events - a.events) / ((b.step - a.step) / EVERY) for a, b in ((first, middle), (middle, last))]
    growth = last.memory - first.memory
    memory = " -> ".join(f"{mark.memory / 2**20:.1f}" for mark in surveyor.marks)
    print(
        f"\n{measured:.0f} measurements after the warm-up: memory {memory} MiB,"
        f" {growth / measured:.0f} bytes a measurement, a report has {per_report:.0f};"
        f" descriptors {first.descriptors} -> {last.descriptors}; events {events[0]:.0f} and {events[1]:.0f} bytes a"
        f" measurement; objects {(last.objects - first.objects) / measured:.1f} a measurement"
    )
    assert per_report < REPORT_BYTES
    assert growth < measured * per_report + MEMORY_ALLOWANCE
    assert last.descriptors == middle.descriptors == first.descriptors
    assert max(events) < EVENT_BYTES
    assert events[1] == pytest.approx(events[0], rel=0.05)
