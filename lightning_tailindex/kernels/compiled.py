"""Compiled loops for CPUs: what torch does in many passes over memory, in one.

Each has a counterpart in torch, which runs on other devices, in double precision, and where the C code could not be
compiled: to install the package takes no compiler, only to be as fast as it can be does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = [
    "MOST_SORTED",
    "DrawSums",
    "count",
    "fit",
    "in_rows",
    "is_compiled",
    "likelihood_sums",
    "peaks",
    "quartiles",
    "suit",
]

MOST_SORTED = 1024
"""Rows up to which a network sorts faster than numpy does."""

_INTERFACE = 2  # that of the functions whose arguments stand below
_MOST_SCALES, _MOST_CELLS = 704, 128  # what the C code has memory for, as many as its own constants say
_MOST_NODES, _MOST_NODES_OF_CURVES = 80, 256
_CHUNK = 1024  # coordinates that one thread adds up together
_BLOCK = 32  # series that one thread has at least
_FEWEST = 1 << 17  # steps below which another thread takes longer to start than it saves

_TABLE = [c_void_p, c_int64, c_int64, c_int64, c_float]
_ARGUMENTS = {
    "quartiles": [c_void_p, c_int64, c_void_p, c_int64, c_int32, c_void_p, c_void_p],
    "count": [c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_void_p],
    "peaks": [c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p],
    "likelihood_sums": [c_void_p, c_int64, c_void_p, *_TABLE, c_void_p],
    "fit": [c_void_p, c_int64, c_void_p, *_TABLE, *[c_void_p] * 3, c_float, c_float, c_float, c_void_p],
    "add_draws": [c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p],
}


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The C code; None where it was not compiled, or before a change, or where torch brings no OpenMP to it."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_compiled{suffix}")
        if path.exists():
            return _loaded(path)
    return None


def _loaded(path: Path) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    if library.interface() != _INTERFACE:
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name, None)
        if function is None:  # it came later
            return None
        function.argtypes, function.restype = [c_int32, c_int64, *arguments], None
    return library


def is_compiled() -> bool:
    """Whether the C code can be called."""
    return _library() is not None


def suit(*tensors: Tensor) -> bool:
    """Whether the kernels can be used for tensors: on a CPU, in single precision, with memory that can be read."""
    return is_compiled() and all(
        x.device.type == "cpu" and x.dtype == torch.float32 and type(x) in (Tensor, Parameter) and not x.is_neg()
        for x in tensors
    )


def quartiles(x: Tensor, rows: Tensor, *, absolute: bool) -> tuple[Tensor, Tensor]:
    """Finds quartiles of the non-zero values of each series.

    Args:
        x: Values, shape ``[n, series]``.
        rows: Which of them are looked at, int64, at most ``MOST_SORTED``.
        absolute: Whether their absolute values are.

    Returns:
        The lower quartile, the lower median and the upper quartile, shape ``[3, series]``, each one of the values, or 0
        for a series of zeros; and the number of non-zero values, shape ``[series]``.
    """
    if len(rows) > MOST_SORTED:
        raise ValueError(f"the kernels sort {MOST_SORTED} rows at most, got {len(rows)}.")
    x, series = in_rows(x), x.shape[1]
    found, present = x.new_empty(3, series), torch.empty(series, dtype=torch.int64, device="cpu")
    _call("quartiles", series, 4 * len(rows), x, x.stride(0), rows, len(rows), absolute, found, present)
    return found, present


def count(
    x: Tensor, middle: Tensor, factor: Tensor, counts: Tensor, *, shift: int, lowest: int, keep_index: bool
) -> tuple[Tensor, Tensor]:
    """Counts values in cells of the exponent and the first bits of the mantissa of |x - middle| factor.

    Args:
        x: Values, shape ``[n, series]``, n at most 2 ** 24.
        middle: What is subtracted, shape ``[series]``.
        factor: What is multiplied by, shape ``[series]``.
        counts: Filled in: counts of exact zeros and in each cell, shape ``[series, cells + 1]``, contiguous.
        shift: Bits of the representation of the product that are left out.
        lowest: What is left of those of the lowest cell.
        keep_index: Whether the bin of each value is kept.

    Returns:
        The bins of the values, uint8, shape ``[series, n]``, or ``[series, 0]``; and whether all values of a series
        are finite, shape ``[series]``.
    """
    x, middle, factor = in_rows(x), middle.contiguous(), factor.contiguous()
    n, series = x.shape
    index = torch.empty(series, n * keep_index, dtype=torch.uint8, device="cpu")
    finite = torch.empty(series, dtype=torch.bool, device="cpu")
    kept, cells = (index if keep_index else None), (shift, lowest, counts.shape[1])
    _call("count", series, n, x, n, x.stride(0), middle, factor, *cells, counts, kept, finite)
    return index, finite


def likelihood_sums(counts: Tensor, table: Tensor, smallest: float) -> Tensor:
    """Sums up the likelihood of counts over scales.

    Args:
        counts: Counts, shape ``[series, cells]``.
        table: Log-probabilities of the cells, shape ``[scales, nodes, cells]``.
        smallest: Logarithm that those of the likelihood over its maximum are raised to.

    Returns:
        The maximum of the log-likelihood over the scales; the sums of the likelihood over that maximum, of it times
        the places of the scales from the middle one, and over the outermost two; and the first two of its square:
        shape ``[6, nodes, series]``.
    """
    counts, table = in_rows(counts), _held(table)
    found, steps = counts.new_empty(6, table.shape[1], len(counts)), table.numel() // 16
    _call("likelihood_sums", len(counts), steps, counts, counts.stride(0), None, table, *table.shape, smallest, found)
    return found


def peaks(counts: Tensor, series: Tensor | None, tables: Sequence[Tensor], between: Sequence[bool]) -> Tensor:
    """Finds the maxima of curves that are products of counts and log-probabilities.

    Args:
        counts: Counts, shape ``[all series, cells]``.
        series: Which of all series, int64, shape ``[series]``; None for all.
        tables: Log-probabilities of the cells for each curve, shape ``[nodes, cells]``, at most 256 nodes in all.
        between: Whether the maximum of a curve is also looked for between its nodes, which have to be at least five.

    Returns:
        The highest node of each curve, the last of several, and the value of the maximum: ``[curves, 2, series]``.
    """
    counts, table = in_rows(counts), _held(torch.cat(list(tables))[None], _MOST_NODES_OF_CURVES)[0]
    number = len(counts if series is None else series)
    limits = torch.tensor([0, *accumulate(len(each) for each in tables)], device="cpu")
    found, steps = counts.new_empty(len(tables), 2, number), table.numel() // 16
    rows = (counts, counts.stride(0), None if series is None else series.contiguous())
    curves = (table, limits, torch.tensor(between, device="cpu"), len(tables), table.shape[1])
    _call("peaks", number, steps, *rows, *curves, found)
    return found


def fit(
    counts: Tensor,
    series: Tensor,
    table: Tensor,
    smallest: float,
    *,
    step: Tensor,
    median: Tensor,
    threshold: Tensor,
    pole: float,
    pole_over_threshold: float,
    before: float,
) -> Tensor:
    """Fits each series by the profile likelihood, the highest over the scales at each node.

    Args:
        counts: Counts, shape ``[all series, cells]``.
        series: Which of all series, int64, shape ``[series]``.
        table: As in :func:`likelihood_sums`, with at least five nodes.
        smallest: As in :func:`likelihood_sums`.
        step: Distance of the logarithms of the scales at each node, shape ``[nodes]``.
        median: Logarithm of the median of |X| at scale 1 at each node, shape ``[nodes]``.
        threshold: Of twice the fall from the maximum, up to which an interval goes, shape ``[series]``.
        pole: Fall to the last node by which a pole is known; infinity where none can be.
        pole_over_threshold: The same for intervals, over their threshold.
        before: How far before a pole an interval ends.

    Returns:
        The place of the maximum, those of both ends of its interval, the logarithm of the scale, the value of the
        maximum, the share of the outermost two scales at the highest node, and the values at the first and the last
        node: shape ``[8, series]``.
    """
    counts, table = in_rows(counts), _held(table)
    found, steps = counts.new_empty(8, len(series)), table.numel() // 16
    rows = (counts, counts.stride(0), series.contiguous())
    nodes = [value.to(torch.float32).contiguous() for value in (step, median)]
    numbers = (*table.shape, smallest, *nodes, threshold.contiguous())
    _call("fit", len(series), steps, *rows, table, *numbers, pole, pole_over_threshold, before, found)
    return found


class DrawSums:
    """Adds draws of gradients up, in one pass over memory: their differences from the first one, and the squares.

    Args:
        first: The first draw of each parameter, ``[1, size]``.
        sums: What the differences are added to, ``[1, size]`` each.
        squares: What the sums of their squares are added to, one number each.
    """

    def __init__(self, first: Sequence[Tensor], sums: Sequence[Tensor], squares: Sequence[Tensor]) -> None:
        self._owners = first, sums, squares
        self._kept = [_pointers(kept) for kept in self._owners]
        self._sizes = _int64([each.shape[1] for each in first])
        self._chunks = sum(-(-each.shape[1] // _CHUNK) for each in first)
        self._scratch = torch.empty(self._chunks, dtype=torch.float64, device="cpu")

    def __reduce__(self) -> tuple[object, ...]:
        """How it is copied: the addresses would be those of the original's memory."""
        return DrawSums, self._owners

    def add(self, gradients: Sequence[Tensor]) -> None:
        """Adds gradients ``[draws, size]`` of all parameters."""
        own = [in_rows(each) for each in gradients]
        strides = _int64([each.stride(0) for each in own])
        draws, kept = len(own[0]), (*self._kept, self._sizes, self._scratch)
        _call("add_draws", self._chunks, 4 * _CHUNK * draws, _CHUNK, len(own), _pointers(own), strides, draws, *kept)


