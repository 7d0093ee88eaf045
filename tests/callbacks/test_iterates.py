"""The monitor of iterates: windows, burn-in, step sizes, and what it does when things go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import IterateReport, IterateTailIndexMonitor
from tests.loggers.training import events_in, layout, text

from .iterates_training import Chains, fit, monitor
from .test_cli import LIGHTNINGS, start, write
from .training_trace import NaiveMeasurement, NoisyData, train


def test_windows_follow_the_burn_in_and_each_other(caplog: pytest.LogCaptureFixture) -> None:
    watcher = monitor(burn_in=10)
    with caplog.at_level("INFO"):
        fit(Chains(0.1), watcher, max_steps=60)
    assert "after a burn-in of 10 steps: 3 windows will be full when training ends" in caplog.text
    assert "(at most 3 measurements from step 1 to the end at step 60)" in caplog.text
    assert [report.step for report in watcher.reports] == [26, 42, 58]
    assert all((report.burn_in, report.window, report.num_snapshots) == (10, 16, 16) for report in watcher.reports)


@pytest.mark.parametrize(("steps", "times"), [(16, "1 measurement"), (31, "1 measurement"), (32, "2 measurements")])
def test_a_window_that_ends_with_training_is_counted(steps: int, times: str, caplog: pytest.LogCaptureFixture) -> None:
    watcher = monitor(burn_in=0)
    with caplog.at_level("INFO"):
        fit(Chains(0.1), watcher, max_steps=steps)
    assert f"(at most {times} from step 1 to the end at step {steps})" in caplog.text
    assert len(watcher.reports) == int(times[0])


@pytest.mark.parametrize(
    ("burn_in", "window", "why"),
    [
        (None, 16, "the loss had not settled; burn_in=0 begins at once"),
        (None, 64, "no window was full"),  # of losses neither: it says nothing about them
        (20, 16, "no window was full"),
    ],
)
def test_a_run_without_a_window_says_why(
    burn_in: int | None, window: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        fit(Chains(0.1), monitor(burn_in=burn_in, window=window), max_steps=20)
    assert f"IterateTailIndexMonitor: nothing was measured in this run: {why}." in caplog.messages


@pytest.mark.parametrize(
    ("burn_in", "found", "end", "said"),
    [
        (45, None, 60, "after a burn-in of 45 steps: not one window will be full when training ends"),
        (0, None, 21, "after a burn-in of 0 steps: 1 window will be full when training ends"),
        (45, None, math.inf, "after a burn-in of 45 steps"),
        (None, 20, 60, "after the burn-in of 20 steps that was found before: 2 windows will be full"),
        (None, None, 60, "from one 16 steps to the next: at most 1 window will be full when training ends"),
    ],
)
def test_the_start_says_how_many_windows_fit(burn_in: int | None, found: int | None, end: float, said: str) -> None:
    assert said in monitor(burn_in=burn_in).settings.beginning(found, 5, end)


def test_the_average_is_that_of_the_window() -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.weights: list[Tensor] = []

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            self.weights.append(pl_module.weight.detach().clone())  # type: ignore[operator, union-attr]

    watcher, seen = monitor(burn_in=4, figures=None), Seen()
    fit(Chains(0.5), watcher, seen, max_steps=20)
    window = torch.stack(seen.weights[4:]).double()
    expected = (window - window.mean(0)).square().sum(1).mean().sqrt().item()
    assert watcher.reports[0].whole_model.deviation_norm == pytest.approx(expected, rel=1e-5)


def test_the_burn_in_is_found_by_the_loss() -> None:
    far, near = (monitor(burn_in=None, figures=None, group_by="model", max_coordinates=32) for _ in range(2))
    fit(Chains(0.05, start=10.0), far, max_steps=150)
    fit(Chains(0.05), near, max_steps=100)
    assert near.reports[0].burn_in < 100 < far.reports[0].burn_in
    assert far.reports[0].step == far.reports[0].burn_in + 16
    assert far.reports[0].burn_in % 16 == 0
    told = f"the burn-in was of {far.reports[0].burn_in} steps, where no fall of the loss could be told"
    assert told in far.reports[0].note
    assert "neither independent nor of one scale" in far.reports[0].note


class Scheduled(Chains):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([{"params": [self.weight], "name": "a/b"}], lr=0.4, momentum=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step()
        scheduler.optimizer.param_groups[0]["momentum"] += 0.01  # as OneCycleLR moves it


def test_step_sizes_are_those_that_the_steps_took() -> None:
    watcher = monitor()
    fit(Scheduled(0.0), watcher, batches=64, accumulate_grad_batches=4)
    (report,) = watcher.reports
    taken = [0.4 / (1 + step) for step in range(16)]
    (group,) = report.parameter_groups
    assert (group.name, group.momentum, group.momentum_kind) == ("SGD", pytest.approx(0.65), "momentum")
    assert group.step_size == pytest.approx(sum(taken) / 16)
    assert group.last_step_size == pytest.approx(taken[-1])
    assert report.minibatch_size == 8 * 4
    assert report.ratio(group) == pytest.approx(sum(taken) / 16 / 32)


class Empty(Chains):
    def __init__(self) -> None:
        super().__init__(0.1)
        self.nothing, self.void = nn.Parameter(torch.zeros(0)), nn.Parameter(torch.zeros(0, 4))


@pytest.mark.parametrize("group_by", ["module", "parameter"])
def test_what_has_no_elements_is_left_out(group_by: Any) -> None:
    watcher = monitor(group_by=group_by)
    fit(Empty(), watcher, max_steps=16)
    (report,) = watcher.reports
    assert [each.group for each in report.measurements] == ["weight", "whole_model"]
    assert [each.num_coordinates for each in report.measurements] == [1024, 1024]
    with pytest.raises(ValueError, match=r"iterates need parameters with elements, got none in 'nothing', 'void'"):
        fit(Empty(), monitor(parameters=["nothing", "void"]), max_steps=16)


class Adafactor(torch.optim.SGD):
    """Finds its step sizes by itself, as Hugging Face's of this name does, which has None for them."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.param_groups[0].update(lr=None, momentum=None)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        closure()


