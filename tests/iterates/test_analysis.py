"""What a window of iterates says of groups and of the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_tailindex.analysis import analyse_iterates
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.iterates import GroupIterates, IterateObservation
from lightning_tailindex.records import IterateMeasurement

SCALES, SIZES, CENTRES = (1.0, 10.0, 100.0), (1024, 300, 40), (0.0, 5.0, -300.0)


def drawn(alpha: float) -> list[Tensor]:
    """Averages of three groups of different sizes, scales and centres."""
    torch.manual_seed(0)
    law = SymmetricStable(torch.tensor(alpha))
    return [scale * law.sample((n,)) + c for n, scale, c in zip(SIZES, SCALES, CENTRES, strict=True)]


def observed(name: str, averages: Tensor) -> GroupIterates:
    deviations = torch.randn(1, 16, len(averages), generator=torch.Generator().manual_seed(1))
    return GroupIterates(name, averages[None], deviations, averages[None], len(averages))


def whole_model(averages: list[Tensor]) -> IterateMeasurement:
    groups = [observed(f"group{i}", part) for i, part in enumerate(averages)]
    window = IterateObservation((*groups, observed("whole_model", torch.cat(averages)[::2])), 16, 1, 0, False)
    return analyse_iterates(window, step=16, parameter_groups=(), minibatch_size=1, replicas="same", seed=0).whole_model


@pytest.mark.parametrize("alpha", [2.0, 1.5])
def test_of_the_whole_model_mixed_scales_are_no_heavy_tail(alpha: float) -> None:
    averages = drawn(alpha)
    assert grouped_mle(torch.cat(averages)).high < 0.9 * alpha  # the control: all as draws of one law
    whole = whole_model(averages)
    headline, gaussian, published = whole.estimates[:3]
    assert headline.alpha == pytest.approx(alpha, abs=0.07)
    assert headline.low < alpha <= headline.high
    assert headline.high - headline.low < 0.25
    assert (gaussian.what, gaussian.high) == ("ergodic_average_gaussian", 2)
    assert gaussian.alpha > 1.95
    assert published.alpha == pytest.approx(alpha, abs=0.15)


def test_many_short_groups_are_as_good_as_one_long_one() -> None:
    torch.manual_seed(0)
    whole = whole_model([10.0 ** (i % 3) * torch.randn(24) for i in range(40)])
    assert whole.alpha > 1.9
    assert whole.estimates[0].high == 2
    assert whole.estimates[0].low > 1.75


def test_zeros_and_groups_too_short_are_left_out_and_told_of() -> None:
    long, *rest = drawn(2.0)
    whole = whole_model([torch.cat([long, torch.zeros(1000)]), *rest, torch.ones(4)])
    assert whole.alpha > 1.9
    assert "1 of 4 series left out" in whole.estimates[0].note


def test_without_groups_the_whole_model_is_all_that_there_is() -> None:
    averages = torch.cat(drawn(2.0))
    window = IterateObservation((observed("whole_model", averages),), 16, 1, 0, False)
    report = analyse_iterates(window, step=16, parameter_groups=(), minibatch_size=1, replicas="same", seed=0)
    assert report.whole_model.alpha == pytest.approx(grouped_mle(averages).alpha.item())


@pytest.mark.parametrize("n", [16, 17, 64, 256])
def test_rows_that_are_gaussian_read_two(n: int) -> None:
    rng, averages = torch.Generator().manual_seed(2), torch.randn(200, generator=torch.Generator().manual_seed(3))
    found = []
    for _ in range(20):
        snapshots = torch.randn(1, n, 200, generator=rng)
        deviations = snapshots - snapshots.mean(1, keepdim=True)
        group = GroupIterates("weights", averages[None], deviations, averages[None], 200)
        window = IterateObservation((group,), n, 1, 0, False)
        report = analyse_iterates(window, step=n, parameter_groups=(), minibatch_size=1, replicas="same", seed=0)
        found.append(report.whole_model.of("deviation_rows"))
    assert sum(each.low <= 2 <= each.high for each in found) >= 18
    assert sum(each.alpha for each in found) / 20 == pytest.approx(2, abs=0.05)
