"""Where the likelihood is evaluated: at which tail indices and scales, for series of which length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from ._centers import spacing
from ._counts import Cells
from ._tables import LAST_NODE, alpha_at, alpha_grid, like, log_cells, log_medians, scale_unit

# Distance of the scales in standard deviations of the scale: a sum over such points gives the integral of a Gaussian
# to 1e-5, and that of its square to 4e-3.
_SCALE_STEP = 1.25
_HALF = 6
_LARGEST_HALF = 320
_WIDE = 1.5
FEWEST_TOGETHER = 2048  # series below which handling them apart would take longer than more scales
_LONGEST_IN_SINGLE = 24  # half octaves of values in a series whose log-likelihood float32 holds to .001


@dataclass(frozen=True)
class Grid:
    """Tail indices and scales at which the likelihood is evaluated.

    Attributes:
        nodes: Nodes of the grid of alpha.
        half: Number of scales on either side of the unit of the cells.
        step: Their distance, of the logarithm of the scale in units of ``scale_unit(alpha)``.
        per_octave: Cells an octave.
        in_single: Whether single precision is enough.
    """

    nodes: range
    half: int
    step: float
    per_octave: int
    in_single: bool

    def widened(self) -> Grid:
        """The same scales and as many again on either side."""
        return replace(self, half=min(2 * self.half, _LARGEST_HALF))

    def wide(self) -> Grid:
        """Widened until a maximum far from the unit of the cells is among the scales."""
        grid = self.widened()
        return grid if grid.half * grid.step >= _WIDE or grid.is_widest else grid.wide()

    @property
    def is_widest(self) -> bool:
        """Whether widening has come to its end."""
        return self.half >= _LARGEST_HALF

    def over(self, nodes: range) -> Grid:
        """The same scales at other nodes."""
        return replace(self, nodes=nodes)

    def table(self, x: Tensor) -> Tensor:
        """Log-probabilities of the cells, shape [scales, nodes, cells], in the precision of x and on its device."""
        stride = math.gcd(self.nodes.start, self.nodes.step)
        rows = slice(self.nodes.start // stride, -(-self.nodes.stop // stride), self.nodes.step // stride)
        return like(x, log_cells, self.half, self.step, self.per_octave, stride)[:, rows]

    def alpha_at(self, place: Tensor) -> Tensor:
        """Tail index at a place among the nodes, in rows of a curve over them."""
        return alpha_at(self.nodes.start + place.double() * self.nodes.step)

    def log_spacing(self, x: Tensor) -> Tensor:
        """Logarithm of the distance of the log-scales, [nodes]: it depends on alpha, so integrals over them need it."""
        return like(x, _log_spacing, self.step)[self.nodes.start : self.nodes.stop : self.nodes.step]

    def log_scale(self, place: Tensor, node: Tensor) -> Tensor:
        """Logarithm of the scale in the unit of the cells, from a place among the scales and the node of each."""
        medians = like(place, log_medians)[self.nodes.start + node * self.nodes.step]
        return place * self.step * scale_unit(self.alpha_at(node)) - medians


def _log_spacing(step: float) -> Tensor:
    """Logarithm of the distance of the log-scales at all nodes."""
    return (step * scale_unit(alpha_grid())).log()


def by_length(cells: Cells, per_octave: int, fewest: int = 1) -> Iterator[tuple[Tensor, Grid]]:
    """Finds usable series of about the same number of values.

    Args:
        cells: The cells of all series.
        per_octave: Cells an octave.
        fewest: Series below which shorter ones join them, on a grid that suits both.

    Yields:
        Indices of some of them, with the grid that suits these: its nodes lie one to two standard deviations of an
        estimate apart. Lengths are rounded, so that few different tables are ever computed.
    """
    series = cells.usable.nonzero()[:, 0]
    halves = cells.num_values[series].double().log2().mul(2).round().long()
    number = halves.bincount()
    filled = number.nonzero()[:, 0]
    lengths, sizes = filled.tolist(), number[filled].tolist()
    while lengths:
        longest, together = lengths[-1], 0
        while lengths and together < fewest:
            shortest, together = lengths.pop(), together + sizes.pop()
        yield series[(halves >= shortest) & (halves <= longest)], _grid(shortest, longest, per_octave)


def _grid(shortest: int, longest: int, per_octave: int) -> Grid:
    """The grid for series whose numbers of values have these binary logarithms, rounded and twice as large."""
    step = _SCALE_STEP * 2.0 ** (-(longest + 0.5) / 4)  # over the root of the most values that round to this
    nodes = every(2 ** min(max((25 - longest) // 4, 0), 2))
    # The unit comes from some of the draws, the scale from all, which may tell the more precisely where it is.
    precision = (1 + 2 * spacing(round(2 ** (longest / 2))) ** 0.5) / 3
    width = 2.0 ** (-(-(longest - shortest) // 2) / 2)
    return Grid(nodes, math.ceil(_HALF * precision * width), step, per_octave, longest <= _LONGEST_IN_SINGLE)


def every(stride: int) -> range:
    """Nodes from the first to the last one."""
    return range(0, LAST_NODE + 1, stride)