class Adaptive(Chains):
    def configure_optimizers(self) -> Any:
        return Adafactor(self.parameters())


def test_an_optimizer_that_finds_its_step_sizes_by_itself_has_none() -> None:
    watcher = monitor()
    fit(Adaptive(0.1), watcher, max_steps=16)
    (report,) = watcher.reports
    (group,) = report.parameter_groups
    assert (group.name, group.momentum, group.momentum_kind) == ("Adafactor", 0, "momentum")
    assert math.isnan(group.step_size)
    assert math.isnan(group.last_step_size)


class ByHand(Chains):
    """Two optimizers, stepped by hand; the second in every other batch."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.automatic_optimization = False
        self.more = nn.Parameter(torch.ones(4))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx) + self.more.square().sum()
        for optimizer in self.optimizers()[: 2 - batch_idx % 2]:
            optimizer.zero_grad()
            self.manual_backward(loss, retain_graph=True)
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.more[:0].detach().requires_grad_()]}, {"params": [self.more], "lr": 0.02}]
        return torch.optim.SGD([self.weight], lr=0.1), torch.optim.Adam(groups, lr=0.01)


def test_several_optimizers_and_parameter_groups_are_told_apart() -> None:
    watcher = monitor()
    fit(ByHand(), watcher, batches=33)
    assert [report.step for report in watcher.reports] == [16, 32]
    first, *others = watcher.reports[1].parameter_groups
    assert (first.name, first.step_size) == ("SGD", 0.1)
    assert [(g.name, g.step_size, g.momentum, g.momentum_kind) for g in others] == [
        ("Adam_group0", 0.01, 0.9, "beta1"),
        ("Adam_group1", 0.02, 0.9, "beta1"),
    ]


class Thaws(Chains):
    """Trains one parameter, and from step 16 on another one of the same size."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.other = nn.Parameter(torch.zeros_like(self.weight), requires_grad=False)

    def on_train_batch_start(self, *rest: Any) -> None:
        self.weight.requires_grad_(self.global_step < 16)
        self.other.requires_grad_(self.global_step >= 16)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + (self.other - 1).square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.weight, self.other], lr=0.1)


