"""The example of least squares as a user runs it, with few regressions and settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_tailindex.theory import least_squares

EXAMPLE = Path(__file__).parents[2] / "examples" / "least_squares.py"
TAIL = 100  # order statistics of a quick run
STANDARD_ERROR = TAIL**-0.5  # of Hill's estimate, over the tail index
TOLERANCE = 3 * STANDARD_ERROR


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a quick run prints, once it is known that it ended well and drew."""
    picture = tmp_path_factory.mktemp("least_squares") / "new" / "picture.png"
    command = [sys.executable, str(EXAMPLE), "--quick", "--output", str(picture)]
    done = subprocess.run(command, cwd=picture.parents[1], capture_output=True, text=True, timeout=160, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "Trainer" not in done.stderr  # Lightning does not introduce itself to every setting
    return done.stdout.splitlines()


def numbers(line: str) -> list[float]:
    return [float(cell) for cell in line.replace("[", "").replace("]", "").replace(",", "").split()]


def test_iterates_have_the_tails_that_theory_says(lines: list[str]) -> None:
    rows = [numbers(line) for line in lines[1 : lines.index("")] if "no stationary law" not in line]
    assert len(rows) == 5
    for step_size, batch_size, dim, scale, exponent, theory, alpha, low, high in rows:
        setting = step_size, int(batch_size), int(dim), scale
        assert exponent == pytest.approx(least_squares.lyapunov_exponent(*setting), abs=6e-4)
        assert theory == pytest.approx(least_squares.tail_index(*setting), abs=6e-3)
        assert alpha == pytest.approx(theory, rel=TOLERANCE)
        assert low < alpha < high
        assert (high - low) / alpha == pytest.approx(4 * STANDARD_ERROR, rel=0.1)
    # the control: the tolerance tells the larger step size from the smaller
    assert rows[1][6] != pytest.approx(rows[0][5], rel=TOLERANCE)


def test_nothing_is_estimated_where_there_is_no_stationary_law(lines: list[str]) -> None:
    marked = [line.split("no stationary law") for line in lines if "no stationary law" in line]
    assert len(marked) == 4  # step size, minibatch size, dimension, scale of the inputs
    for cells, words in marked:
        step_size, batch_size, dim, scale, exponent = numbers(cells)
        assert least_squares.lyapunov_exponent(step_size, int(batch_size), int(dim), scale) >= 0
        assert exponent >= 0
        assert words == ": not trained, nothing estimated"


def table(lines: list[str], heading: str) -> list[list[float]]:
    """The numbers below a heading."""
    start = next(place for place, line in enumerate(lines) if heading in line) + 1
    return [numbers(line) for line in lines[start : lines.index("", start)]]


def test_noise_at_held_weights_climbs_to_gaussian_while_iterates_stay_heavy(lines: list[str]) -> None:
    rows = table(lines, "noise α")
    for step_size in (1.1, 1.4):
        mine = [row for row in rows if row[0] == step_size]
        assert [row[1] for row in mine] == [5, 10, 20]
        alphas = [row[2] for row in mine]
        assert alphas == sorted(alphas)
        assert alphas[0] < 1.9 < alphas[-1] <= 2
        assert all(row[5] > 1.95 for row in mine)
    iterates = {row[0]: row[6] for row in rows}
    assert iterates[1.4] < 1.75 < 2.2 < iterates[1.1]  # while the noise of both reads alike
    assert rows[0][2] == pytest.approx(rows[3][2], abs=0.1)


def test_averages_of_iterates_tend_to_the_stable_law_of_their_index(lines: list[str]) -> None:
    finite, infinite = table(lines, "ergodic averages")
    for step_size, alpha, low, high, limit in (finite, infinite):
        assert limit == pytest.approx(min(least_squares.tail_index(step_size, 5, 2), 2), abs=6e-3)
        assert low <= alpha <= high
        assert alpha == pytest.approx(limit, abs=0.15)
    assert infinite[3] < finite[2]  # the control: the intervals tell one from the other
