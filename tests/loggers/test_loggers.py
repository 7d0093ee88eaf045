"""Several loggers, none, unknown ones and such as fail."""

from __future__ import annotations

import csv
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_tailindex import FirstExitMonitor, TailIndexMonitor, WeightSpectrumMonitor
from lightning_tailindex.loggers import FIGURES, SINKS, sink_of

from .training import TwoLayers, WithHyperparameters, categories, events_in, fit, monitor


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "takes everything that monitors log but" in record.message]


def ours(caught: pytest.WarningsRecorder) -> list[str]:
    """Warnings of the monitor, without Lightning's own."""
    return [str(warning.message) for warning in caught if "TailIndexMonitor" in str(warning.message)]


def column(path: Path, name: str) -> list[str]:
    with path.open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


class Remembering(Logger):
    """A logger of the user's own, which nobody has heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int | None] = []

    name, version = "remembering", 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "tail_index/first" in metrics:
            self.steps.append(step)
        metrics.clear()  # what a logger does with what it is given is its own business


def test_every_logger_gets_the_scalars(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    own, watcher = Remembering(), monitor(figures="alpha_heatmap")
    fit([own, TensorBoardLogger(tmp_path, "", ""), CSVLogger(tmp_path / "csv", "", "")], watcher)
    assert own.steps == [0, 10, 20, 30]
    alphas = [report.whole_model.alpha for report in watcher.reports]
    assert [
        float(value) for value in column(tmp_path / "csv" / "metrics.csv", "tail_index/whole_model")
    ] == pytest.approx(alphas)
    events = events_in(tmp_path)
    assert [event.value for event in events.Scalars("tail_index/whole_model")] == pytest.approx(alphas)
    assert events.Tags()["images"] == ["tail_index_figures/alpha_heatmap"]
    assert said(caplog) == [
        "Remembering takes everything that monitors log but histograms, figures and texts, as nobody has said yet how"
        " it takes them.",
        "CSVLogger takes everything that monitors log but histograms, figures and texts.",
    ]


def test_what_a_logger_leaves_out_is_said_once_in_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    logger, monitors = CSVLogger(tmp_path, "", ""), (monitor(), FirstExitMonitor(), WeightSpectrumMonitor())
    for _ in range(2):
        fit(logger, *monitors)
    assert said(caplog) == ["CSVLogger takes everything that monitors log but histograms, figures and texts."] * 2


def test_hparams_of_a_csv_logger_are_left_alone(tmp_path: Path) -> None:
    fit(CSVLogger(tmp_path, "", ""), monitor(), module=WithHyperparameters(7))
    assert (tmp_path / "hparams.yaml").read_text() == "width: 7\n"


@pytest.mark.parametrize("logger", [False, None], ids=["no logger", "fast_dev_run"])
def test_without_a_logger_nothing_is_said(logger: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watcher = monitor()
    fit(logger, watcher, fast_dev_run=3 if logger is None else False)
    assert watcher.reports
    assert said(caplog) == []


class FullDisk(TensorBoardLogger):
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if "loss" not in metrics:
            raise OSError("no space left")
        super().log_metrics(metrics, step)


def test_a_logger_that_fails_is_warned_of_once_and_the_others_go_on(tmp_path: Path) -> None:
    loggers = [FullDisk(tmp_path / "full", "", ""), CSVLogger(tmp_path / "csv", "", "")]
    with pytest.warns(UserWarning, match="FullDisk could not log the report of step 0, .*no space left") as caught:
        trainer = fit(loggers, monitor(on_error="warn", figures=()))
    assert len(ours(caught)) == 1
    assert trainer.global_step == 40
    assert len(column(tmp_path / "csv" / "metrics.csv", "tail_index/whole_model")) == 4
    with pytest.raises(OSError, match="no space left"):
        fit(FullDisk(tmp_path / "again", "", ""), monitor(figures=()))


class Hiccups(TensorBoardLogger):
    """Its writer fails the first time that a monitor needs it for something."""

    def __init__(self, path: Path, fails: str) -> None:
        super().__init__(path, "", "")
        self.fails, self.is_armed = fails, False

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if not self.is_armed and "tail_index/first" in metrics:
            self.is_armed = True
            setattr(self.experiment, self.fails, self.fail)
        super().log_metrics(metrics, step)

    def fail(self, *args: Any, **kwargs: Any) -> None:
        delattr(self.experiment, self.fails)
        raise OSError("no space left for a moment")


@pytest.mark.parametrize("fails", ["add_scalar", "add_histogram_raw", "add_text", "flush"])
def test_what_is_said_once_is_said_though_a_logger_failed_at_first(fails: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Hiccups could not log the report of step 0, training goes on"):
        fit(Hiccups(tmp_path, fails), monitor(on_error="warn", figures=()))
    events = events_in(tmp_path)
    assert [event.step for event in events.Scalars("tail_index/first")][-3:] == [10, 20, 30]
    (said,) = events.Tensors("tail_index_setup/text_summary")
    assert said.step == (0 if fails == "flush" else 10)
    (charts,) = categories(events)  # flush comes before the layout is written
    assert sum(map(len, charts.values())) > 1
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


class Blind(TensorBoardLogger):
    """Its writer takes no images."""

    @property
    def experiment(self) -> Any:
        writer = super().experiment
        writer.add_image = lambda *args, **kwargs: 1 / 0
        return writer


def test_a_logger_that_takes_no_images_still_gets_the_rest(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Blind could not log the figures of step 0, .*ZeroDivisionError") as caught:
        trainer = fit(Blind(tmp_path, "", ""), monitor(on_error="warn", figures_every=100))  # and at the end
    assert len(ours(caught)) == 1
    assert trainer.global_step == 40
    events = events_in(tmp_path)
    assert [event.step for event in events.Scalars("tail_index/first")] == [0, 10, 20, 30]
    assert events.Tags()["images"] == []


def test_an_error_in_drawing_is_warned_of_once_and_the_other_figures_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no font")

    monkeypatch.setattr("lightning_tailindex.figures.alpha_heatmap", broken)
    with pytest.warns(UserWarning, match="the figure alpha_heatmap of step 0 could not be drawn.*no font") as caught:
        trainer = fit(TensorBoardLogger(tmp_path, "", ""), monitor(on_error="warn", figures_every=100))
    assert len(ours(caught)) == 1
    assert trainer.global_step == 40
    drawn = {"tail_index_figures/alpha_over_steps", "tail_index_figures/noise_density"}
    assert set(events_in(tmp_path).Tags()["images"]) == drawn


@pytest.mark.parametrize(("draws", "is_drawn"), [(31, False), (32, True)])
def test_averages_that_are_too_few_have_no_figure(draws: int, is_drawn: bool, tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), monitor(figures="alpha_by_minibatch_size", num_minibatches=draws))
    assert bool(events_in(tmp_path).Tags()["images"]) == is_drawn


class SkipsEverything(TwoLayers):
    def gradient_noise_step(self, batch: Any, batch_idx: int) -> None:
        return None


def test_what_has_no_value_is_no_error_in_drawing(tmp_path: Path) -> None:
    fit(
        TensorBoardLogger(tmp_path, "", ""),
        monitor(figures=tuple(FIGURES), figures_every=100),
        module=SkipsEverything(),
    )
    drawn = {"alpha_over_steps", "alpha_heatmap"}
    assert set(events_in(tmp_path).Tags()["images"]) == {f"tail_index_figures/{name}" for name in drawn}


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_loggers_are_known_by_the_names_of_their_classes(package: str) -> None:
    module = pytest.importorskip(f"{package}.loggers")
    names = {name for sink in SINKS for name in sink.classes} - {"DummyLogger"}
    assert len(names) == 4
    for sink in SINKS:
        for name in set(sink.classes) - {"DummyLogger"}:
            derived = type("Derived", (getattr(module, name),), {"__init__": lambda self: None})
            assert type(sink_of(derived())) is sink


def test_nobody_has_to_install_what_they_do_not_use() -> None:
    code = """if True:
        import sys, lightning.pytorch, pytorch_lightning, torchmetrics
        def imported(): print(sorted({'mlflow', 'wandb', 'matplotlib.pyplot'} & {*sys.modules}))
        imported()
        import lightning_tailindex
        imported()
        sys.modules['wandb'] = None
        imported()
        """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    without, with_it, control = done.stdout.splitlines()
    assert with_it == without
    assert "wandb" in control


@pytest.mark.parametrize("figures", ["alpha", ["alpha_heatmap", "noise"], 3, [3]])
def test_what_is_no_figure_is_refused(figures: Any) -> None:
    with pytest.raises(ValueError, match=r"figures must be None or among alpha_over_steps, .* got "):
        TailIndexMonitor(figures=figures)


@pytest.mark.parametrize("name", ["figures_every", "max_detailed_groups"])
def test_numbers_of_figures_and_groups_are_at_least_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*an integer of at least 1, got 0"):
        TailIndexMonitor(**{name: 0})  # type: ignore[arg-type]


def test_figures_come_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*does not have many workers")
        warnings.filterwarnings("ignore", ".*LeafSpec")
        watcher = monitor(figures=list(FIGURES), figures_every=100)
        fit(TensorBoardLogger(tmp_path, "", ""), watcher, log_every_n_steps=1)
    assert len(events_in(tmp_path).Tags()["images"]) == len(FIGURES)
