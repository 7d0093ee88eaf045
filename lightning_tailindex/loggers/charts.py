"""A few charts that show a model of any size."""

from __future__ import annotations

from lightning_tailindex.records import Report

from .names import ALPHA, GAUSSIAN_ALPHA, HIGH, LOW, aggregated, detailed_groups, of_groups
from .sink import MOST_LINES, Band, Lines

__all__ = ["charts"]


def charts(report: Report) -> tuple[Lines | Band, ...]:
    """Lays out the tail index over groups, with its interval and surrogate, and over aggregated minibatches.

    Args:
        report: The first report of a run, whose groups the others have too.

    Returns:
        Charts of no more than six lines: of many groups, those of the largest.
    """
    whole = report.whole_model
    alpha, gaussian = f"{ALPHA}/{whole.group}", f"{GAUSSIAN_ALPHA}/{whole.group}"
    interval = f"{LOW}/{whole.group}", f"{HIGH}/{whole.group}"
    shown = detailed_groups(report, MOST_LINES - 1)
    groups = of_groups(len(shown) - 1, len(report.headline) - 1)
    sizes = [average.num_minibatches for average in whole.aggregated][: MOST_LINES - 1]
    averages = tuple(f"{aggregated(size)}/{whole.group}" for size in sizes)
    # A title of more than some 50 letters takes a second line, and its chart stands lower than its neighbours
    return (
        Lines(f"α of the whole model and {groups}", tuple(f"{ALPHA}/{group}" for group in shown)),
        Band("Whole model: α, 95 % interval, Gaussian surrogate", ((alpha, *interval), (gaussian, gaussian, gaussian))),
        *([Lines("Whole model: α of draws and of averages of them", (alpha, *averages))] if averages else []),
    )
