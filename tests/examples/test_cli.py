"""The application of LightningCLI as a user runs it, under each Lightning alone and where both are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from tests.callbacks.test_flavours import HIDING, PACKAGES
from tests.forked import script

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


OPTIONS = ["--trainer.max_steps=20", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def run(folder: Path, config: str, *arguments: str) -> tuple[int | None, str]:
    """Where both are installed."""
    command = ["fit", f"--config={EXAMPLES}/config/{config}", *OPTIONS, *arguments]
    return script(EXAMPLES / "cli.py", *command, folder=folder)


def run_alone(folder: Path, config: str, hidden: Collection[str]) -> subprocess.CompletedProcess[str]:
    """Where some packages cannot be found, which takes a process that imports all anew."""
    (folder / "sitecustomize.py").write_text(HIDING.format(hidden=sorted(hidden)))
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / "cli.py"), "fit", f"--config={EXAMPLES}/config/{config}"]
    return subprocess.run(
        [*command, *OPTIONS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )


def tags(folder: Path) -> set[str]:
    return set(EventAccumulator(str(folder / "version_0")).Reload().Tags()["scalars"])


@pytest.mark.parametrize("lightning", PACKAGES)
def test_either_lightning_measures_as_the_file_says(lightning: str, tmp_path: Path) -> None:
    pytest.importorskip(lightning)
    hidden = set().union(*PACKAGES.values()) - PACKAGES[lightning]
    done = run_alone(tmp_path, "nested.yaml", hidden)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "every 300 optimizer steps (at most 1 measurement from step 0 to the end at step 20)" in done.stderr
    logged = tags(tmp_path / "runs" / "nested")
    for group in ("conv", "fc", "whole_model"):
        opinions = (f"tail_index_detail/{name}/{group}" for name in ("quantile", "hill(k=10)"))
        assert {f"tail_index/{group}", f"tail_index_gaussian/{group}", *opinions} <= logged
    saved = (tmp_path / "runs" / "nested" / "version_0" / "config.yaml").read_text()
    assert saved.startswith(f"# {lightning}==")
    assert "k: 10" in saved


def test_where_both_are_installed_the_plain_file_does_too(tmp_path: Path) -> None:
    code, said = run(tmp_path, "digits.yaml", "--trainer.callbacks.every_n_steps=10")
    assert code == 0, said[-3000:]
    events = EventAccumulator(str(tmp_path / "runs" / "digits" / "version_0")).Reload()
    for group in ("conv1", "conv2", "fc1", "fc2", "whole_model"):
        assert [event.step for event in events.Scalars(f"tail_index/{group}")] == [0, 10]


def test_all_monitors_have_one_page(tmp_path: Path) -> None:
    code, said = run(tmp_path, "all_monitors.yaml")
    assert code == 0, said[-3000:]
    events = EventAccumulator(str(tmp_path / "runs" / "all_monitors" / "version_0")).Reload()
    last = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(last)
    # a window of the iterates is longer than these 20 steps
    titles = ["gradient noise", "weight matrices", "training loss", "weights"]
    assert [category.title.split(" the ")[-1] for category in layout.category] == titles
    assert {"tail_index/whole_model", "weight_density_exponent/fc1.weight", "sharpness/trace"} <= set(
        events.Tags()["scalars"]
    )


def test_a_value_out_of_range_ends_with_a_message(tmp_path: Path) -> None:
    code, said = run(tmp_path, "digits.yaml", "--trainer.callbacks.num_minibatches=3")
    assert code == 2
    assert "num_minibatches must be an integer of at least 16, got 3" in said
    assert "Traceback" not in said
