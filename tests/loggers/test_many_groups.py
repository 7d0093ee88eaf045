"""A model of a hundred layers stays readable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_tailindex.loggers import detailed_groups, histograms, scalars
from lightning_tailindex.loggers.charts import charts
from lightning_tailindex.loggers.sink import Band, Lines
from lightning_tailindex.records import Measurement, Report
from tests.figures.reports import report


def of_layers(number: int) -> Report:
    """A report whose layers grow, so that the last ones are the largest."""
    found = report(0, **{f"layer{i}": 1.5 for i in range(number)})
    sizes = {m.group: 10 * (i // 2 + 1) for i, m in enumerate(found.measurements)}
    return replace(found, measurements=tuple(replace(m, group_size=sizes[m.group]) for m in found.measurements))


def test_all_groups_have_their_tail_index_and_the_largest_everything() -> None:
    found = of_layers(100)
    detailed = detailed_groups(found, 12)
    assert detailed == [*(f"layer{i}" for i in range(88, 100)), "whole_model"]
    tags, everything = set(scalars(found, detailed)), set(scalars(found))
    assert tags < everything
    assert {f"{tag}/layer{i}" for tag in ("tail_index", "tail_index_gaussian") for i in range(100)} <= tags
    for section in ("tail_index_detail", "tail_index_aggregated", "gradient_noise"):
        groups = {tag.rsplit("/", 1)[1] for tag in tags if tag.startswith(f"{section}/")}
        assert groups == set(detailed)
    assert len(tags) < 650 < 2500 < len(everything)
    shown = {tag.split("/", 1)[1] for tag in histograms(replace(found), detailed)}
    assert shown == set(detailed)


def test_naming_does_not_compare_measurements_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of groups would take seconds, on the thread that trains."""

    def refuse(one: Measurement, other: object) -> bool:
        raise AssertionError("compared")

    found = of_layers(3)
    monkeypatch.setattr(Measurement, "__eq__", refuse)
    with pytest.raises(AssertionError, match="compared"):  # what would be noticed
        _ = replace(found.measurements[0]) in found.measurements
    assert scalars(found, detailed_groups(found, 2))["tail_index/layer0"] == 1.5


@pytest.mark.parametrize("number", [1, 5, 12])
def test_of_few_groups_everything_is_logged(number: int) -> None:
    found = of_layers(number)
    assert scalars(found, detailed_groups(found, 12)) == scalars(found)
    assert detailed_groups(found, None) == [*(f"layer{i}" for i in range(number)), "whole_model"]


@pytest.mark.parametrize(("number", "lines"), [(1, 2), (5, 6), (6, 6), (100, 6)])
def test_a_chart_has_six_lines_at_most_and_says_which(number: int, lines: int) -> None:
    groups, band, averages = charts(of_layers(number))
    assert isinstance(groups, Lines)
    assert len(groups.tags) == lines
    assert groups.tags[-1] == "tail_index/whole_model"
    assert ("the 5 largest of" in groups.title) == (number > 5)
    assert isinstance(band, Band)
    assert isinstance(averages, Lines)
    assert len(averages.tags) <= 6


def test_no_chart_of_averages_where_there_are_none() -> None:
    found = of_layers(2)
    without = replace(found, measurements=tuple(replace(m, aggregated=()) for m in found.measurements))
    assert len(charts(without)) == len(charts(found)) - 1
