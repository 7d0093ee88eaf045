"""Trainings in processes of their own, each forked from one in which Lightning is loaded already."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

__all__ = ["preload", "train"]

_APPLICATION = Path(__file__).parent / "run.py"
# What takes seconds to load; whichever of Lightning's two names is not there is passed over.
_LIBRARIES = ["lightning.pytorch.cli", "pytorch_lightning.cli", "lightning_tailindex", "matplotlib.figure", "optuna"]


class _Descriptor:
    """An open file that a process inherits from its server; what it holds locked stays so until all have ended."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], _Descriptor], tuple[Any]]:
        return _received, (DupFd(self.number),)


def _received(descriptor: Any) -> _Descriptor:
    return _Descriptor(descriptor.detach())


def _main(arguments: Sequence[str], output: Path, held: _Descriptor) -> None:
    """Does what ``python run.py ARGUMENTS >> OUTPUT 2>&1`` does."""
    with output.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = [str(_APPLICATION), *arguments]
    runpy.run_path(str(_APPLICATION), run_name="__main__")


def preload(threads: int) -> None:
    """Says what trainings have in common: the libraries, and how many threads each may use."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    # CUDA cannot be used in a process forked from one that has asked its driver.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    multiprocessing.get_context("forkserver").set_forkserver_preload(_LIBRARIES)


def train(arguments: Sequence[str], output: Path, lock: int) -> int:
    """Trains in a process of its own, and waits for its end.

    Args:
        arguments: Those of run.py.
        output: File to which everything is appended that it says.
        lock: Descriptor of a locked file, which stays locked as long as the process lives.

    Returns:
        Its exit status.

    Raises:
        RuntimeError: If it cannot be started.
    """
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_main, args=(arguments, output, _Descriptor(lock)))
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise RuntimeError(f"no process could be started for {output.parent.name}: {error!r}") from error
    process.join()
    return process.exitcode or 0
