"""How long each draw of the noise is, and which are outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation
from torch import Tensor

from lightning_tailindex.records import Report

from ._canvas import (
    GAUSSIAN,
    STABLE,
    count_along,
    counted,
    dress,
    figure_of,
    legend_outside,
    new_axes,
    percent,
    shortened,
)
from ._choice import check_kind, in_order

__all__ = ["noise_norms"]

_TOLD = 3  # samples of a draw that are named
_FONT, _COLUMN = 8.0, 9.0  # points: of the names, and from one to the next
_FENCE = 1.5  # interquartile ranges beyond the upper quartile, as in a box plot


def noise_norms(
    noise: Report | Tensor, indices: Sequence[object] | None = None, *, most: int = 8, ax: Axes | None = None
) -> tuple[Figure, Axes]:
    r"""Draws the norm of each draw of the noise, and names those that lie out.

    .. math:: \lVert U_i\rVert > Q_3 + 1.5\,(Q_3 - Q_1)

    is an outlier, where :math:`Q_1` and :math:`Q_3` are the quartiles of the norms, as in a box plot; of Gaussian noise
    up to two draws in a hundred are. The legend tells which share of the sum of all squared norms the outliers carry.
    Norms of exactly 0, and those that are not finite, are gaps.

    Args:
        noise: A report, for the whole model's noise, or draws ``[n, d]`` in the unit of the gradient, as
            :func:`~lightning_tailindex.gradient_noise` returns them.
        indices: What the draws are called, n of them. None for 0 to n - 1; then the legend has the first samples
            that an outlier is of, by their indices in the data set, where a report has them: all of them are in its
            ``largest_draws``.
        most: Outliers to name at most, the largest ones, at least 0.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the draw's number, y the norm over the d coordinates in the unit of the gradient.

    Raises:
        TypeError: If it is neither.
        ValueError: If draws are not ``[n, d]``, all norms are gaps or a report has none, there are not n indices, or
            ``most`` is negative.

    Example:
        >>> noise = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
        >>> noise[17] *= 30
        >>> fig, ax = noise_norms(noise)
        >>> [text.get_text() for text in ax.texts]
        ['17']
    """
    norms, names, what = _checked(noise, indices, most)
    finite = norms[~norms.isnan()]
    first, third = finite.quantile(finite.new_tensor([0.25, 0.75]))
    fence = float(third + _FENCE * (third - first))
    outlying = norms > fence
    ax = new_axes(8.4, 3.6)[0] if ax is None else ax
    places = torch.arange(len(norms), device=norms.device)
    inside = norms.masked_fill(outlying, torch.nan)
    ax.plot(places, inside, color=STABLE["color"], marker="o", markersize=4, linestyle="none", label="norm of a draw")
    share = float(norms[outlying].square().sum() / finite.square().sum())
    label = f"outlier: {int(outlying.sum())} of {len(norms)},\n{percent(share)} of the sum\nof squared norms"
    ax.plot(places[outlying], norms[outlying], color=GAUSSIAN["color"], marker="D", linestyle="none", label=label)
    ax.axhline(float(finite.median()), color="0.4", linewidth=1, label="median")
    ax.axhline(fence, color=GAUSSIAN["color"], linewidth=1, linestyle="--", label="fence of outliers")
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1, 0.7)))  # within a decade, too
    named = norms.where(outlying, -1.0).topk(min(most, int(outlying.sum()))).indices.tolist()
    _name(ax, named, norms, names)
    if isinstance(noise, Report) and indices is None:
        _tell(ax, named, {each.draw: each.samples for each in noise.largest_draws})
    dress(ax, f"Norm of the noise {what}", "draw", "norm, in the unit of the gradient")
    count_along(ax)
    legend_outside(ax)
    return figure_of(ax), ax


def _checked(
    noise: Report | Tensor, indices: Sequence[object] | None, most: int
) -> tuple[Tensor, Sequence[object], str]:
    """Norms, names of the draws, and what they are the noise of."""
    check_kind("noise_norms", noise, Report, Tensor)
    norms, own_names, what = _of_report(noise) if isinstance(noise, Report) else _of_draws(noise)
    if most < 0:
        raise ValueError(f"noise_norms needs most to be at least 0, got {most}.")
    names = own_names if indices is None else indices
    if len(names) != len(norms):
        raise ValueError(f"noise_norms needs an index for each of the {len(norms)} draws, got {len(names)}.")
    norms = norms.masked_fill(~norms.isfinite() | (norms == 0), torch.nan)
    if norms.isnan().all():
        raise ValueError(f"noise_norms needs a norm that is finite and not 0, got none in {len(norms)} draws.")
    return norms, names, what


def _of_draws(noise: Tensor) -> tuple[Tensor, Sequence[object], str]:
    if noise.ndim != 2 or noise.numel() == 0:
        raise ValueError(f"noise_norms needs draws of shape [n, d], got {tuple(noise.shape)}.")
    norms = torch.linalg.vector_norm(noise.detach().cpu().double(), dim=1)
    return norms, range(len(noise)), f"over {counted(noise.shape[1], 'coordinate')}"


def _of_report(report: Report) -> tuple[Tensor, Sequence[object], str]:
    in_order("noise_norms", report)
    norms = torch.tensor(report.draw_norms, dtype=torch.float64, device="cpu")
    return norms, range(len(norms)), f"of {report.whole_model.group} at step {report.step}"


def _tell(ax: Axes, draws: Sequence[int], samples: Mapping[int, Sequence[int]]) -> None:
    """Tells in the legend of which samples draws are."""
    told = [f"{draw}: {_told(samples[draw])}" for draw in draws if draw in samples]
    if told:
        ax.plot([], [], linestyle="none", label="\n".join(["samples of outliers:", *told]))


def _told(samples: Sequence[int]) -> str:
    """Tells the first samples of a draw.

    Example:
        >>> _told((7, 203, 55, 8, 9)), _told((7,))
        ('7, 203, 55, …', '7')
    """
    return ", ".join(map(str, samples[:_TOLD])) + (", …" if len(samples) > _TOLD else "")


def _name(ax: Axes, draws: Sequence[int], norms: Tensor, names: Sequence[object]) -> None:
    """Writes names upwards side by side above all draws, each with a line to its own."""
    if not draws:
        return
    box = ax.get_window_extent().transformed(figure_of(ax).dpi_scale_trans.inverted())  # inches
    low, high = ax.get_ylim()
    (first, last), ordered = ax.get_xlim(), sorted(draws)
    least = _COLUMN / 72 / box.width * (last - first)
    columns = dict(zip(ordered, _apart(ordered, least, last), strict=True))
    written = dict(zip(draws, shortened([str(names[draw]) for draw in draws]), strict=True))
    room = min(_FONT * (1.5 + 0.65 * max(map(len, written.values()))) / 72 / box.height, 0.7)
    ax.set_ylim(low, high * (high / low) ** (room / (1 - room)))
    above = high * (high / low) ** (0.03 / (1 - room))
    for draw, name in written.items():
        ax.annotate(
            name,
            (draw, float(norms[draw])),
            xytext=(columns[draw], above),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=_FONT,
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": "0.6", "shrinkA": 1, "shrinkB": 3},
        )


def _apart(places: Sequence[float], least: float, end: float) -> list[float]:
    """Moves ascending places apart, none beyond the end.

    Example:
        >>> _apart([1.0, 2.0, 20.0, 39.0, 40.0], 5.0, 40.0)
        [1.0, 6.0, 20.0, 35.0, 40.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    for i, place in reversed(list(enumerate(moved))):
        moved[i] = min(place, end - least * (len(moved) - 1 - i))
    return moved
