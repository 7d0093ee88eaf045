"""The eigenvalues of a weight matrix with the power law of their tail."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lightning_tailindex.noise.groups import listed
from lightning_tailindex.records import SpectrumMeasurement, SpectrumReport

from ._canvas import GAUSSIAN, NOISE, STABLE, counted, dress, figure_of, legend_outside, new_axes, titled
from ._choice import check_kind

__all__ = ["weight_spectrum"]

_FEW_DECADES = 3.0


def weight_spectrum(
    spectrum: SpectrumReport | SpectrumMeasurement, matrix: str | None = None, *, ax: Axes | None = None
) -> tuple[Figure, Axes]:
    r"""Draws the density of a matrix's eigenvalues, both axes logarithmic, with its power law and where that starts.

    .. math:: p(\lambda) = \frac{m}{n} \frac{e - 1}{x_\mathrm{min}}
        \left(\frac{\lambda}{x_\mathrm{min}}\right)^{-e}, \qquad \lambda \ge x_\mathrm{min}

    is drawn from :math:`x_\mathrm{min}` to the largest eigenvalue, for m of n eigenvalues in the tail and the density
    exponent e. Eigenvalues within rounding of zero are left out. Without a density exponent the histogram stands alone.

    Args:
        spectrum: A report, or what it says of one matrix.
        matrix: Name of the matrix in a report; None for the largest.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the eigenvalue, y its density, in the inverse unit.

    Raises:
        TypeError: If it is neither.
        ValueError: If a report has no such matrix, or the matrix has no eigenvalue above rounding.

    Example:
        >>> import torch
        >>> from lightning_tailindex import functional
        >>> fig, ax = weight_spectrum(functional.weight_spectrum(torch.randn(300, 200)))
        >>> ax.get_xscale(), ax.get_yscale()
        ('log', 'log')
    """
    found = _chosen(spectrum, matrix)
    if not any(found.log_eigenvalues.counts):
        raise ValueError(f"weight_spectrum needs eigenvalues above rounding, {found.matrix!r} has none: {found.note}.")
    ax = new_axes(7.6, 3.8)[0] if ax is None else ax
    edges = 10 ** np.array(found.log_eigenvalues.edges)
    counts = np.array(found.log_eigenvalues.counts, dtype=float)
    density = counts / counts.sum() / np.diff(edges)
    ax.set_xscale("log")
    ax.set_yscale("log")
    label = counted(int(counts.sum()), "eigenvalue")
    baseline = 0.3 * density[density > 0].min()  # a logarithmic axis has no zero
    ax.stairs(np.maximum(density, baseline), edges, baseline=baseline, fill=True, alpha=0.35, label=label, **NOISE)
    if not math.isnan(found.density_exponent):
        _draw_law(ax, found)
    _tick(ax, found.log_eigenvalues.edges[-1] - found.log_eigenvalues.edges[0])
    ax.set_ylim(baseline, 3 * density.max())
    dress(ax, titled("Eigenvalues of", found.matrix), "eigenvalue λ of the weights' WᵀW", "density, in 1/λ")
    legend_outside(ax)
    return figure_of(ax), ax


def _chosen(spectrum: SpectrumReport | SpectrumMeasurement, matrix: str | None) -> SpectrumMeasurement:
    check_kind("weight_spectrum", spectrum, SpectrumReport, SpectrumMeasurement)
    several = spectrum.matrices if isinstance(spectrum, SpectrumReport) else (spectrum,)
    if not several:
        raise ValueError("weight_spectrum needs a report with matrices, got one without.")
    if matrix is None:
        return max(several, key=lambda m: m.size)
    names = [m.matrix for m in several]
    if matrix not in names:
        raise ValueError(f"weight_spectrum needs a matrix among {listed(names)}, got {matrix!r}.")
    return several[names.index(matrix)]


def _draw_law(ax: Axes, found: SpectrumMeasurement) -> None:
    """The power law, a straight line on these axes, and x_min."""
    ends = np.array([found.x_min, found.largest_eigenvalue])
    exponent = found.density_exponent
    density = found.num_tail / found.rank * (exponent - 1) / found.x_min * (ends / found.x_min) ** -exponent
    label = (
        f"power law\ndensity exponent {found.density_exponent:.2f} ± {found.standard_error:.2f}\n"
        f"of {counted(found.num_tail, 'eigenvalue')},\nKolmogorov distance {found.kolmogorov_distance:.3f}"
    )
    ax.plot(ends, density, color=STABLE["color"], linewidth=2, label=label)
    ax.axvline(found.x_min, color=GAUSSIAN["color"], linestyle="--", linewidth=1, label=f"x_min {found.x_min:.3g}")


def _tick(ax: Axes, decades: float) -> None:
    """Labels 1, 2 and 5 of each decade where there are few; by itself Matplotlib labels numbers that overlap."""
    if decades < _FEW_DECADES:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
