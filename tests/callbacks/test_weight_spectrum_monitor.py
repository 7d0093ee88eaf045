"""What the monitor of weight matrices measures, when, and where it says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import WeightSpectrumMonitor
from lightning_tailindex.functional import weight_spectrum
from lightning_tailindex.records import SpectrumReport, from_plain, to_plain
from tests.loggers.training import events_in, layout, text

from .test_cli import printed, start, write
from .training_trace import NoisyData, train
from .weight_training import QUIET, AllKinds, Shrink

MATRICES = [
    "embedding.weight",
    "convolution.weight",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "head.weight",
]


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(30, (60, 4), generator=generator), torch.randint(3, (60,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=6)


def monitor(**options: Any) -> WeightSpectrumMonitor:
    return WeightSpectrumMonitor(**{"every_n_steps": 4, "min_tail": 3, "on_error": "raise", **options})


def fit(*callbacks: Callback, module: LightningModule | None = None, **options: Any) -> tuple[Trainer, Any]:
    torch.manual_seed(0)
    net = AllKinds() if module is None else module
    ckpt_path = options.pop("ckpt_path", None)
    trainer = Trainer(**{**QUIET, "max_epochs": 1, **options}, callbacks=list(callbacks))
    trainer.fit(net, data(), ckpt_path=ckpt_path)
    return trainer, net


def by_name(report: SpectrumReport) -> dict[str, Any]:
    return {found.matrix: found for found in report.matrices}


def test_measures_every_matrix_at_its_steps_and_at_the_end() -> None:
    watcher = monitor()
    trainer, net = fit(watcher)
    assert [report.step for report in watcher.reports] == [0, 4, 8, 10]
    last = by_name(watcher.reports[-1])
    assert list(last) == MATRICES
    for name, weight in net.named_parameters():
        if name in last:
            assert repr(last[name]) == repr(
                weight_spectrum(weight, name=name, min_tail=3)
            )  # NaN is not equal to itself
    assert last["convolution.weight"].num_eigenvalues == 16
    assert by_name(watcher.reports[0])["head.weight"] != last["head.weight"]
    exponents = sorted(found.density_exponent for found in last.values() if found.density_exponent > 0)
    assert exponents[0] <= trainer.callback_metrics["weight_density_exponent"] <= exponents[-1]


def test_the_end_is_not_measured_twice() -> None:
    watcher = monitor(every_n_steps=5)
    fit(watcher, max_steps=6, module=None)
    assert [report.step for report in watcher.reports] == [0, 5, 6]
    watcher = monitor(every_n_steps=3)
    fit(watcher, max_steps=1)
    assert [report.step for report in watcher.reports] == [0, 1]


def test_some_of_the_matrices_in_another_form() -> None:
    watcher = monitor(parameters=["conv", "head"], convolutions="slices", normalize=True)
    _, net = fit(watcher)
    found = by_name(watcher.reports[-1])
    assert list(found) == ["convolution.weight", "head.weight"]
    kernel = net.convolution.weight
    expected = weight_spectrum(kernel, name="convolution.weight", convolutions="slices", normalize=True, min_tail=3)
    assert found["convolution.weight"] == expected
    assert expected.num_eigenvalues == 36


def test_what_has_no_exponent_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watcher = monitor(min_tail=8, max_dim=15)
    fit(watcher)
    note = (
        "3 of 5 matrices can have no density exponent: too large to be decomposed (max_dim) (convolution.weight,"
        " attention.in_proj_weight, attention.out_proj.weight); 1 of 5 matrices can have no density exponent: fewer"
        " than 8 eigenvalues (head.weight)"
    )
    assert {report.note for report in watcher.reports} == {note}
    assert [record.message.count(note) for record in caplog.records].count(1) == 1
    assert math.isnan(by_name(watcher.reports[0])["head.weight"].density_exponent)
    assert by_name(watcher.reports[0])["head.weight"].stable_rank > 1


def test_no_power_law_is_fitted_to_fewer_than_eight_eigenvalues(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watcher = monitor(min_tail=3, parameters="head.weight")
    fit(watcher)
    told = {"1 of 1 matrices can have no density exponent: fewer than 8 eigenvalues (head.weight)"}
    assert {report.note for report in watcher.reports} == told
    (found,) = watcher.reports[0].matrices
    assert found.note == "no density exponent: fewer than 8 eigenvalues above rounding"
    assert "measures the spectrum of 1 weight matrix every 4" in caplog.text
    setup = watcher.logged.setup(watcher.reports[0])
    assert setup["measured"] == "1 matrix of 48 weights"


class Ruined(AllKinds):
    """Has a weight that is not a number in its second half."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            with torch.no_grad():
                self.head.weight[0, 0] = math.nan


def test_weights_that_are_not_finite_give_a_note() -> None:
    watcher = monitor()
    fit(watcher, module=Ruined())
    assert "NaN" not in watcher.reports[0].note
    assert "NaN or infinite weights (" in watcher.reports[1].note
    assert math.isnan(by_name(watcher.reports[1])["head.weight"].stable_rank)


