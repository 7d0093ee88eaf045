"""First exits where a run is not one simple training: several fits, other references, averages, lazy modules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import FirstExitMonitor
from lightning_tailindex.loggers import FirstExitPresentation
from lightning_tailindex.records import FirstExit, FirstExitReport

from .test_first_exit import EXACT, Walk, left, monitor
from .weight_training import QUIET


def run(module: LightningModule, *callbacks: Callback, size: int = 200, **options: Any) -> Trainer:
    ckpt_path = options.pop("ckpt_path", None)
    trainer = Trainer(**QUIET, callbacks=list(callbacks), **options)
    trainer.fit(module, DataLoader(torch.zeros(size, 1), batch_size=2), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("is_read", [False, True])
def test_a_second_fit_that_goes_on_keeps_its_exits(is_read: bool, tmp_path: Path) -> None:
    net, path = Walk(), tmp_path / "start.pt"
    torch.save(net.state_dict(), path)
    watcher = monitor(reference=path if is_read else "start")
    trainer = run(net, watcher, max_steps=6)
    trainer.fit_loop.epoch_loop.max_steps = 12
    trainer.fit(net, DataLoader(torch.zeros(200, 1), batch_size=2))
    assert left(watcher.reports[-1]) == [3, 3, 8, None]
    assert watcher.reports[-1].distance == 3.75


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:You're resuming from a checkpoint")
def test_a_run_that_resumes_with_another_reference_drops_the_old_one(tmp_path: Path) -> None:
    first, path = monitor(), tmp_path / "step=8.ckpt"
    run(Walk(), first, max_steps=8).save_checkpoint(path)
    assert left(first.reports[-1]) == [3, 3, 8, None]
    found = {}
    for reference in (5, 10, "start"):
        watcher = monitor(reference=reference)
        run(Walk(), watcher, max_steps=12, ckpt_path=path)
        found[reference] = watcher.reports[-1]
    assert (found["start"].distance, left(found["start"])) == (3.75, [3, 3, 8, None])  # the same: it goes on
    assert (found[10].distance, left(found[10])) == (2 * EXACT, [None] * 4)
    assert math.isnan(found[5].distance)
    assert left(found[5]) == [None] * 4
    assert found[5].note == "no distance: the weights after 5 optimizer steps, the reference, were not seen"
    content = torch.load(path, weights_only=True)
    content["callbacks"] = {}
    torch.save(content, path)
    watcher = monitor()
    run(Walk(), watcher, max_steps=12, ckpt_path=path)
    expected = "no distance: the weights at the start of training, the reference, were not seen"
    assert watcher.reports[-1].note == expected


class Five(Walk):
    """Another architecture."""

    def __init__(self) -> None:
        super().__init__(dim=5)


class Renamed(Walk):
    """A weight of another name."""

    def __init__(self) -> None:
        super().__init__()
        self.v = self.w
        del self.w
        vars(self)["w"] = self.v


CHANGED = "the module, or names or shapes of its weights, changed at step 6: reference and exits began anew"


def goes_on(trainer: Trainer, module: LightningModule, **options: Any) -> None:
    trainer.fit_loop.epoch_loop.max_steps = 12
    trainer.fit(module, DataLoader(torch.zeros(200, 1), batch_size=2), **options)
    assert trainer.global_step == 12


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize("kind", [Walk, Five, Renamed])
def test_another_module_is_measured_from_its_own_start(kind: type[Walk], on_error: str) -> None:
    watcher, net = monitor(on_error=on_error), kind()
    with torch.no_grad():
        net.w += 100  # far from where the first module is
    goes_on(run(Walk(), watcher, max_steps=6), net)
    assert [report.step for report in watcher.reports] == [0, 5, 6, 10, 12]
    assert [report.note for report in watcher.reports] == ["", "", "", CHANGED, CHANGED]
    assert [report.distance for report in watcher.reports[3:]] == [1.75, 2.25]
    assert left(watcher.reports[-1]) == [8, 8, None, None]
    assert watcher.reports[-1].largest_step == 1  # none of them is from one module to the other


def test_a_module_whose_weights_are_renamed_between_fits_is_measured_from_there() -> None:
    watcher, net = monitor(on_error="warn"), Walk()
    trainer = run(net, watcher, max_steps=6)
    net.register_parameter("w_orig", net._parameters.pop("w"))  # as pruning does
    vars(net)["w"] = net.w_orig
    goes_on(trainer, net)
    assert (watcher.reports[-1].distance, watcher.reports[-1].note) == (2.25, CHANGED)


def test_a_reference_that_another_module_does_not_fit_is_told_of(tmp_path: Path) -> None:
    path = str(tmp_path / "start.pt")
    torch.save(Walk().state_dict(), path)
    watcher = monitor(reference=path, on_error="warn")
    trainer = run(Walk(), watcher, max_steps=6)
    with pytest.warns(
        UserWarning, match=r"the reference could not be taken, training goes on: ValueError: .* lacks 'w'"
    ):
        goes_on(trainer, Five())
    assert math.isnan(watcher.reports[-1].distance)
    assert watcher.reports[-1].note.endswith(f"the weights in {path}, the reference, were not seen; {CHANGED}")
    assert left(watcher.reports[-1]) == [None] * 4
    watcher = monitor(reference=path, on_error="warn")
    goes_on(run(Walk(), watcher, max_steps=6), Walk())
    assert (watcher.reports[-1].distance, left(watcher.reports[-1])) == (2.25, [8, 8, None, None])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:You're resuming from a checkpoint")
def test_a_module_that_a_state_is_loaded_into_is_the_one_before(tmp_path: Path) -> None:
    watcher, path = monitor(), tmp_path / "step=6.ckpt"
    trainer = run(Walk(), watcher, max_steps=6)
    trainer.save_checkpoint(path)
    goes_on(trainer, Walk(), ckpt_path=path)
    assert (watcher.reports[-1].distance, watcher.reports[-1].note) == (3.75, "")
    assert left(watcher.reports[-1]) == [3, 3, 8, None]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:You're resuming from a checkpoint")
def test_a_resumed_run_still_says_that_it_had_begun_anew(tmp_path: Path) -> None:
    watcher, path = monitor(), tmp_path / "step=12.ckpt"
    trainer = run(Walk(), watcher, max_steps=6)
    goes_on(trainer, Five())
    trainer.save_checkpoint(path)
    resumed = monitor()
    run(Five(), resumed, max_steps=14, ckpt_path=path)
    assert (resumed.reports[-1].distance, resumed.reports[-1].note) == (2.75, CHANGED)


class Normalized(Walk):
    """The same steps always, and a layer for whose statistics averaging takes another epoch."""

    def __init__(self, is_normalized: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1) if is_normalized else nn.Identity()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.w[0] + 0 * self.norm(batch).sum()


@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
def test_weights_that_averaging_puts_in_place_are_no_step(is_normalized: bool, is_first: bool) -> None:
    watcher, net = monitor(window=50), Normalized(is_normalized)
    averaging = StochasticWeightAveraging(EXACT, swa_epoch_start=1, annealing_epochs=1)
    run(net, *((watcher, averaging) if is_first else (averaging, watcher)), size=8, max_epochs=4)
    assert net.w[0] < 16 * EXACT  # they are in place
    assert (watcher.reports[-1].distance, watcher.reports[-1].num_steps) == (16 * EXACT, 16)
    assert (watcher.reports[-1].largest_step, watcher.reports[-1].median_step) == (EXACT, EXACT)


class Lazy(Walk):
    def __init__(self, is_all: bool) -> None:
        super().__init__()
        self.w.requires_grad_(not is_all)
        self.lazy = nn.LazyLinear(2)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.lazy(batch + 1).sum() - self.w[0]


def test_lazy_weights_are_counted_as_long_as_they_are_not_followed() -> None:
    watcher = monitor()
    run(Lazy(False), watcher, max_steps=6)
    note = "2 of 3 trainable parameters are not followed: frozen, lazy or not there yet"
    assert {report.note for report in watcher.reports} == {note}
    assert [report.distance for report in watcher.reports] == [0, 5 * EXACT, 6 * EXACT]
    watcher = monitor(reference=2)
    run(Lazy(True), watcher, max_steps=6)
    assert watcher.reports[0].note.endswith(
        "2 of 2 trainable parameters are not followed: frozen, lazy or not there yet"
    )
    assert watcher.reports[-1].note == ""
    assert watcher.reports[-1].distance == pytest.approx(4 * EXACT * 4)  # four numbers, each by 2 × 0.25 a step
    assert watcher.reports[-1].num_steps == 5


def test_a_checkpoint_with_objects_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "objects.ckpt"
    torch.save({"state_dict": Walk().state_dict(), "hyper_parameters": {"data": Path("here")}}, path)
    with pytest.raises(ValueError, match=r"no other objects are loaded, got .*objects.ckpt.*module.state_dict\(\)"):
        run(Walk(), monitor(reference=str(path)), max_steps=2)


@pytest.mark.parametrize("content", [None, [1, 2], torch.ones(2), {"state_dict": {"w": 3}}, {"state_dict": 3}])
def test_files_of_another_kind_are_refused_in_words(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.touch() if content is None else torch.save(content, path)
    with pytest.raises(ValueError, match=r"reference must .*other\.ckpt"):
        run(Walk(), monitor(reference=str(path)), max_steps=2)


def test_each_radius_has_a_tag_of_its_own() -> None:
    radii = FirstExitMonitor([1.0000001, 1.0000002]).radii
    exits = tuple(FirstExit(radius, step) for step, radius in enumerate(radii))
    report = FirstExitReport(2, 2.0, exits, 1.0, 1.0, 2, 0.0)
    scalars = FirstExitPresentation("start", False).scalars(report)
    assert (scalars["first_exit/step/1.0000001"], scalars["first_exit/step/1.0000002"]) == (0, 1)
