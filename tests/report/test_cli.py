"""The command, as it is called."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import re
import runpy
import shutil
import struct
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest

from lightning_tailindex.records import Report
from lightning_tailindex.report import read_runs
from lightning_tailindex.report.cli import main
from tests.test_architecture import project

from .trained import SCRIPT

Sweep = tuple[Path, Mapping[str, tuple[Report, ...]]]


def test_a_page_and_a_table_of_a_sweep(sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, reports = sweep
    output, table = tmp_path / "report.html", tmp_path / "numbers.csv"
    assert main(["report", str(folder / "narrow"), str(folder / "wide"), "-o", str(output), "--csv", str(table)]) == 0
    assert capsys.readouterr().err == f"{output}: 6 reports of 2 runs\n"
    assert output.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert_same(rows, folder, reports)


def assert_same(rows: list[dict[str, str]], folder: Path, reports: Mapping[str, tuple[Report, ...]]) -> None:
    expected = [(name, report, m) for name, each in reports.items() for report in each for m in report.measurements]
    kinds = {"narrow": ("4", "plain"), "wide": ("12", SCRIPT)}
    for row, (name, report, m) in zip(rows, expected, strict=True):
        assert (row["run"], row["step"], row["group"]) == (str(folder / name), str(report.step), m.group)
        assert (row["hparam:width"], row["hparam:kind"]) == kinds[name]
        assert float(row["alpha"]) == pytest.approx(m.alpha)
        assert float(row["low"]) == pytest.approx(m.low)
        assert row["minibatch_size"] == str(report.minibatch_size)
        if m.estimator == "grouped_mle":
            assert float(row["alpha_of_2_minibatches"]) == pytest.approx(m.aggregated[0].alpha)
            assert row["law"] == m.law
        else:
            assert (row["estimator"], row["alpha_of_2_minibatches"]) == ("hill", "")


def test_what_cannot_be_read_is_told_and_the_rest_reported(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.html"
    assert main(["report", f"{tmp_path}/gone\x1b[2J", str(sweep[0] / "wide"), "-o", str(output)]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        rf"{tmp_path}/gone\x1b[2J: there is no such file or folder",
        f"{output}: 3 reports of 1 run",
    ]
    assert "there is no such file or folder" in output.read_text(encoding="utf-8")


@pytest.mark.uncounted
@pytest.mark.parametrize(("runs", "bars"), [(["narrow", "wide"], ["reading", "drawing"]), (["narrow"], [])])
def test_a_terminal_shows_how_far_several_runs_are(
    runs: list[str], bars: list[str], sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # a new one has no width
    with open(its, "w", encoding="utf-8", buffering=1) as terminal, monkeypatch.context() as patched:  # noqa: PTH123
        patched.setattr(sys, "stderr", terminal)
        assert main(["report", *(str(sweep[0] / run) for run in runs), "-o", str(tmp_path / "report.html")]) == 0
        told = os.read(ours, 65536)
        while not told.endswith(b"\n"):  # it comes in pieces
            told += os.read(ours, 65536)
    os.close(ours)
    assert [what for what in ("reading", "drawing") if re.search(rf"{what}: .*\| \d/2 \[", told.decode())] == bars
    assert told.endswith(f"reports of {len(runs)} run{'s' * (len(runs) > 1)}\r\n".encode())


def test_nothing_to_report_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "gone"), "-o", str(tmp_path / "report.html")]) == 1
    assert "nothing to report" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_an_output_that_cannot_be_written_ends_with_1(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep[0] / "narrow"), "-o", str(tmp_path / "no/folder.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["report"], ["repot", "x"], ["report", "x", "--colour"]])
def test_bad_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: lightning-tailindex" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["report.html", "below/../report.html", "other.html"])
def test_a_table_in_the_place_of_the_page_ends_with_2(
    table: str, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("below").mkdir()
    Path("report.html").write_text("an earlier page")
    Path("other.html").symlink_to("report.html")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(sweep[0] / "narrow"), "--csv", table])
    assert ended.value.code == 2
    assert f"--csv and --output must be two files, got {table} and report.html\n" in capsys.readouterr().err
    assert Path("report.html").read_text() == "an earlier page"


def test_letters_that_are_no_unicode(sweep: Sweep, tmp_path: Path) -> None:
    run, output, table = tmp_path / "run", tmp_path / "report.html", tmp_path / "numbers.csv"
    shutil.copytree(sweep[0] / "narrow", run)
    (run / "hparams.yaml").write_text(r'a: "x\ud800y"')
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert main(["report", str(run), strange, "-o", str(output), "--csv", str(table)]) == 0
    html = output.read_text(encoding="utf-8")
    assert f"{tmp_path}/?: there is no such file or folder" in html
    assert "<dd>x?y</dd>" in html
    assert ",x?y," in table.read_text(encoding="utf-8")


def test_a_single_file_and_this_folder(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep[0] / "narrow")
    (by_folder,), _ = read_runs(["."])
    (file,) = Path().glob("*tfevents*")
    (by_file,), _ = read_runs([file])
    assert len(read_runs([file, "."])[0]) == len(read_runs([".", file])[0]) == 1
    assert (by_folder.name, by_file.name) == ("narrow", str(file))
    assert by_folder.reports[0].whole_model.alpha == by_file.reports[0].whole_model.alpha
    assert by_folder.hparams == by_file.hparams


def test_it_is_a_module_and_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["python -m", "report", "gone"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lightning_tailindex", run_name="__main__")  # what the option -m does
    assert ended.value.code == 1
    assert "gone: there is no such file or folder" in capsys.readouterr().err
    module, _, name = project()["scripts"]["lightning-tailindex"].partition(":")
    assert (module, getattr(sys.modules[module], name)) == ("lightning_tailindex.report.cli", main)
