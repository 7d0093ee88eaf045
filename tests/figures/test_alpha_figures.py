"""Tail indices over steps, groups and sizes: what is drawn, read off the axes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from numpy.testing import assert_array_equal as assert_same

from lightning_tailindex.figures import (
    alpha_by_minibatch_size,
    alpha_heatmap,
    alpha_over_steps,
    coordinate_alphas,
    noise_density,
)
from lightning_tailindex.records import Report

from .reports import report, training

MANY = [report(step, **{f"layer{i:03}": 2 - i / 100 for i in range(100)}) for step in (0, 300)]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax: Axes) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Steps, tail indices and ends of intervals ``[2, n]`` by group."""
    found = {}
    for container in ax.containers:
        line, _, (bars,) = container.lines  # type: ignore[attr-defined]
        ends = [segment[:, 1] if len(segment) == 2 else [math.nan] * 2 for segment in bars.get_segments()]
        found[container.get_label()] = (line.get_xdata(), line.get_ydata().astype(float), np.array(ends).T)
    return found


def rendered(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=40)
    return picture.getvalue()


def test_lines_are_the_tail_indices_with_their_intervals() -> None:
    reports = training()
    fig, ax = alpha_over_steps(reports[::-1])  # in any order
    found = drawn(ax)
    assert list(found) == ["conv1", "fc1", "whole_model"]
    for place, group in enumerate(found):
        steps, alphas, ends = found[group]
        measurements = [each.measurements[2 * place] for each in reports]
        assert_same(steps, [0, 300, 600])
        assert_allclose(alphas, [m.alpha for m in measurements])
        assert_allclose(ends, [[m.low for m in measurements], [m.high for m in measurements]])
    surrogates = [line for line in ax.lines if line.get_linestyle() == ":" and line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in surrogates] == [[1.98] * 3] * 3
    assert texts(ax) == ["conv1", "fc1", "whole_model", "Gaussian surrogate\nof the same group"]
    assert isinstance(fig, Figure)


def test_groups_differ_by_more_than_their_colour() -> None:
    _, ax = alpha_over_steps(MANY, most=30)
    looks = [container.lines[0] for container in ax.containers]  # type: ignore[attr-defined]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in looks}) == 31
    assert len({line.get_marker() for line in looks[:6]}) == 6


def test_of_many_groups_the_heaviest_are_shown() -> None:
    _, ax = alpha_over_steps(MANY, most=3)
    assert list(drawn(ax)) == ["layer097", "layer098", "layer099", "whole_model"]
    assert ax.get_title().endswith("the 3 of 100 groups with the lowest last α")
    _, ax = alpha_over_steps(MANY, ["layer000", "whole_model"])
    assert list(drawn(ax)) == ["layer000", "whole_model"]
    assert "lowest" not in ax.get_title()


def test_a_group_without_a_last_index_counts_by_the_one_before() -> None:
    reports = [report(0, a=1.9, b=0.5, c=1.2), report(1, a=1.9, b=math.nan, c=1.2), report(2, a=1.9, c=1.2)]
    _, ax = alpha_over_steps(reports, most=1)
    assert list(drawn(ax)) == ["b", "whole_model"]
    assert_same(drawn(ax)["b"][1], [0.5, math.nan, math.nan])


def test_what_is_missing_is_a_gap() -> None:
    reports = [report(0, fc1=1.9), report(1, fc1=math.nan), report(2, other=1.0), report(3, fc1=1.4)]
    fig, ax = alpha_over_steps(reports, ["fc1"])
    assert_same(drawn(ax)["fc1"][1], [1.9, math.nan, math.nan, 1.4])
    assert rendered(fig)
    fig, ax = alpha_heatmap(reports)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fc1", "other", "whole_model"]
    values = ax.images[0].get_array()
    assert_same(np.ma.getmaskarray(values), [[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 0]])
    assert ax.get_title().endswith("(grey: none)")
    assert rendered(fig)


