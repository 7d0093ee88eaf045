"""The demo as a user runs it: real scans, a real Trainer, real event files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.forked import script

DEMO = Path(__file__).parents[2] / "examples" / "digits.py"
GROUPS = ("conv1", "conv2", "fc1", "fc2", "whole_model")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, EventAccumulator]:
    folder = tmp_path_factory.mktemp("demo")
    code, said = script(DEMO, "--max-steps", "901", "--every-n-steps", "300", folder=folder, timeout=240)
    assert code == 0, said[-3000:]
    return said, EventAccumulator(str(folder / "runs" / "digits" / "version_0")).Reload()


def values(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def test_real_noise_is_far_below_its_surrogate_late_in_training(run: tuple[str, EventAccumulator]) -> None:
    for group in GROUPS:
        alpha, high = (values(run[1], f"{tag}/{group}") for tag in ("tail_index", "tail_index_detail/high"))
        assert list(alpha) == [0, 300, 600, 900]
        assert alpha[900] < alpha[0]
        assert high[900] < 1.7
        gain, surrogate_gain = (values(run[1], f"tail_index_detail/{n}/{group}") for n in ("gain", "gain_gaussian"))
        assert gain[900] > 0.1 > 10 * surrogate_gain[900]


def test_the_surrogate_stays_gaussian(run: tuple[str, EventAccumulator]) -> None:
    for group in GROUPS:
        for alpha in values(run[1], f"tail_index_gaussian/{group}").values():
            assert alpha == pytest.approx(2.0, abs=0.03)


def test_the_table_shows_each_group_and_step(run: tuple[str, EventAccumulator]) -> None:
    lines = run[0].splitlines()
    assert any(all(group in line for group in GROUPS) for line in lines)
    assert [line.split()[0] for line in lines if "(2.0" in line] == ["0", "300", "600", "900"]
    assert "tensorboard --logdir" in run[0]