def test_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(NoisyData(), batch_size=6, shuffle=True)

    without, _ = train(str(tmp_path / "without"), loader)
    watcher = monitor(every_n_steps=2)
    watched, _ = train(str(tmp_path / "with"), loader, [watcher])
    control, _ = train(str(tmp_path / "control"), loader, [Shrink()])
    assert len(watcher.reports) == 12
    assert without.differences(watched) == []
    assert "parameters" in without.differences(control)


def test_a_failure_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(torch.linalg, "svdvals", broken)
    watcher = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="at step 0 failed and was dropped, training goes on: RuntimeError: broken"):
        trainer, _ = fit(watcher)
    assert (trainer.global_step, watcher.reports) == (10, [])
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(monitor())


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended", "ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists", "ignore:Be aware that when using `ckpt_path`")
def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    def saving() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)

    whole, resumed = monitor(), monitor()
    fit(whole, saving(), enable_checkpointing=True)
    fit(resumed, saving(), enable_checkpointing=True, ckpt_path=tmp_path / "step=5.ckpt")
    assert [report.step for report in resumed.reports][:3] == [0, 4, 8]
    for own, expected in zip(resumed.reports[:2], whole.reports[:2], strict=True):
        assert repr(own) == repr(expected)  # from the checkpoint
    assert repr(resumed.reports[2].matrices) != repr(whole.reports[1].matrices)
    report = whole.reports[-1]
    assert repr(from_plain(SpectrumReport, to_plain(report))) == repr(report)


def test_what_stands_in_a_tensorboard_file(tmp_path: Path) -> None:
    watcher = monitor(max_detailed_matrices=2, figures_every=2)
    fit(watcher, logger=TensorBoardLogger(tmp_path, "", ""))
    events = events_in(tmp_path)
    tags = events.Tags()
    for name in MATRICES:
        shown = events.Scalars(f"weight_density_exponent/{name}")
        assert [event.step for event in shown] == [0, 4, 8, 10]
        expected = [by_name(report)[name].density_exponent for report in watcher.reports]
        assert [event.value for event in shown] == pytest.approx(expected, nan_ok=True)
    detailed = ["attention.in_proj_weight", "convolution.weight"]
    assert sorted(tag.split("/")[2] for tag in tags["scalars"] if "/stable_rank/" in tag) == detailed
    assert sorted(tags["histograms"]) == [f"weight_eigenvalues_log10/{name}" for name in detailed]
    histogram = events.Histograms("weight_eigenvalues_log10/convolution.weight")[-1].histogram_value
    assert histogram.num == 16
    assert sorted(tags["images"]) == [f"weight_spectrum_figures/{name}" for name in detailed]
    assert [image.step for image in events.Images(f"weight_spectrum_figures/{detailed[0]}")] == [0, 8, 10]
    for chart in layout(events).values():
        assert len(chart.multiline.tag) == 2
    assert "head.weight" in text(events, "weight_spectrum_fit")
    assert "5 matrices of 2008 weights" in text(events, "weight_spectrum_setup")


def test_no_figures_where_none_are_wanted(tmp_path: Path) -> None:
    fit(monitor(figures=None), logger=TensorBoardLogger(tmp_path, "", ""))
    assert events_in(tmp_path).Tags()["images"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be an integer of at least 1, got 0"),
        ({"parameters": "("}, r"parameters must be regular expressions, got '\('"),
        ({"convolutions": "fft"}, "convolutions must be 'flattened' or 'slices', got 'fft'"),
        ({"normalize": 1}, "normalize must be True or False, got 1"),
        ({"min_tail": 1}, "min_tail must be an integer of at least 2, got 1"),
        ({"max_dim": 0}, "max_dim must be None or an integer of at least 1, got 0"),
        ({"figures": True}, "figures must be None or among weight_spectrum, got True"),
        ({"figures_every": 0}, "figures_every must be an integer of at least 1, got 0"),
        ({"max_detailed_matrices": 0}, "max_detailed_matrices must be None or an integer of at least 1, got 0"),
        ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightSpectrumMonitor(**arguments)


class NoMatrices(AllKinds):
    def __init__(self) -> None:
        super().__init__()
        for part in (self.embedding, self.convolution, self.attention, self.head):
            part.requires_grad_(False)


def test_what_cannot_be_measured_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"NoMatrices has no weight matrices among its trainable parameters 'pos"):
        fit(monitor(), module=NoMatrices())
    with pytest.raises(ValueError, match="parameters: 'no_such' matches no parameter of AllKinds"):
        fit(monitor(parameters="no_such"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("lightning", ["lightning.pytorch", "pytorch_lightning"])
def test_yaml(
    lightning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(lightning)
    monkeypatch.setattr("sys.argv", ["train.py"])
    init_args = "{every_n_steps: 50, parameters: [weight], convolutions: slices, max_dim: null}"
    cli = start(lightning, write(tmp_path, init_args, "lightning_tailindex.WeightSpectrumMonitor"))
    (watcher,) = [each for each in cli.trainer.callbacks if isinstance(each, WeightSpectrumMonitor)]
    assert (watcher.every_n_steps, watcher.settings.convolutions, watcher.settings.max_dim) == (50, "slices", None)
    shown = printed(capsys, lightning, "--trainer.callbacks.help=WeightSpectrumMonitor")
    assert "Which matrix a kernel is" in shown
