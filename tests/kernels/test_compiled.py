"""The loops in C do what torch does: the same counts, and estimates that differ by rounding."""

from __future__ import annotations

import ctypes
import math
import shutil
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional._counts import Cells, count_values
from lightning_tailindex.functional._each import Fit, fit_each
from lightning_tailindex.functional._grid import by_length
from lightning_tailindex.functional._likelihood import likelihood
from lightning_tailindex.functional.grouped_mle import counted_groups, pooled_groups, separate_alphas
from lightning_tailindex.functional.law_fit import law_fit
from lightning_tailindex.kernels import compiled
from tests.functional.samples import generator, stable

needs_kernels = pytest.mark.skipif(not compiled.is_compiled(), reason="the C code was not compiled")


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """In which estimates are computed by torch."""
    with monkeypatch.context() as context:
        context.setattr(compiled, "suit", lambda *tensors: False)
        yield context


def odd_sample(n: int, series: int, alpha: float = 1.5) -> Tensor:
    """Stable draws, with zeros, ties, constants, NaN and infinities in some series."""
    rng = generator(n + series)
    x = stable(alpha, (n, series), rng).float() * torch.randn(series, generator=rng).exp() + 0.5
    x[:, 1::7] *= torch.rand(n, x[:, 1::7].shape[1], generator=rng) > 0.6
    x[::2, 2::11] = x[0, 2::11].clone()
    for start, value in ((3, 0.0), (4, 2.5), (5, math.nan), (6, math.inf)):
        x[: n if value in (0.0, 2.5) else 1, start::13] = value
    return x


def counted(x: Tensor, center: str, per_octave: int) -> Cells:
    return count_values(x, center, per_octave, keep_index=True)  # type: ignore[arg-type]


def test_a_compiler_compiles_them() -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("there is no compiler")
    assert compiled.is_compiled()


@needs_kernels
@pytest.mark.parametrize("per_octave", [4, 8])
@pytest.mark.parametrize("center", ["median", "none"])
@pytest.mark.parametrize(("n", "series"), [(1, 3), (9, 1), (64, 33), (100, 1000), (257, 50), (700, 47), (20000, 18)])
def test_counts_are_the_same(n: int, series: int, center: str, per_octave: int, by_torch: pytest.MonkeyPatch) -> None:
    x = odd_sample(n, series)
    slow = counted(x, center, per_octave)
    by_torch.undo()
    fast = counted(x, center, per_octave)
    assert torch.equal(fast.finite, slow.finite)
    for field in fields(Cells):
        ours, theirs = (getattr(cells, field.name)[fast.finite] for cells in (fast, slow))
        assert torch.equal(ours, theirs), field.name


@needs_kernels
def test_other_orders_in_memory_change_nothing() -> None:
    x = odd_sample(100, 40)
    plain = counted(x, "median", 4)
    wide = torch.zeros(100, 2, 40)
    wide[:, 1] = x
    for other in (x.T.contiguous().T, wide[:, 1], x.repeat_interleave(2, dim=1)[:, ::2]):
        assert not other.is_contiguous()
        cells = counted(other, "median", 4)
        assert torch.equal(cells.counts, plain.counts)
        assert torch.equal(cells.index, plain.index)


def differences(one: Fit, other: Fit) -> dict[str, float]:
    """The largest difference of each field, where both are numbers; they have to be so for the same series."""
    found = {}
    for field in fields(Fit):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(ours.isnan(), theirs.isnan()), field.name
        found[field.name] = float((ours - theirs).nan_to_num().abs().max())
    return found


@needs_kernels
@pytest.mark.parametrize("per_octave", [4, 8])
@pytest.mark.parametrize("alpha", [0.5, 1.3, 1.9, 2.0])
@pytest.mark.parametrize(("n", "series"), [(9, 40), (64, 1), (100, 300), (1000, 65)])
def test_fits_are_the_same_but_for_rounding(
    n: int, series: int, alpha: float, per_octave: int, by_torch: pytest.MonkeyPatch
) -> None:
    x = odd_sample(n, series, alpha)
    cells = count_values(x, "median", per_octave)
    slow = fit_each(cells, per_octave)
    by_torch.undo()
    apart = differences(fit_each(cells, per_octave), slow)
    assert max(apart[name] for name in ("alpha", "low", "high", "log_ratio")) < 2e-3
    assert apart["log_likelihood"] < 2e-5 * n + 1e-4
    assert apart["gain"] < 1e-4