def test_nothing_but_gaps() -> None:
    reports = [report(0, fc1=math.nan), report(1, fc1=math.nan)]
    for figure in (alpha_over_steps(reports)[0], alpha_heatmap(reports)[0], alpha_by_minibatch_size(reports[0])[0]):
        assert rendered(figure)
    with pytest.raises(ValueError, match="coordinate_alphas needs coordinates with a tail index, got none in group 'w"):
        coordinate_alphas(reports)


@pytest.mark.parametrize("one", [training()[0], [training()[0]]])
def test_one_report_is_enough(one: Report | list[Report]) -> None:
    assert_same(drawn(alpha_over_steps(one)[1])["fc1"][0], [0])
    assert alpha_heatmap(one)[1].images[0].get_array().shape == (3, 1)
    assert len(coordinate_alphas(one)[1].lines) == 1


def test_one_group_is_enough() -> None:
    (m,) = (m for m in report(0, fc1=1.5).measurements if (m.group, m.estimator) == ("whole_model", "grouped_mle"))
    alone = Report(0, (m,), 90, 16, 0.1)
    assert list(drawn(alpha_over_steps(alone)[1])) == ["whole_model"]
    assert alpha_heatmap(alone)[1].images[0].get_array().shape == (1, 1)


def test_cells_have_their_index_and_colours_compare() -> None:
    reports = training()
    fig, ax = alpha_heatmap(reports)
    expected = [[each.measurements[2 * place].alpha for each in reports] for place in range(3)]
    (image,) = ax.images
    assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, 2)
    assert [text.get_text() for text in ax.texts] == [f"{alpha:.2f}" for row in expected for alpha in row]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "300", "600"]
    assert len(fig.axes) == 2  # and its colours


def test_names_of_many_groups_are_cut_and_thinned() -> None:
    long = {f"encoder.layers.{i:03}.self_attention.out_proj": 1.5 for i in range(100)}
    _, ax = alpha_heatmap([report(step, **long) for step in range(0, 3000, 100)])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == "encoder.layers.000…ention.out_proj"  # as long as it takes to tell them apart
    assert names[-1] == "whole_model"
    assert len(names) <= 40
    assert len(ax.get_xticks()) <= 10
    assert not ax.texts
    rows = list(ax.get_yticks())
    assert min(b - a for a, b in pairwise(rows)) == 3


def test_an_index_is_never_cut() -> None:
    blocks = [f"vision_tower.encoder.layers.{i}.self_attn.q_proj" for i in (1, 3, 14, 25)]
    _, ax = alpha_over_steps(report(0, **dict.fromkeys(blocks, 1.5)), blocks)
    indices = [re.findall(r"\d+", text) for text in texts(ax)[:4]]
    assert indices == [["1"], ["3"], ["14"], ["25"]]


@pytest.mark.parametrize("draw", [coordinate_alphas, alpha_by_minibatch_size, noise_density])
def test_titles_with_long_names_stay_within_the_figure(draw: Callable[..., Any]) -> None:
    name = "a_long_container.transformer_decoder_layers.17.multi_head_self_attention.output_projection"
    made = report(300, **{name: 1.5})
    fig, axes = draw(made.measurements[0]) if draw is noise_density else draw(made, name)
    ax = axes if isinstance(axes, Axes) else axes[0]
    fig.draw_without_rendering()
    box = ax.title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= (axes[1].title.get_window_extent().x0 if draw is noise_density else fig.bbox.width)


def test_a_heat_map_makes_room_for_long_names() -> None:
    blocks = [f"vision_tower.encoder.the_transformer.{i}.post_attention_layernorm" for i in range(12)]
    fig, ax = alpha_heatmap(report(0, **dict.fromkeys(blocks, 1.5)))
    fig.draw_without_rendering()
    assert min(label.get_window_extent().x0 for label in ax.get_yticklabels()) >= 0
    assert ax.title.get_window_extent().x1 <= fig.bbox.width


def test_a_legend_of_many_groups_stays_on_the_page() -> None:
    groups = [f"layers.{i}" for i in range(20)]
    fig, ax = alpha_over_steps(report(0, **dict.fromkeys(groups, 1.5)), groups)
    fig.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= 0


