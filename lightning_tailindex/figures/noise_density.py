"""The density of the noise beside that of its fitted laws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution

from lightning_tailindex.records import Measurement

from ._canvas import GAUSSIAN, NOISE, STABLE, dress, figure_of, legend_outside, new_axes, percent
from ._laws import StandardizedNoise, best_gaussian, stable_law, standardized_noise

__all__ = ["noise_density"]

_POINTS = 401


def noise_density(noise: Measurement | Tensor, *, ax: Sequence[Axes] | None = None) -> tuple[Figure, tuple[Axes, Axes]]:
    r"""Draws the density of a group's noise beside a symmetric stable law and a Gaussian, linear and logarithmic.

    Each coordinate is centred by its median draw and divided by its fitted scale :math:`\sigma_j`; all are pooled. The
    stable law is the one that was fitted, in these units

    .. math:: \operatorname{E} e^{i\omega X} = e^{-|\omega|^\alpha},

    and the Gaussian the centred one of the greatest likelihood of the counts, the end bins open: outliers count, but
    not by how far out they are. Both are averaged over the width of a bin, as a histogram is. What lies in the end bins
    and beyond is not drawn but told in the legend.

    Args:
        noise: A measurement, of which the histogram is drawn; or draws ``[n, d]`` in any unit, as
            :func:`~lightning_tailindex.gradient_noise` returns them, to which the law is fitted by ``grouped_mle``.
        ax: Two axes to draw to, the linear and the logarithmic; None makes a new figure.

    Returns:
        The figure and its two axes. x is in units of the coordinate's scale, the density in its inverse.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is no usable value, draws are not ``[n, d]``, or ``ax`` are not two axes.

    Example:
        >>> from lightning_tailindex.distributions import SymmetricStable
        >>> fig, (linear, logarithmic) = noise_density(SymmetricStable(torch.tensor(1.5)).sample((64, 100)))
        >>> logarithmic.get_yscale()
        'log'
    """
    sample = standardized_noise("noise_density", noise)
    given = [ax] if isinstance(ax, Axes) else ax
    axes = new_axes(10, 3.6, columns=2) if given is None else list(given)
    if len(axes) != 2:
        raise ValueError(f"noise_density needs ax to be two axes, got {len(axes)}.")
    for panel in axes:
        _draw(panel, sample)
    linear, logarithmic = axes
    dress(linear, sample.title, "noise / its coordinate's scale σ", "density, in 1/σ")
    dress(logarithmic, "the same,\nlogarithmic", "noise / its coordinate's scale σ", "density, in 1/σ")
    linear.set_ylim(bottom=0)
    logarithmic.set_yscale("log")
    logarithmic.set_ylim(_lowest(sample), 2 * logarithmic.get_ylim()[1])
    legend_outside(logarithmic)
    return figure_of(linear), (linear, logarithmic)


def _lowest(sample: StandardizedNoise) -> float:
    """Half of the least density that a bin shows; Gaussian tails go on far below."""
    filled = sample.counts[1:-1][sample.counts[1:-1] > 0]
    least = float(filled.min()) if len(filled) else 1.0
    return 0.5 * least / (float(sample.counts.sum()) * float(sample.edges[1] - sample.edges[0]))


def _draw(ax: Axes, sample: StandardizedNoise) -> None:
    width, total = float(sample.edges[1] - sample.edges[0]), float(sample.counts.sum())
    reach = float(sample.edges[-2])
    beyond = float(sample.counts[0] + sample.counts[-1]) / total
    heights, edges = (sample.counts[1:-1] / total / width).numpy(), sample.edges[1:-1].numpy()
    ax.stairs(heights, edges, fill=True, alpha=0.35, label=f"noise\n{percent(beyond)} beyond ±{reach:g}", **NOISE)
    stable, gaussian = stable_law(sample), best_gaussian(sample)
    if stable is not None:
        name = f"symmetric stable law, α = {sample.alpha:.2f}\nby {sample.estimator}"
        _draw_law(ax, stable, name, reach, width, color=STABLE["color"], linestyle=STABLE["linestyle"])
    name = f"best Gaussian, standard deviation {float(gaussian.scale):.2f} σ"
    _draw_law(ax, gaussian, name, reach, width, color=GAUSSIAN["color"], linestyle=GAUSSIAN["linestyle"])


def _draw_law(
    ax: Axes, law: Distribution, name: str, reach: float, width: float, *, color: str, linestyle: str
) -> None:
    """Draws a law's density averaged over the width of a bin; differences in the lower tail do not cancel."""
    x = torch.linspace(-reach, reach, _POINTS, dtype=torch.float64, device="cpu")
    left = -x.abs()
    density = (law.cdf(left + width / 2) - law.cdf(left - width / 2)) / width
    beyond = 2 * float(law.cdf(x[0]))
    label = f"{name}\n{percent(beyond)} beyond ±{reach:g}"
    ax.plot(x.numpy(), density.numpy(), color=color, linestyle=linestyle, linewidth=1.6, label=label)
