"""``max_coordinates=None``: every coordinate of the model, in memory that the number of draws does not change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from lightning_tailindex import Report, TailIndexMonitor
from lightning_tailindex.noise.pairs import PairRecorder

from .test_training_source import Regression, data, train

pytestmark = pytest.mark.uncounted

ROOT = Path(__file__).parents[2]
MEGABYTE = 2.0**20
# Bytes a parameter that measuring takes beside the weights, in single precision; docs/cost.md says the same.
BYTES = 40

# Prints what a process had at most in memory so far, in megabytes, after each training, with measurements or without.
PEAK = """
import gc, resource, sys, torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader
from lightning_tailindex import TailIndexMonitor

size = int(sys.argv[1])

class Wide(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(size, size, bias=False)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def fit(draws, full):
    monitor = TailIndexMonitor(
        1000, num_minibatches=max(draws, 16), full_gradient_batches=max(full, 1), max_coordinates=None, on_error="raise"
    )
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = Trainer(max_steps=1, accelerator="cpu", callbacks=[monitor] if draws else [], **quiet)
    trainer.fit(Wide(), DataLoader(torch.randn(max(draws, full, 1), size), batch_size=1))
    report = monitor.reports[0].whole_model if draws else None
    assert report is None or (report.num_coordinates, report.num_draws) == (size**2, draws), report

for training in sys.argv[2:]:
    fit(*map(int, training.split(",")))
    gc.collect()
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peaks(size: int, *trainings: str, timeout: float = 160) -> list[float]:
    """Peaks after each training of one process, of as many draws and minibatches of a full gradient."""
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(size), *trainings]
    # Large blocks go back to the system when they are freed: else the C library keeps some for later, more or fewer of
    # them by chance, and the peak tells what it kept.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(line.removeprefix("peak")) for line in done.stdout.splitlines() if line.startswith("peak")]


def test_memory_is_a_multiple_of_the_parameters_whatever_the_number_of_draws() -> None:
    size = 2000
    without, few, many = peaks(size, "0,0", "16,24", "64,96")
    allowed = BYTES * size**2 / MEGABYTE
    assert few - without < 1.1 * allowed
    assert many - without < 1.1 * allowed
    assert many - few < 48 * 4 * size**2 / MEGABYTE / 4  # 48 more draws, kept, would take four times as much


@pytest.mark.long
def test_a_hundred_million_parameters_fit() -> None:
    without, with_it = peaks(10_000, "0,0", "16,24", timeout=3600)
    assert with_it - without < BYTES * 1e8 / MEGABYTE


def report(path: Path, **arguments: Any) -> Report:
    monitor = TailIndexMonitor(every_n_steps=100, on_error="raise", **arguments)
    train(path, Regression(), 100, callbacks=[monitor])
    return monitor.reports[-1]


class ManyParts(Regression):
    """The same in 100 parameters, more than are estimated together."""

    def __init__(self) -> None:
        super().__init__()
        del self.weight
        self.parts = torch.nn.ParameterList(torch.zeros(2) for _ in range(100))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return (x @ torch.cat(list(self.parts)) - y).square().mean()


def test_each_of_many_groups_speaks_for_its_own_coordinates(tmp_path: Path) -> None:
    monitor = TailIndexMonitor(
        every_n_steps=100, max_coordinates=None, num_minibatches=64, group_by="parameter", on_error="raise"
    )
    train(tmp_path, ManyParts(), 1, callbacks=[monitor])
    *groups, whole = monitor.reports[-1].headline
    assert [(m.num_coordinates, sum(m.coordinate_alphas.counts)) for m in groups] == [(2, 2)] * 100
    assert (whole.num_coordinates, sum(whole.coordinate_alphas.counts)) == (200, 200)
    assert {m.estimator for m in groups} == {"sequential_mle"}


