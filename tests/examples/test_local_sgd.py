from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "local_sgd.py"


def test_each_process_and_their_average_are_shown(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--max-steps", "96", "--burn-in", "32", "--window", "64", "--period", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "steps 32 to 96, η 0.1, 16 samples a step, 2 ergodic averages so far" in done.stdout
    rows = re.findall(r"^(average|worker \d), (deviations|means) +([\d.]+) +([\d.]+) +([\d.]+)$", done.stdout, re.M)
    assert [row[:2] for row in rows] == [
        (who, what) for what in ("deviations", "means") for who in ("average", "worker 0", "worker 1")
    ]
    assert all(0.2 <= float(number) <= 2 for row in rows for number in row[2:])
