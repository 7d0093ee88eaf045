"""The command ``lightning-tailindex``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .page import page
from .progress import shown
from .runs import read_runs
from .table import write_table

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "lightning-tailindex", description="What TailIndexMonitor has measured of the gradient noise."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser(
        "report",
        help="one HTML page of one or many runs",
        description="Reads TensorBoard's event files of one or many runs and writes one HTML page that needs nothing"
        " beside itself: tables, figures, the tail index across the runs against what varied between them, and in"
        " words what the numbers show and what not. Ends with 0 if something was reported, with 1 if nothing was.",
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="a folder with event files in it or below it, or a file")
    report.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page (%(default)s)"
    )
    report.add_argument("--csv", type=Path, metavar="FILE", help="write all numbers as a table, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Its arguments; None for those that the program was called with.

    Returns:
        0 if something was reported, 1 if nothing could be read or written. Bad arguments end the program with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.csv and os.path.realpath(options.csv) == os.path.realpath(options.output):
        parser.error(f"--csv and --output must be two files, got {options.csv} and {options.output}")
    runs, problems = read_runs(options.runs, shown)
    for problem in problems:
        _tell(problem)
    if not runs:
        _tell("nothing to report: no run that TailIndexMonitor has measured")
        return 1
    try:
        # names of files may be no Unicode
        options.output.write_text(page(runs, problems, shown), encoding="utf-8", errors="replace")
        if options.csv:
            with options.csv.open("w", encoding="utf-8", errors="replace", newline="") as file:
                write_table(runs, file)
    except OSError as error:
        _tell(f"cannot be written: {error}")
        return 1
    reports = sum(len(run.reports) for run in runs)
    _tell(f"{options.output}: {reports} reports of {len(runs)} {'run' if len(runs) == 1 else 'runs'}")
    return 0


def _tell(line: str) -> None:
    """Says a line; names of files may hold what a terminal obeys."""
    sys.stderr.write("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) + "\n")
