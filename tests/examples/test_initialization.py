"""The example of initialization as a user runs it, with few nets and steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "initialization.py"


def test_smaller_moments_keep_a_typical_signal(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=160, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs" / "initialization.png").read_bytes().startswith(b"\x89PNG")
    rows = [[float(cell) for cell in line.split()] for line in done.stdout.splitlines()[1:4]]
    assert [row[0] for row in rows] == [2, 1, 0.25]
    medians = [row[1] for row in rows]
    assert medians == sorted(medians)
    assert medians[0] < 0.7 < medians[2]
    assert [row[2] for row in rows[1:]] == [pytest.approx(1, abs=0.3), pytest.approx(1, abs=0.1)]
    assert all(1.5 < row[3] < 2.5 for row in rows)  # nats; 2.3 is a guess among ten digits