@needs_kernels
@pytest.mark.parametrize("nodes", [range(72, 73), range(60, 73), range(0, 73, 4)])
def test_sums_over_scales_are_the_same(nodes: range, by_torch: pytest.MonkeyPatch) -> None:
    cells = count_values(stable(1.6, (128, 77), generator(0)).float(), "median", 4)
    (_, grid), *_ = by_length(cells, 4)
    grid = grid.over(nodes)
    slow = likelihood(cells.counts, grid)
    expected = [slow.profile, slow.marginal, slow.mass, slow.edge, slow.best]
    by_torch.undo()
    fast = likelihood(cells.counts, grid)
    for ours, theirs in zip([fast.profile, fast.marginal, fast.mass, fast.edge, fast.best], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


@needs_kernels
def test_pooled_estimates_are_the_same_but_for_rounding(by_torch: pytest.MonkeyPatch) -> None:
    samples = [odd_sample(64, 200, alpha) for alpha in (1.2, 1.7, 2.0)]
    slow, slow_apart = pooled_groups(samples), separate_alphas(counted_groups(samples))
    slow_laws = law_fit(samples[1], pooled=True)
    by_torch.undo()
    for ours, theirs in zip(pooled_groups(samples), slow, strict=True):
        for name in ("alpha", "low", "high", "effective_series"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ours.scale, theirs.scale, rtol=1e-3, atol=1e-6, equal_nan=True)
    for one, other in zip(separate_alphas(counted_groups(samples)), slow_apart, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=0.0, equal_nan=True)
    laws = law_fit(samples[1], pooled=True)
    for field in fields(laws):
        if isinstance(value := getattr(laws, field.name), Tensor):
            torch.testing.assert_close(value, getattr(slow_laws, field.name), rtol=1e-2, atol=1e-2, equal_nan=True)


@needs_kernels
def test_threads_change_nothing() -> None:
    x, threads = odd_sample(100, 3000), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(grouped_mle(x))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for name in ("alpha", "low", "high", "scale", "log_likelihood"):
            torch.testing.assert_close(getattr(other, name), getattr(found[0], name), rtol=0, atol=0, equal_nan=True)


def test_other_precisions_and_devices_are_left_to_torch() -> None:
    assert not compiled.suit(torch.zeros(3, dtype=torch.float64))
    assert not compiled.suit(torch.zeros(3, device="meta"))
    assert compiled.suit(torch.zeros(3)) == compiled.is_compiled()


@needs_kernels
def test_tables_that_they_have_no_memory_for_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tables of shape \[704, 80, 128\] at most, got \[2, 3, 200\]"):
        compiled.likelihood_sums(torch.ones(5, 200), torch.zeros(2, 3, 200), -40.0)


@needs_kernels
def test_more_rows_than_they_have_memory_for_are_refused() -> None:
    with pytest.raises(ValueError, match="the kernels sort 1024 rows at most, got 1025"):
        compiled.quartiles(torch.ones(1025, 2), torch.arange(1025), absolute=False)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_default_device_elsewhere_changes_nothing(pooled: bool) -> None:
    x = odd_sample(300, 40)
    expected = grouped_mle(x, pooled=pooled)
    with torch.device("meta"):
        found = grouped_mle(x, pooled=pooled)
    for name in ("alpha", "low", "high", "scale"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def test_lazy_signs_are_seen() -> None:
    x = stable(1.5, (100, 40), generator(0)).float() + 5
    found = count_values(torch._neg_view(x), "median", 4)
    assert torch.equal(found.middle, count_values(-x, "median", 4).middle)


def test_no_series_are_no_error() -> None:
    assert grouped_mle(torch.zeros(100, 0)).alpha.shape == (0,)


@needs_kernels
def test_little_stack_is_enough() -> None:
    x, found = odd_sample(1000, 40), []
    before = threading.stack_size(192 << 10)
    try:
        thread = threading.Thread(target=lambda: found.append(grouped_mle(x)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    torch.testing.assert_close(found[0].alpha, grouped_mle(x).alpha, rtol=0, atol=0, equal_nan=True)


def test_a_library_that_cannot_be_loaded_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    assert compiled._loaded(broken) is None


@needs_kernels
def test_a_library_from_before_a_change_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiled._library()
    assert library is not None
    path = Path(library._name)
    assert isinstance(compiled._loaded(path), ctypes.CDLL)
    monkeypatch.setattr(compiled, "_INTERFACE", 0)
    assert compiled._loaded(path) is None