def test_repetitions_are_of_the_same_parameters() -> None:
    watcher = monitor(figures=None)
    fit(Thaws(), watcher, max_steps=48)
    assert [report.num_repetitions for report in watcher.reports] == [1, 1, 2]


class Normalized(Chains):
    """Has settled, and has running averages, for which the averaging of weights makes an epoch of its own."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.norm = nn.BatchNorm1d(2)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 0 * (self.weight.sum() + self.norm(torch.zeros(4, 2)).sum())


def test_the_swap_of_weights_in_the_end_of_their_averaging_is_no_step() -> None:
    watcher, steps = monitor(burn_in=None), monitor(burn_in=None)
    trainer = fit(Normalized(), watcher, StochasticWeightAveraging(0.1, swa_epoch_start=0.0), batches=31)
    assert (trainer.global_step, watcher.state_dict()["burn_in"]) == (32, None)
    fit(Normalized(), steps, batches=32)
    assert steps.state_dict()["burn_in"] == 32  # what a step would have been


class Silent(ByHand):
    def training_step(self, batch: Tensor, batch_idx: int) -> None:  # type: ignore[override]
        super().training_step(batch, batch_idx)


class Falling(Chains):
    """A loss that falls throughout."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        seen = self.trainer.current_epoch * self.trainer.num_training_batches + batch_idx
        return 9 - 0.01 * seen + 0 * self.weight.sum()


def test_a_schedule_of_accumulation_is_no_rise_of_the_loss() -> None:
    watcher = monitor(burn_in=None, figures=None)
    fit(Falling(0.1), watcher, GradientAccumulationScheduler({0: 4, 2: 1}), batches=64, max_epochs=5)
    assert (watcher.reports, watcher.state_dict()["burn_in"]) == ([], None)


def test_another_module_has_a_burn_in_of_its_own() -> None:
    watcher = monitor(burn_in=None, figures=None)
    trainer = fit(Chains(0.1), watcher, max_steps=60)
    first = watcher.state_dict()["burn_in"]
    assert first is not None
    trainer.fit_loop.epoch_loop.max_steps = 120
    trainer.fit(Falling(0.1), trainer.train_dataloader)
    assert watcher.state_dict()["burn_in"] is None
    assert watcher.reports[-1].step <= 60


class Restores(Callback):
    """Loads the state of a monitor in the middle of a run."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        if trainer.global_step == 50:
            (watcher,) = (each for each in trainer.callbacks if isinstance(each, IterateTailIndexMonitor))  # type: ignore[attr-defined]
            watcher.load_state_dict(watcher.state_dict())


def test_it_has_so_after_a_state_was_loaded_in_mid_run() -> None:
    watcher = monitor(burn_in=None, figures=None)
    trainer = fit(Chains(0.1), watcher, Restores(), max_steps=60)
    assert watcher.state_dict()["burn_in"] is not None
    trainer.fit_loop.epoch_loop.max_steps = 120
    trainer.fit(Falling(0.1), trainer.train_dataloader)
    assert watcher.state_dict()["burn_in"] is None


def test_a_burn_in_that_no_loss_can_tell_is_asked_for() -> None:
    watcher = monitor(burn_in=None, on_error="warn")
    with pytest.warns(UserWarning, match=r"burn_in=None needs the loss .* got none: give it in steps"):
        fit(Silent(), watcher, batches=40)
    assert watcher.reports == []


class Diverges(Chains):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * math.nan if self.global_step == 20 else loss


def test_weights_that_are_nan_give_nan_and_a_note() -> None:
    watcher = monitor()
    fit(Diverges(0.1), watcher, max_steps=32)
    good, bad = (report.whole_model for report in watcher.reports)
    assert good.alpha > 1
    assert all(math.isnan(each.alpha) and each.note for each in bad.estimates if each.what != "deviation_gaussian")


def test_a_failure_is_told_and_the_next_window_is_measured() -> None:
    class Freezes(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            pl_module.requires_grad_(trainer.global_step != 17)

        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            pl_module.requires_grad_(True)

    watcher = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="training goes on") as warned:
        fit(Chains(0.1), Freezes(), watcher, max_steps=48)
    told = [str(each.message) for each in warned if "training goes on" in str(each.message)]
    assert "the iterate of step 17 could not be kept" in told[0]
    assert "the window needs 16 iterates, 15 could be kept" in told[1]
    assert [report.step for report in watcher.reports] == [16, 48]


def test_parameters_that_others_took_the_place_of_are_not_followed() -> None:
    class Replaces(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            if trainer.global_step == 20:
                pl_module.weight = nn.Parameter(pl_module.weight.detach().clone())
                trainer.strategy.setup_optimizers(trainer)

    watcher = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="no longer in the module: others took their place"):
        fit(Chains(0.1), Replaces(), watcher, max_steps=48)
    assert [report.step for report in watcher.reports] == [16, 48]


class EveryFourth(Chains):
    """Steps once in four batches."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        if batch_idx % 4 == 3:
            optimizer: Any = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()
        return loss