@pytest.mark.parametrize(("width", "most"), [(8.4, 10), (4.5, 5)])
def test_steps_have_round_ticks_as_many_as_have_room(width: float, most: int) -> None:
    fig = Figure((width, 3), layout="constrained")
    _, ax = alpha_over_steps([report(step, fc1=1.5) for step in range(0, 700, 100)], ax=fig.subplots())
    fig.draw_without_rendering()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert 2 < len(ticks) <= most
    assert all(tick % 50 == 0 for tick in ticks)


def test_one_report_has_one_whole_step() -> None:
    for step in (0, 15):
        _, ax = alpha_over_steps(report(step, fc1=1.5))
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [step]


def test_histograms_of_coordinates_at_several_steps() -> None:
    reports = training()
    fig, ax = coordinate_alphas(reports, "fc1")
    shapes = [patch.get_data() for patch in ax.patches]
    for (values, edges, _), each in zip(shapes[::2], reports, strict=True):
        found = each.measurements[2].coordinate_alphas
        assert_allclose(values, [100 * count / sum(found.counts) for count in found.counts])
        assert_allclose(edges, found.edges)
    medians = [each.measurements[2].coordinate_median for each in reports]
    assert texts(ax) == [f"{each.step}: median {median:.2f}" for each, median in zip(reports, medians, strict=True)]
    assert [line.get_xdata()[0] for line in ax.lines] == medians
    assert rendered(fig)


@pytest.mark.parametrize(
    ("most", "steps"), [(1, [900]), (2, [0, 900]), (4, [0, 300, 600, 900]), (99, list(range(0, 901, 100)))]
)
def test_of_many_steps_some_are_shown(most: int, steps: list[int]) -> None:
    _, ax = coordinate_alphas([report(step, fc1=1.5) for step in range(0, 901, 100)], most=most)
    assert [int(text.split(":")[0]) for text in texts(ax)] == steps


def test_sizes_are_samples_or_draws() -> None:
    fig, ax = alpha_by_minibatch_size(report(300, fc1=1.5), "fc1")
    (found,) = drawn(ax).values()
    assert_same(found[0], [16, 32, 64])
    assert_allclose(found[1], [1.5, 1.6, 1.7])
    assert_allclose(found[2], [[1.3, 1.4, 1.4], [1.6, 1.7, 1.9]])
    assert list(ax.lines[-1].get_ydata()) == [1.98, 1.97, 1.97]
    assert ax.get_xlabel() == "minibatch size (samples)"
    assert "at step 300: fc1" in ax.get_title()
    assert rendered(fig)
    _, ax = alpha_by_minibatch_size(report(300, 0, fc1=1.5))
    assert_same(drawn(ax)["noise, 95 % interval"][0], [1, 2, 4])
    assert ax.get_xlabel() == "minibatches averaged into a draw"


def test_a_measurement_without_averages_is_one_point() -> None:
    whole = training()[0].whole_model
    fig, ax = alpha_by_minibatch_size(replace(training()[0], measurements=(replace(whole, aggregated=()),)))
    assert_same(drawn(ax)["noise, 95 % interval"][0], [16])
    assert rendered(fig)


@settings(deadline=None, max_examples=10)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcd"), st.one_of(st.just(math.nan), st.floats(0.01, 3.0)), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_reports_say_is_what_is_drawn(found: list[dict[str, float]]) -> None:
    reports = [report(step, **alphas) for step, alphas in enumerate(found)]
    fig, ax = alpha_over_steps(reports)
    for group, (_, alphas, _) in drawn(ax).items():
        expected = [min(each.values()) if group == "whole_model" else each.get(group, math.nan) for each in found]
        assert_allclose(alphas, expected)
    finite = [alpha for each in found for alpha in each.values() if not math.isnan(alpha)]
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] >= max(2.1, *finite, 0)
    assert rendered(fig)
    assert rendered(alpha_heatmap(reports)[0])
