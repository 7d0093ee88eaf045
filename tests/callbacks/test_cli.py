"""The monitor from LightningCLI's YAML, as the README shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_tailindex import TailIndexMonitor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse


def parse(path: Path, arguments: str, monkeypatch: pytest.MonkeyPatch) -> TailIndexMonitor:
    config = path / "config.yaml"
    config.write_text(
        "trainer:\n  accelerator: cpu\n  logger: false\n  callbacks:\n"
        f"    - class_path: lightning_tailindex.TailIndexMonitor\n      init_args: {arguments}\n"
    )
    monkeypatch.setattr("sys.argv", ["train.py", "--config", str(config)])
    cli = LightningCLI(BoringModel, run=False, save_config_callback=None, seed_everything_default=False)
    (monitor,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, TailIndexMonitor)]
    return monitor


def test_arguments_reach_the_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "{every_n_steps: 500, group_by: parameter, parameters: [weight], estimators: [grouped_mle, group_sum]}"
    monitor = parse(tmp_path, arguments, monkeypatch)
    assert (monitor.every_n_steps, monitor.settings.num_minibatches) == (500, 64)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("{every_n_stepz: 500}", "every_n_stepz"),
        ("{num_minibatches: many}", "num_minibatches"),
        ("{num_minibatches: 3}", "num_minibatches must be an integer of at least 16, got 3"),
        ("{on_error: ignore}", "on_error"),
    ],
)
def test_a_mistake_is_named(
    arguments: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, ValueError)) as caught:
        parse(tmp_path, arguments, monkeypatch)
    assert named in capsys.readouterr().err + str(caught.value)