def test_all_coordinates_speak_first_and_a_sample_of_them_after(tmp_path: Path) -> None:
    found = report(tmp_path, max_coordinates=None, estimators=["grouped_mle", "hill"], group_by="parameter")
    names = [(each.group, each.estimator) for each in found.measurements]
    both = [("weight", name) for name in ("sequential_mle", "grouped_mle", "hill")]
    assert names == both + [("whole_model", name) for _, name in both]
    whole, sample = found.whole_model, found.measurements[-2]
    assert whole.estimator == "sequential_mle"
    assert (whole.num_coordinates, whole.num_draws) == (200, 64)
    assert whole.low < sample.alpha < whole.high
    assert whole.low < whole.alpha < whole.high < 1.9 < whole.gaussian_alpha
    assert whole.scale == pytest.approx(sample.scale, rel=0.3)
    assert whole.law == sample.law != "gaussian"
    assert sum(whole.coordinate_alphas.counts) == 200
    assert 1 < whole.coordinate_median < 2
    assert 0 < whole.gain > whole.gaussian_gain
    stored = report(tmp_path, max_coordinates=10**9, estimators=["grouped_mle", "hill"], group_by="parameter")
    assert sample.alpha == stored.whole_model.alpha  # the sample is everything here


def test_training_is_bit_for_bit_the_same(tmp_path: Path) -> None:
    monitors = [TailIndexMonitor(every_n_steps=50, num_minibatches=16, max_coordinates=None, source=s) for s in SOURCES]
    without = train(tmp_path).weight
    for monitor in monitors:
        assert torch.equal(train(tmp_path, callbacks=[monitor]).weight, without)
        assert len(monitor.reports) >= 5
    assert not torch.equal(without, train(tmp_path, steps=299).weight)  # the comparison can fail


SOURCES: tuple[Any, ...] = ("extra", "training")


class Sometimes(Regression):
    """Overflows in one step, which mixed precision would skip."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.global_step == 40:
            assert self.weight.grad is not None
            self.weight.grad.fill_(torch.inf)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        if self.global_step == 41:
            self.weight.data.zero_()


def test_a_step_that_is_skipped_is_left_out(tmp_path: Path) -> None:
    monitor = TailIndexMonitor(100, source="training", num_minibatches=32, max_coordinates=None, on_error="raise")
    seed_everything(0)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    own: dict[str, Any] = {"default_root_dir": tmp_path, "accelerator": "cpu", "enable_model_summary": False}
    Trainer(max_steps=101, callbacks=[monitor], **quiet, **own).fit(Sometimes(), data())
    whole = monitor.reports[0].whole_model
    assert whole.estimator == "sequential_mle"
    assert whole.alpha == whole.alpha < 1.9
    assert sum(whole.coordinate_alphas.counts) == 200


class Large(Regression):
    """Gradients whose sum half precision has no room for."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.weight * (1000 + 100 * torch.randn(200)).half()).sum()


def test_half_precision_has_room_for_large_gradients(tmp_path: Path) -> None:
    monitor = TailIndexMonitor(100, source="training", num_minibatches=32, max_coordinates=None, on_error="raise")
    train(tmp_path, Large(lr=0.0), 101, callbacks=[monitor], precision="16-true")
    whole = monitor.reports[0].whole_model
    assert whole.alpha > 1.7
    assert sum(whole.coordinate_alphas.counts) == 200


def test_a_window_that_could_not_be_put_together_leaves_the_next_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, calls = PairRecorder._together, []

    def failing(recorder: PairRecorder, stream: Any) -> Any:
        calls.append(stream)
        if len(calls) == 1:
            raise MemoryError("broken on purpose")
        return together(recorder, stream)

    monkeypatch.setattr(PairRecorder, "_together", failing)
    monitor = TailIndexMonitor(100, source="training", num_minibatches=16, max_coordinates=None)
    with pytest.warns(UserWarning, match="broken on purpose") as warned:
        train(tmp_path, callbacks=[monitor])
    assert [report.step for report in monitor.reports] == [100, 200]
    assert len([each for each in warned if "TailIndexMonitor" in str(each.message)]) == 1
