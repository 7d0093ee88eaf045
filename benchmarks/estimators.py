"""Accuracy, coverage, test size and speed of the estimators, as Markdown on standard output.

Run ``OMP_NUM_THREADS=1 python benchmarks/estimators.py --plots docs/``: about five minutes, two of them in one call of
scipy's ``levy_stable.fit``. For the speed of two cores, run ``OMP_NUM_THREADS=2`` with ``--only speed`` by itself. With
two threads beside other busy processes, the accuracy part takes far longer: its tensors are small.
``--quick`` tries whether it runs. ``--device cuda`` prints the speed table
there, with the share of memory bandwidth that reading the values once would be; it has not been run yet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from accuracy import calibration, pooling_table, rmse_table, scipy_table
from intervals import pooled_coverage, pooled_repetitions, pooled_table, series_coverage, series_table, size_table
from pictures import draw_calibration, draw_coverage
from shared import machine
from speed import measurement_table, others_table, shapes_table

PARTS = ("accuracy", "intervals", "size", "pooling", "speed")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repetitions, no scipy fit")
    parser.add_argument("--plots", type=Path, help="folder for calibration.png and coverage.png")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the speed is measured")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to run")
    return parser.parse_args()


def accuracy_part(options: argparse.Namespace) -> Iterator[str]:
    """Errors over the bound, and the picture of them."""
    yield "## Accuracy\n"
    yield (
        "Root mean square error over the Cramér–Rao bound, 1.00 being the best possible without bias; at α = 2 the\n"
        "error itself. Estimates above 2 read as 2, which lets ratios at α near 2 and small n fall below 1.\n"
    )
    for n in (100, 1000, 10_000):
        yield rmse_table(n, options.quick) + "\n"
    yield scipy_table(options.quick) + "\n"
    if options.plots:
        draw_calibration(calibration(options.quick), options.plots)


def intervals_part(options: argparse.Namespace) -> Iterator[str]:
    """Coverage, and the picture of it."""
    series, pooled = series_coverage(options.quick), pooled_coverage(options.quick)
    yield "## Intervals\n"
    yield "Share of the 95 % intervals of `grouped_mle` that hold α, over 4000 series.\n"
    yield series_table(series) + "\n"
    yield f"Pooled over 300 coordinates of lognormal scales, {pooled_repetitions(options.quick)} samples each.\n"
    yield pooled_table(pooled) + "\n"
    if options.plots:
        draw_coverage(series, pooled, options.plots, options.quick)


def size_part(options: argparse.Namespace) -> Iterator[str]:
    """The test of the Gaussian law."""
    yield "## Test of the Gaussian law\n"
    yield "Share of samples whose `law_fit` p-value is below 5 % (pooled: at most 2/40).\n"
    yield size_table(options.quick) + "\n"


def pooling_part(options: argparse.Namespace) -> Iterator[str]:
    """Few draws of many coordinates."""
    yield "## Pooling\n"
    yield "`grouped_mle(x, pooled=True)` on 2000 coordinates, scales of log-sd 1.5: mean ± sd over 10 seeds.\n"
    yield pooling_table(options.quick) + "\n"


def speed_part(options: argparse.Namespace) -> Iterator[str]:
    """Times on the chosen device."""
    yield f"## Speed ({options.device})\n"
    yield "Medians of repetitions in turns; log-sum is one pass of `x.abs().log().sum()` in chunks.\n"
    yield shapes_table(options.quick, options.device) + "\n"
    yield measurement_table(options.quick, options.device) + "\n"
    if options.device == "cpu":
        yield others_table(options.quick) + "\n"


def main() -> None:
    """Prints the parts that were asked for, in order."""
    options = arguments()
    parts = dict(zip(PARTS, (accuracy_part, intervals_part, size_part, pooling_part, speed_part), strict=True))
    print(f"# How good the estimators are\n\n{machine()}\n", flush=True)
    for name in options.only:
        for text in parts[name](options):
            print(text, flush=True)


if __name__ == "__main__":
    main()