def test_the_minibatch_is_what_a_step_consumes() -> None:
    watcher, alone = monitor(), monitor()
    fit(EveryFourth(), watcher, batches=33)
    fit(Chains(0.1), alone, batches=33)
    assert [report.minibatch_size for report in watcher.reports] == [4 * alone.reports[0].minibatch_size] * 2


class LeavesEpochs(Chains):
    """Leaves an epoch as its third batch begins, which no step consumes then."""

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> int | None:
        return -1 if batch_idx == 2 else None


class TakesIterator(Chains):
    """Fetches its batches, of which Lightning shows the one before as a step begins."""

    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        return super().training_step(*next(dataloader_iter)[:2])


class TakesApart(Chains):
    """Takes what it needs out of its batch."""

    def on_before_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> dict[str, Tensor]:
        return {"x": batch}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch.pop("x"), batch_idx)


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
@pytest.mark.parametrize("module", [LeavesEpochs, TakesIterator, TakesApart])
def test_batches_that_no_step_consumes_are_not_counted(module: type[Chains]) -> None:
    watcher = monitor()
    fit(module(0.1), watcher, batches=40, max_steps=48)
    assert [report.minibatch_size for report in watcher.reports] == [8, 8, 8]


def test_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    loader: Callable[[], DataLoader[Any]] = lambda: DataLoader(NoisyData(120), batch_size=4, shuffle=True)  # noqa: E731
    without, _ = train(str(tmp_path / "without"), loader)
    watcher = monitor(burn_in=None)
    watched, _ = train(str(tmp_path / "with"), loader, [watcher])
    assert watcher.reports, "nothing was measured, so nothing was shown"
    assert without.differences(watched) == []
    naive, _ = train(str(tmp_path / "naive"), loader, [NaiveMeasurement()])
    assert "parameters" in without.differences(naive)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended", "ignore:Be aware that when using")
def test_a_resumed_run_keeps_reports_and_burn_in_and_begins_a_window(tmp_path: Path) -> None:
    first = monitor(burn_in=None, figures=None)
    saving = ModelCheckpoint(tmp_path, "last", every_n_train_steps=70)
    fit(Chains(0.1), first, saving, max_steps=70, enable_checkpointing=True)
    found = first.reports[0].burn_in
    second = monitor(burn_in=None, figures=None)
    fit(Chains(0.1), second, max_steps=110, ckpt_path=tmp_path / "last.ckpt")
    steps = [report.step for report in first.reports]
    assert steps == list(range(found + 16, 71, 16))
    assert [report.step for report in second.reports] == [*steps, 86, 102]
    assert {report.burn_in for report in second.reports} == {found}
    assert repr(second.reports[: len(steps)]) == repr(first.reports)
    given = monitor(burn_in=5, figures=None)
    fit(Chains(0.1), given, max_steps=90, ckpt_path=tmp_path / "last.ckpt")
    assert (given.reports[-1].step, given.reports[-1].burn_in) == (86, 5)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["IterateTailIndexMonitor"]
    assert state["burn_in"] == found


