"""Where theory tells the tail index of the iterates, the monitor of iterates sees it."""

from __future__ import annotations

import math

import pytest

from lightning_tailindex import IterateTailIndexMonitor
from lightning_tailindex.functional import hill
from lightning_tailindex.theory import least_squares

from .iterates_training import Chains, fit, monitor

THEORY = least_squares.tail_index(0.8, batch_size=1, dim=1)  # 1.546


@pytest.fixture(scope="module")
def heavy() -> tuple[IterateTailIndexMonitor, Chains]:
    """A step size at which theory says that tails are heavy."""
    module, watcher = Chains(0.8), monitor(window=200, burn_in=100, figures=None)
    fit(module, watcher, max_steps=300)
    return watcher, module


def test_heavy_tails_of_theory_are_seen(heavy: tuple[IterateTailIndexMonitor, Chains]) -> None:
    watcher, module = heavy
    (report,) = watcher.reports
    whole = report.whole_model
    assert hill(module.weight.detach(), k=100).alpha == pytest.approx(THEORY, abs=0.3)  # the iterates themselves
    assert whole.alpha == pytest.approx(THEORY, abs=0.15)
    average = whole.of("ergodic_average")
    assert average.low < THEORY < average.high < 2
    assert whole.of("ergodic_average_published").low < THEORY < whole.of("ergodic_average_published").high
    assert whole.of("deviation").high < 1.7  # a power law, and no stable one: it reads somewhat lower
    assert whole.of("deviation_gaussian").alpha > 1.95
    assert whole.of("deviation_rows").alpha < 1.9
    assert whole.of("deviation_norm").alpha < 4


def test_light_tails_of_small_steps_are_seen() -> None:
    assert least_squares.tail_index(0.05, batch_size=1, dim=1) > 30
    watcher = monitor(window=200, burn_in=100, figures=None)
    fit(Chains(0.05), watcher, max_steps=300)
    whole = watcher.reports[0].whole_model
    assert whole.alpha > 1.95
    assert whole.of("ergodic_average").high == 2
    assert whole.of("deviation").alpha > 1.95
    assert whole.of("deviation_rows").alpha > 1.95
    assert whole.of("deviation_norm").alpha > 10


def test_repetitions_are_pooled_once_there_are_sixteen() -> None:
    heavy, light = (monitor(figures=None, max_coordinates=128, group_by="model") for _ in range(2))
    fit(Chains(0.8), heavy, max_steps=16 * 17)
    fit(Chains(0.05), light, max_steps=16 * 16)
    repetitions = [report.whole_model.of("repetitions") for report in heavy.reports]
    assert [math.isnan(each.alpha) for each in repetitions] == [True] * 15 + [False] * 2
    assert repetitions[3].note == "4 ergodic averages, fewer than 16"
    assert [report.num_repetitions for report in heavy.reports] == list(range(1, 18))
    assert repetitions[-1].alpha < 1.7
    assert light.reports[-1].whole_model.of("repetitions").alpha > 1.9
