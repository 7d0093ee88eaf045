"""The benchmarks run: they use parts of the package that are no public interface, and no other test calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# Every kind of measurement of a small net; prints the seconds beside training.
EVERY_KIND = """
from engine import Setting, fully_connected
setting = Setting.of(fully_connected(8), batch_size=4, draws=16, full=40)
for engine in ("loop", "vectorized"):
    setting.measure(engine)
setting.measure("loop", every_coordinate=True)
for job in (setting.bare, setting.reading(), setting.estimates(), setting.reference):
    job()
print(setting.from_training())
"""


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_kind_of_measurement_can_be_timed() -> None:
    assert 0 < float(run("-c", EVERY_KIND).split()[-1]) < 60


@pytest.mark.long
@pytest.mark.parametrize(("script", "title"), [("engine.py", "How it grows"), ("estimators.py", "## Speed (cpu)")])
def test_the_tables_are_printed(script: str, title: str) -> None:
    assert title in run(script, "--quick")
