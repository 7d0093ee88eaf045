"""The tail index of all groups over training, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex.records import Report

from ._canvas import dress, figure_of, new_axes, shortened
from ._choice import by_group, in_order, names_of_groups

__all__ = ["alpha_heatmap"]

_MOST_ROWS, _MOST_COLUMNS = 40, 10  # tick labels
_MOST_NUMBERS = 90  # cells that have their number written in them
_INCHES = 0.24  # height of a row, if they are few
_ORDINARY, _LETTER = 28, 0.07  # characters of a name that there is room for, and inches that one more takes


def alpha_heatmap(reports: Report | Sequence[Report], *, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Draws the tail index of every group at every step as a heat map, the dark the heavier.

    Rows are in the order of the module, the whole model below a line; columns are reports, one as wide as the other
    whatever the steps between them. Colours go from 0 to 2 in every figure, so that figures compare. Grey: no tail
    index. Long names are cut in their middle, and of more than 40 groups some go unnamed.

    Args:
        reports: One report or several; of their first estimator.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the optimizer step, y the group.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no report.

    Example:
        >>> fig, ax = alpha_heatmap(reports)  # of TailIndexMonitor.reports
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['conv1', 'fc1', 'whole_model']
    """
    ordered = in_order("alpha_heatmap", reports)
    names, columns = names_of_groups(ordered), [by_group(report) for report in ordered]
    alphas = np.array([[c[name].alpha if name in c else np.nan for c in columns] for name in names])
    height = min(1.4 + _INCHES * len(names), 9.0)
    written = shortened(names)
    width = min(4.0 + 0.6 * len(ordered), 9.0) + _LETTER * max(*map(len, written), _ORDINARY) - _LETTER * _ORDINARY
    ax = new_axes(width, max(height, 2.4))[0] if ax is None else ax
    colours = mpl.colormaps["cividis"].with_extremes(bad="0.8")
    image = ax.imshow(
        np.ma.masked_invalid(alphas), cmap=colours, vmin=0, vmax=2, aspect="auto", interpolation="nearest"
    )
    if len(names) > 1:
        ax.axhline(len(names) - 1.5, color="white", linewidth=1.5 if len(names) <= _MOST_ROWS else 0.7)
    _name_ticks(ax, written, [str(report.step) for report in ordered])
    if alphas.size <= _MOST_NUMBERS:
        _write_numbers(ax, alphas)
    missing = " (grey: none)" if np.isnan(alphas).any() else ""
    dress(ax, "Tail index of the gradient noise" + missing, "optimizer step", "")
    ax.spines[:].set_visible(False)
    figure_of(ax).colorbar(image, ax=ax, label="tail index α (2: Gaussian)", extend=_beyond(alphas))
    return figure_of(ax), ax


def _beyond(alphas: np.ndarray) -> str:
    return "max" if bool((alphas > 2).any()) else "neither"


def _name_ticks(ax: Axes, names: list[str], steps: list[str]) -> None:
    stride = -(-len(names) // _MOST_ROWS)
    # the last row, the whole model, is always named, and nothing that would touch its name
    rows = [*(i for i in range(0, len(names) - 1, stride) if len(names) - 1 - i >= stride), len(names) - 1]
    columns = range(0, len(steps), -(-len(steps) // _MOST_COLUMNS))
    ax.set_yticks(rows, [names[i] for i in rows], fontsize="small")
    ax.set_xticks(columns, [steps[i] for i in columns])
    ax.tick_params(length=0)


def _write_numbers(ax: Axes, alphas: np.ndarray) -> None:
    for (row, column), alpha in np.ndenumerate(alphas):
        if not np.isnan(alpha):
            colour = "white" if alpha < 1 else "black"
            ax.text(column, row, f"{alpha:.2f}", ha="center", va="center", color=colour, fontsize="small")
