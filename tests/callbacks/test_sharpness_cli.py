"""SharpnessMonitor from LightningCLI."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import docstring_parser
import pytest
from torch.utils.data import DataLoader

from lightning_tailindex import SharpnessMonitor

from .test_cli import HERE, LIGHTNINGS, printed, start, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse


@pytest.fixture(autouse=True)
def _bare_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])  # Lightning warns of arguments beside its own, such as pytest's


@pytest.fixture(params=LIGHTNINGS)
def lightning(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def the_monitor(cli: Any) -> SharpnessMonitor:
    (monitor,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, SharpnessMonitor)]
    return monitor


@pytest.mark.parametrize("name", ["SharpnessMonitor", "lightning_tailindex.SharpnessMonitor"])
def test_from_yaml(name: str, lightning: str, tmp_path: Path) -> None:
    loader = f"{{class_path: {HERE}.own_batches, init_args: {{batch_size: 4}}}}"
    arguments = f"{{every_n_steps: 50, num_eigenvalues: 3, num_minibatches: null, dataloader: {loader}, figures: null}}"
    monitor = the_monitor(start(lightning, write(tmp_path, arguments, name)))
    assert (monitor.every_n_steps, monitor.settings.num_eigenvalues, monitor.num_minibatches) == (50, 3, None)
    assert isinstance(monitor.dataloader, DataLoader)
    assert monitor.dataloader.batch_size == 4


def test_it_measures_in_the_application(lightning: str, tmp_path: Path) -> None:
    config = write(tmp_path, "{num_minibatches: 2, on_error: raise}", "SharpnessMonitor")
    options = [f"--trainer.{name}" for name in ("max_steps=1", "enable_checkpointing=false", "limit_val_batches=0")]
    cli = start(lightning, config, *options, "--trainer.enable_progress_bar=false")
    cli.trainer.fit(cli.model)
    assert [report.step for report in the_monitor(cli).reports] == [0]


def test_from_the_command_line(lightning: str) -> None:
    options = ["--trainer.logger=false", "--trainer.callbacks=SharpnessMonitor", "--trainer.callbacks.tolerance=0.01"]
    assert the_monitor(start(lightning, *options)).settings.tolerance == 0.01


def test_help_is_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "".join(printed(capsys, LIGHTNINGS[0], "--trainer.callbacks.help=SharpnessMonitor").split())
    documented = {p.arg_name: p.description for p in docstring_parser.parse(SharpnessMonitor.__doc__ or "").params}
    for name in inspect.signature(SharpnessMonitor).parameters:
        assert f"--trainer.callbacks.{name}" in shown
        assert "".join((documented[name] or "-").split()) in shown


def test_a_wrong_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_products for num_eigenvalues=1 must be an integer of at least 41, got 3"):
        start(LIGHTNINGS[0], write(tmp_path, "{max_products: 3}", "SharpnessMonitor"))
