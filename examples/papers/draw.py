"""What the seeds of a sweep say together: a table in Markdown, and a figure that says of which data it is.

python examples/papers/draw.py sweeps/galkin_2021_lenet -o docs/papers/galkin_2021_lenet.png
python examples/papers/draw.py sweeps/2006.04740 --scalars iterate_tail_index/whole_model iterate_tail_index/fc1
python examples/papers/draw.py sweeps/1901.06053 --against width --lines depth --panels loss \
    --scalars tail_index/whole_model:tail_index_gaussian/whole_model test/loss -o docs/papers/1901.06053_width.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from against import Plan, drawn_against, table_against
from over_steps import drawn, scalars, table
from results import read

from lightning_tailindex.report.runs import Run

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a sweep, or of runs of one experiment")
    parser.add_argument("-o", "--output", type=Path, help="where the figure goes; none without it")
    parser.add_argument("--only", action="append", default=[], metavar="NAME=VALUE,VALUE", help="of the runs")
    parser.add_argument(
        "--scalars",
        nargs="+",
        metavar="TAG[:TAG]",
        help="tell of these scalars; behind a colon the surrogate's",
    )
    parser.add_argument("--steps", nargs="+", type=int, default=[], help="at these steps; at the last without it")
    parser.add_argument("--against", metavar="NAME", help="a hyperparameter, or a scalar's tag, along the axis")
    parser.add_argument(
        "--lines", default="", metavar="NAME", help='a hyperparameter, or "step", that has a line for each value'
    )
    parser.add_argument("--panels", default="", metavar="NAME", help="a hyperparameter with a panel for each value")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    try:
        runs = read(options.folder, options.only)
        told = _told(runs, options)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            (drawn_against(runs, _plan(options)) if options.against else drawn(runs)).savefig(options.output, dpi=100)
    except ValueError as error:
        parser.error(str(error))
    print(told)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what would be passed over."""
    if options.against and not options.scalars:
        parser.error("against needs scalars")
    if (options.lines or options.panels) and not options.against:
        parser.error("lines and panels need against")
    if options.steps and not options.scalars:
        parser.error("steps need scalars")
    if options.output and options.scalars and not options.against:
        parser.error("output of scalars needs against: without it they are a table only")


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(options.against, options.lines, options.panels, tuple(options.scalars), tuple(options.steps))


def _told(runs: Sequence[Run], options: argparse.Namespace) -> str:
    if options.against:
        return table_against(runs, _plan(options))
    return scalars(runs, options.scalars, options.steps) if options.scalars else table(runs)


if __name__ == "__main__":
    main()
