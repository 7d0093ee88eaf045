"""What all figures share: axes, colours, legends and short names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

__all__ = [
    "GAUSSIAN",
    "NOISE",
    "STABLE",
    "WHOLE_MODEL",
    "count_along",
    "counted",
    "dress",
    "figure_of",
    "height_for",
    "legend_outside",
    "look",
    "new_axes",
    "percent",
    "shortened",
    "titled",
]

# Okabe and Ito's colours, told apart by the colour-blind too; their yellow is too faint for lines on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# The numbers of colours, markers and line styles have no common divisor, so that 210 lines look different.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

_SHORT, _IN_TITLE = 28, 60  # characters of a name
_NUMBER = re.compile(r"(?<!\d)\d{2,4}(?!\d)")

NOISE: dict[str, Any] = {"color": "0.35"}
STABLE: dict[str, Any] = {"color": _COLOURS[0], "linestyle": "-", "marker": "o"}
GAUSSIAN: dict[str, Any] = {"color": _COLOURS[1], "linestyle": "--", "marker": "s"}
WHOLE_MODEL: dict[str, Any] = {"color": "black", "linestyle": "-", "marker": "*", "linewidth": 2}


def look(place: int) -> dict[str, Any]:
    """Finds colour, marker and line style of the line at some place."""
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _LINES[place % len(_LINES)],
        "linewidth": 1.3,
    }


def new_axes(width: float, height: float, columns: int = 1) -> Sequence[Axes]:
    """Makes a figure of so many inches, which pyplot does not know of, and returns its axes from left to right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return [figure.add_subplot(1, columns, column + 1) for column in range(columns)]


def figure_of(ax: Axes) -> Figure:
    """Finds the whole figure that axes stand in."""
    figure = ax.figure
    return figure.figure if isinstance(figure, SubFigure) else figure


def dress(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Writes title and labels, and takes the frame away where there is no axis."""
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)


def legend_outside(ax: Axes, **arguments: Any) -> None:
    """Puts the legend to the right of the axes, where no data are."""
    legend = ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False, **arguments)
    legend.set_alignment("left")


def height_for(names: Sequence[str]) -> float:
    """Inches in which a legend of so many lines, and of one that is explained in two, has room."""
    return max(4, 0.9 + 0.22 * len(names))


def count_along(ax: Axes) -> None:
    """Lets ticks of the x axis be whole numbers, as steps are, even where there is one alone."""
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))


def titled(what: str, name: str, room: int = _IN_TITLE) -> str:
    """Puts a name behind the words of a title, in a line of its own where it is long, cut to so many characters."""
    name = _cut(name, room)
    return f"{what}{' ' if len(what) + len(name) < room else chr(10)}{name}"


def shortened(names: Sequence[str]) -> list[str]:
    """Cuts long names in their middle, to 28 characters or as many as are needed to tell them apart.

    An index of up to four digits stays whole: half of the 14 in ``layers.14`` would be another layer's.

    Example:
        >>> shortened([f"encoder.layers.{i}.self_attention.out_proj" for i in (8, 9)])
        ['encoder.layers.8…ention.out_proj', 'encoder.layers.9…ention.out_proj']
    """
    longest = max(map(len, names), default=0)
    lengths = (length for length in range(_SHORT, longest) if len({_cut(n, length) for n in names}) == len({*names}))
    length = next(lengths, longest)
    return [_cut(name, length) for name in names]


def _cut(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    end, start = most // 2, len(name) - (most - most // 2 - 1)
    for number in _NUMBER.finditer(name):
        end = number.end() if number.start() < end < number.end() else end
        start = number.start() if number.start() < start < number.end() else start
    return f"{name[:end]}…{name[start:]}" if end < start else name


def counted(number: int, word: str) -> str:
    """Writes a number of things.

    Example:
        >>> counted(64, "draw"), counted(1, "coordinate")
        ('64 draws', '1 coordinate')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def percent(share: float) -> str:
    """Writes a share in percent."""
    return "below 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
