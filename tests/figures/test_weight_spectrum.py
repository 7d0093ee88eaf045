"""What the figure of a weight matrix's eigenvalues shows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from lightning_tailindex.figures import weight_spectrum
from lightning_tailindex.functional import weight_spectrum as measured
from lightning_tailindex.records import SpectrumMeasurement, SpectrumReport


def spectrum(name: str = "fc", rows: int = 200, min_tail: int = 8) -> SpectrumMeasurement:
    """A matrix whose eigenvalues have density λ^-2.5."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, 150, generator=generator)).Q
    values = torch.rand(150, generator=generator) ** (-1 / 1.5)
    return measured(left * values.sqrt(), name=name, min_tail=min_tail)


def test_the_law_is_where_it_was_fitted() -> None:
    found = spectrum()
    _, ax = weight_spectrum(found)
    law, x_min = ax.lines
    x, y = (np.asarray(values, dtype=float) for values in law.get_data())
    assert x_min.get_xdata() == [found.x_min, found.x_min]
    assert x.tolist() == [found.x_min, found.largest_eigenvalue]
    exponent, share = found.density_exponent, found.num_tail / found.rank
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(-exponent)
    beyond_largest = found.largest_eigenvalue * y[1] / (exponent - 1)
    assert found.x_min * y[0] / (exponent - 1) == pytest.approx(share)  # from x_min to infinity
    assert beyond_largest < 5 / found.rank  # a few eigenvalues' worth
    assert f"density exponent {found.density_exponent:.2f}" in str(law.get_label())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_the_bars_are_a_density() -> None:
    (bars,) = (patch for patch in weight_spectrum(spectrum())[1].patches if isinstance(patch, StepPatch))
    values, edges, baseline = bars.get_data()
    shown = np.where(values > baseline, values, 0)
    assert float((shown * np.diff(edges)).sum()) == pytest.approx(1, rel=1e-3)


def test_a_matrix_of_a_report_to_given_axes() -> None:
    report = SpectrumReport(7, (spectrum("small", 160), spectrum("large"), spectrum("none", 170, 10**6)), 0.1)
    assert weight_spectrum(report)[1].get_title() == "Eigenvalues of large"
    ax = Figure().subplots()
    assert weight_spectrum(report, "small", ax=ax) == (ax.figure, ax)
    assert ax.get_title() == "Eigenvalues of small"
    assert len(weight_spectrum(report, "none")[1].lines) == 0  # no law


def test_labels_of_a_narrow_spectrum_do_not_overlap() -> None:
    figure, ax = weight_spectrum(measured(torch.randn(64, 10, generator=torch.Generator().manual_seed(0))))
    figure.draw_without_rendering()  # type: ignore[no-untyped-call]
    texts = [label for label in ax.get_xticklabels(which="both") if label.get_text()]
    first, last = ax.get_xlim()
    boxes = [label.get_window_extent() for label in texts if first <= label.get_position()[0] <= last]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_what_cannot_be_drawn_is_named() -> None:
    report = SpectrumReport(7, (spectrum(),), 0.1)
    with pytest.raises(ValueError, match="weight_spectrum needs a matrix among 'fc', got 'fd'"):
        weight_spectrum(report, "fd")
    with pytest.raises(ValueError, match="weight_spectrum needs a report with matrices, got one without"):
        weight_spectrum(SpectrumReport(7, (), 0.1))
    with pytest.raises(ValueError, match="needs eigenvalues above rounding, 'weight' has none: all weights are zero"):
        weight_spectrum(measured(torch.zeros(9, 9)))
