"""Quantiles of the noise against those of its fitted laws."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution

from lightning_tailindex.records import Measurement

from ._canvas import GAUSSIAN, STABLE, dress, figure_of, legend_outside, new_axes
from ._laws import StandardizedNoise, best_gaussian, stable_law, standardized_noise

__all__ = ["noise_qq"]

_FEWEST_BEYOND = 5  # values on which a quantile has to rest


def noise_qq(noise: Measurement | Tensor, *, ax: Axes | None = None) -> tuple[Figure, Axes]:
    r"""Draws quantiles of a group's noise against those of a symmetric stable law and of a Gaussian.

    .. math:: \bigl(F^{-1}(\hat F(e)),\; e\bigr), \qquad e \text{ an edge between two bins},

    where :math:`\hat F(e)` is the share of the standardized values below :math:`e` and :math:`F` a law of
    :func:`~lightning_tailindex.figures.noise_density`. Points on the diagonal: the law is that of the noise.

    Bins tell no quantile but those at their edges: 79 of them, a quarter of a scale apart, none beyond ±9.75 scales. So
    the far tail, and the middle of noise with a tail index below 1, are not seen. Points with fewer than 5 values
    beyond them are left out, and the law's axis ends at 1.5 times the reach of the noise's.

    Args:
        noise: A measurement, of which the histogram is drawn; or draws ``[n, d]`` in any unit, as
            :func:`~lightning_tailindex.gradient_noise` returns them, which are put into the same bins.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and the axes, both of them in units of the coordinate's scale.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is no usable value, or draws are not ``[n, d]``.

    Example:
        >>> import torch
        >>> fig, ax = noise_qq(torch.randn(64, 100, generator=torch.Generator().manual_seed(0)))
        >>> ax.get_xlabel()
        "quantile of the law / coordinate's scale σ"
    """
    sample = standardized_noise("noise_qq", noise)
    ax = new_axes(6.6, 4.2)[0] if ax is None else ax
    ax.axline((0, 0), slope=1, color="0.6", linewidth=1, zorder=0)
    stable = stable_law(sample)
    if stable is not None:
        _draw(ax, sample, stable, f"symmetric stable law, α = {sample.alpha:.2f}", STABLE)
    _draw(ax, sample, best_gaussian(sample), "best Gaussian", GAUSSIAN)
    reach = 1.1 * max(1.0, -ax.dataLim.y0, ax.dataLim.y1)
    ax.set(xlim=(-1.5 * reach, 1.5 * reach), ylim=(-reach, reach))
    dress(
        ax, sample.title, "quantile of the law / coordinate's scale σ", "quantile of the noise / coordinate's scale σ"
    )
    legend_outside(ax)
    return figure_of(ax), ax


def _draw(ax: Axes, sample: StandardizedNoise, law: Distribution, name: str, style: dict[str, Any]) -> None:
    below, total = sample.below, sample.counts.sum()
    kept = (below * total >= _FEWEST_BEYOND) & ((1 - below) * total >= _FEWEST_BEYOND)
    low = below[kept]
    quantiles = law.icdf(low)
    ax.plot(
        quantiles.numpy(),
        sample.edges[1:-1][kept].numpy(),
        color=style["color"],
        marker=style["marker"],
        markersize=4,
        markerfacecolor="none",
        linestyle="none",
        label=name,
    )