def test_tensorboard_shows_what_the_reports_say(tmp_path: Path) -> None:
    watcher = monitor(max_coordinates=64)
    logger = TensorBoardLogger(tmp_path, "", "")
    trainer = fit(Chains(0.5), watcher, max_steps=48, logger=logger, log_every_n_steps=1)
    events = events_in(tmp_path)
    for tag, value in {
        "iterate_tail_index/whole_model": lambda r: r.whole_model.alpha,
        "iterate_tail_index_detail/deviation/weight": lambda r: r.measurements[0].of("deviation").alpha,
        "iterate_tail_index_detail/ergodic_average_low/whole_model": lambda r: r.whole_model.estimates[0].low,
        "sgd/step_size/SGD": lambda r: 0.5,
        "sgd/minibatch_size": lambda r: 8,
        "sgd/step_size_over_minibatch_size/SGD": lambda r: 0.5 / 8,
        "sgd/momentum/SGD": lambda r: 0.0,
    }.items():
        shown = {event.step: event.value for event in events.Scalars(tag)}
        assert shown == pytest.approx({report.step: value(report) for report in watcher.reports})
    assert not [tag for tag in events.Tags()["scalars"] if "deviation_gaussian_" in tag]  # surrogates have no interval
    assert events.Tags()["images"] == ["iterate_tail_index_figures/iterate_alphas"]
    assert "Step size η over minibatch size b" in layout(events)
    assert "windows of 16 optimizer steps" in text(events, "iterate_tail_index_setup")
    assert trainer.callback_metrics["iterate_tail_index"].item() == pytest.approx(watcher.reports[-1].whole_model.alpha)


class TwoParameters(Chains):
    """Two groups, which are too small to have a tail index."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.weight, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch + self.bias - torch.randn(len(batch), 1)).square().mean()


def test_groups_without_a_tail_index_are_told_once_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = monitor()
    with caplog.at_level("INFO"):
        fit(TwoParameters(), watcher, max_steps=32, logger=TensorBoardLogger(tmp_path, "", ""))
    assert len(watcher.reports) == 2
    told = [message for message in caplog.messages if "no tail index of 'weight', 'bias'" in message]
    assert len(told) == 1
    assert told[0].endswith("'bias' at step 16: 1 of 1 series left out: constant values.")


def test_groups_with_a_tail_index_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(Chains(0.1), monitor(), max_steps=16, logger=TensorBoardLogger(tmp_path, "", ""))
    assert "no tail index" not in caplog.text


@pytest.mark.parametrize("lightning", LIGHTNINGS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse
def test_from_yaml_by_class_path_in_both_lightnings(
    lightning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(lightning)
    name = "lightning_tailindex.IterateTailIndexMonitor"
    monkeypatch.setattr("sys.argv", ["train.py"])
    config = write(tmp_path, "{window: 16, burn_in: 0, replicas: each}", name)
    cli = start(lightning, config, "--trainer.max_steps=32", f"--trainer.default_root_dir={tmp_path}")
    (watcher,) = [each for each in cli.trainer.callbacks if isinstance(each, IterateTailIndexMonitor)]
    cli.trainer.fit(cli.model)
    assert [type(report) for report in watcher.reports] == [IterateReport] * 2
    assert watcher.settings.replicas == "each"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 15}, "window must be an integer of at least 16, got 15"),
        ({"burn_in": -1}, "burn_in must be None or an integer of at least 0, got -1"),
        ({"max_coordinates": None}, "max_coordinates must be an integer of at least 1, got None"),
        ({"replicas": "all"}, "replicas must be 'same' or 'average' or 'each', got 'all'"),
        ({"figures": "noise_qq"}, "figures must be None or among iterate_alphas, got 'noise_qq'"),
        ({"group_by": "layer"}, "group_by must be one of .* got 'layer'"),
        ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IterateTailIndexMonitor(**options)


def test_strategies_that_shard_weights_are_refused_by_name() -> None:
    trainer = Trainer(strategy=ModelParallelStrategy(), accelerator="cpu", devices=1, logger=False)
    with pytest.raises(Exception, match="cannot be measured under ModelParallelStrategy: processes have shards"):
        monitor().setup(trainer, Chains(0.1), "fit")
    with pytest.raises(ValueError, match=r"'nothing' matches no parameter of Chains"):
        fit(Chains(0.1), monitor(parameters="nothing"), max_steps=1)