def _pointers(tensors: Sequence[Tensor]) -> Tensor:
    return _int64([each.data_ptr() for each in tensors])


def _int64(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device="cpu")


def in_rows(x: Tensor) -> Tensor:
    """The same values, those of a row side by side in memory."""
    return x if x.stride(1) == 1 else x.contiguous()


def _held(table: Tensor, nodes: int = _MOST_NODES) -> Tensor:
    """The same table, of shape ``[scales, nodes, cells]``, if the C code has memory for what comes of it."""
    most = [_MOST_SCALES, nodes, _MOST_CELLS]
    if any(size > limit for size, limit in zip(table.shape, most, strict=True)):
        raise ValueError(f"the kernels hold tables of shape {most} at most, got {list(table.shape)}.")
    return table.contiguous()


def _call(name: str, series: int, steps: int, *arguments: Tensor | float | None) -> None:
    """Calls a function for series of so many steps each, in as many threads as torch may use and as pay."""
    library = _library()
    assert library is not None, "suit() has to be asked before"
    if series == 0:  # of no series there may be no memory either
        return
    threads = max(1, min(torch.get_num_threads(), series * steps // _FEWEST, series // _BLOCK))
    values = (value.data_ptr() if isinstance(value, Tensor) else value for value in arguments)
    getattr(library, name)(threads, series, *values)
