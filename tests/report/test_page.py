"""The page: what stands in it, and that nothing in it runs or loads."""

from __future__ import annotations

import base64
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import lightning_tailindex
from lightning_tailindex.records import Report
from lightning_tailindex.report import Run, page, read_runs
from lightning_tailindex.report.compare import MINIBATCH_SIZE, last_median, varied
from lightning_tailindex.report.pictures import of_comparison
from tests.figures.reports import report, training

from .trained import SCRIPT, Net, train

Sweep = tuple[Path, Mapping[str, tuple[Report, ...]]]

ATTACK = f"{SCRIPT}\"'><img src=https://example.org onerror=alert(2)>"


class Elements(HTMLParser):
    """The elements of a page, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.found if name in attributes]


def run(name: str = "run", reports: list[Report] | None = None, **hparams: str | float) -> Run:
    return Run(name, tuple(reports or training()), hparams, {})


def images(html: str) -> list[bytes]:
    return [base64.b64decode(address.split(",")[1]) for address in Elements(html).attributes("src")]


@pytest.fixture(scope="module")
def html(sweep: Sweep) -> str:
    """The page of the sweep, drawn once."""
    return page(read_runs([sweep[0]])[0])


def test_it_loads_nothing_and_runs_nothing(html: str) -> None:
    elements = Elements(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in elements.found}
    assert all(address.startswith("data:image/svg+xml;base64,") for address in elements.attributes("src"))
    assert all(address.startswith("#run-") for address in elements.attributes("href"))
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert any("default-src 'none'" in content for content in elements.attributes("content"))
    for image in images(html):
        assert b"<script" not in image


@pytest.mark.uncounted
def test_what_files_hold_is_text(tmp_path: Path, sweep: Sweep) -> None:
    name = ATTACK.replace("/", "∕")  # a folder has no slash in its name
    train(tmp_path / name, Net(kind=ATTACK, **{"lr" + SCRIPT: 1}), group_by=lambda _: ATTACK)
    shutil.copytree(sweep[0] / "wide", tmp_path / "wide")
    (tmp_path / f"tfevents{name}").touch()
    runs, problems = read_runs([tmp_path])
    assert len(runs) == 2
    assert any(name in problem for problem in problems)
    html = page(runs, problems)
    elements, plain = Elements(html), Elements(page([run()]))
    more = {"a", "ul", "li", "em", "img", "dd", "wbr"}
    assert {tag for tag, _ in elements.found} - {tag for tag, _ in plain.found} <= more
    assert not any(key.startswith("on") for _, attributes in elements.found for key in attributes)
    assert {*elements.attributes("src")} == {a for a in elements.attributes("src") if a.startswith("data:")}
    for word in (name, ATTACK, "lr" + SCRIPT):  # as a run and a problem, a group and a value, a hyperparameter
        assert word in elements.text
    for image in images(html):
        assert {element.tag for element in ElementTree.fromstring(image).iter() if "script" in element.tag} == set()


def test_the_control_a_page_without_escapes_would_have_the_script() -> None:
    html = page([run(ATTACK)])
    unescaped = html.replace("&lt;", "<").replace("&gt;", ">")
    assert "script" not in {tag for tag, _ in Elements(html).found}
    assert "script" in {tag for tag, _ in Elements(unescaped).found}


@pytest.mark.uncounted
def test_any_name_is_drawn_and_written() -> None:
    names = ["$x_{$", "a$b$c", "\x01\x02\n", "日本", "x" * 300, "\\$", "%s {0} {{ 7*7 }}"]
    reports = [report(step, **dict.fromkeys(names, 1.5)) for step in (0, 1)]
    html = page([run(name, reports, **{name: name}) for name in names[:2]] + [run(SCRIPT, **dict.fromkeys(names, 1.0))])
    assert "Not drawn" not in html
    for image in images(html):
        ElementTree.fromstring(image)
    for name in names:
        assert name in Elements(html).text


def test_every_figure_has_its_words(html: str) -> None:
    elements = Elements(html)
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert len(pictures) == 2 * 4 + 3  # the width, the kind and the minibatch size differ
    assert all(len(attributes["alt"] or "") > 40 for attributes in pictures)
    assert len({attributes["alt"] for attributes in pictures}) == len(pictures)
    assert (elements.found[0][0], elements.found[0][1]) == ("html", {"lang": "en"})


def test_numbers_stand_in_the_tables(sweep: Sweep, html: str) -> None:
    text = Elements(html).text
    for last in (was[-1] for was in sweep[1].values()):
        for m in last.measurements:
            row = rf"{m.group}\s+(?:hill\s+)?{m.alpha:.2f}\s+{m.low:.2f}–{m.high:.2f}\s+{m.gaussian_alpha:.2f}"
            assert re.search(row, text), row
    assert "What differs between the runs: kind, width, minibatch size (measured)." in text
    assert "a draw is what an optimizer step consumes" in text


def test_many_groups_get_a_heat_map() -> None:
    few, many = training(), [report(0, **{f"layer{i}": 1.0 + i / 10 for i in range(9)})]
    assert "Heat map" not in page([run(reports=few)])
    assert "Heat map of the tail index of 10 groups" in page([run(reports=many)])


def test_what_is_missing_is_a_dash_and_a_word() -> None:
    nothing = [report(0, fc1=math.nan)]
    text = Elements(page([run(reports=nothing)])).text
    assert "the whole model has no tail index: no minibatch gave a draw." in text
    assert re.search(r"whole_model\s+–\s+–\s+–", text)
    assert text.count("Not drawn: ") == 2
    assert "none were logged" in text


@pytest.mark.uncounted
def test_long_runs_are_thinned_for_figures() -> None:
    reports = [report(step, fc1=1.5) for step in range(201)]
    assert len(page([run(reports=reports)])) < 2 * len(page([run(reports=reports[:100])]))


@pytest.mark.uncounted
def test_runs_that_differ_in_nothing_and_in_too_many_words() -> None:
    assert "No hyperparameter that was logged differs" in page([run("a"), run("b")])
    runs = [run(f"run {i}", training()[:1], path=f"out{i}") for i in range(13)]
    assert of_comparison(runs[:12], varied(runs[:12]), "path").image
    assert of_comparison(runs, varied(runs), "path").text == "Not drawn: path has 13 values that are no numbers."


@pytest.fixture(scope="module")
def crowded() -> Elements:
    """The page of two runs that differ in 2 hyperparameters and 12 settings of the measurement, drawn once."""
    settings = [f"TailIndexMonitor/a{k}" for k in range(12)]
    given = [dict.fromkeys(settings, i) | {"lr": i / 10, "bs": i} for i in (1, 2)]
    return Elements(page([Run(str(i), tuple(training()[:1]), values, {}) for i, values in enumerate(given)]))


def test_more_hyperparameters_than_there_is_room_for(crowded: Elements) -> None:
    assert "8 more settings differ" in crowded.text
    assert "Drawn are 12 of 14" in crowded.text


def test_hyperparameters_are_drawn_before_settings_of_the_measurement(crowded: Elements) -> None:
    figures = [text for text in crowded.attributes("alt") if "against" in text]
    assert len(figures) == 12
    for name, text in zip(("lr", "bs", "TailIndexMonitor/a0"), figures, strict=False):
        assert f"against {name}," in text


def test_what_other_monitors_were_given_is_no_difference() -> None:
    monitors = [name for name in lightning_tailindex.__all__ if name.endswith("Monitor")]
    assert len(monitors) > 4
    one, other = (run(str(i), **{f"{name}/every_n_steps": float(i) for name in monitors}) for i in (1, 2))
    assert varied([one, other]) == {"TailIndexMonitor/every_n_steps": [1.0, 2.0]}
    assert varied([one, run("without", lr=0.1)]) == {"lr": ["not given", 0.1]}  # nor what nobody logged


def test_arguments_that_change_no_number_are_no_difference() -> None:
    arguments = ("figures", "figures_every", "max_detailed_groups", "on_error", "num_draws")
    one, other = (run(str(i), **{f"TailIndexMonitor/{name}": float(i) for name in arguments}) for i in (1, 2))
    assert varied([one, other]) == {"TailIndexMonitor/num_draws": [1.0, 2.0]}


def test_last_reports_of_different_steps_are_told() -> None:
    said = "Their last reports are of steps 0 to 300, and α changes over a training"
    early, late = (run(str(step), [report(step, fc1=1.5)], width=step) for step in (0, 300))
    assert said in page([early, late])
    assert "Their last reports" not in page([early, replace(late, reports=early.reports)])


def test_a_setting_that_is_an_argument_too_counts_once() -> None:
    texts = {size: {"tail_index_setup": f"| what | how |\n| max_coordinates | {size} |"} for size in (64, 128)}
    runs = [replace(run(**{"TailIndexMonitor/max_coordinates": float(size)}), texts=texts[size]) for size in texts]
    assert varied(runs) == {"max_coordinates (of the measurement)": ["64", "128"]}


def test_what_varied() -> None:
    one, other = run("a", width=4, seed=0, batch_size=16), run("b", width=8, seed=0, batch_size=32, more="x")
    small = [replace(r, minibatch_size=32) for r in training()]
    assert varied([one, other]) == {"width": [4, 8], "batch_size": [16, 32], "more": ["not given", "x"]}
    measured = varied([one, replace(other, reports=tuple(small))])
    assert "batch_size" in measured
    assert MINIBATCH_SIZE not in measured  # it differs as batch_size does
    assert varied([run("a"), run("b", small)]) == {MINIBATCH_SIZE: [16, 32]}


def test_the_median_of_the_last_reports() -> None:
    alphas = [0.1, 1.9, 1.0, 1.2, math.nan, 1.1]
    assert last_median(run(reports=[report(i, fc1=a) for i, a in enumerate(alphas)])) == pytest.approx(1.15)
    assert math.isnan(last_median(run(reports=[report(0, fc1=math.nan)])))


def test_a_page_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="page needs at least one run, got none"):
        page([])
