"""Runs scripts in processes that are forked from one that has imported Lightning for all of them.

Importing takes longer than what most of these scripts do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from time import monotonic

from lightning.fabric.plugins.environments.lightning import find_free_network_port


def forked() -> ForkServerContext:
    """Where processes are forked from: it computes nothing itself, so no thread of it can hold a lock."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "lightning_tailindex"])
    return context


def in_two_processes(module: str, folder: Path, *arguments: str, timeout: float) -> tuple[list[int | None], str]:
    """Does what `python -m module folder arguments` does, twice at once; returns exit codes and what was printed.

    Lightning finds its processes started, as by `torchrun`; `test_two_processes.py` lets Lightning start them.
    """
    port = find_free_network_port()
    files = [folder / f"rank{rank}.said" for rank in range(2)]
    for file in files:
        file.touch()
    ranks = [
        forked().Process(target=_rank, args=(rank, port, module, [str(folder), *arguments], files[rank]))
        for rank in range(2)
    ]
    return _ended(ranks, timeout), "".join(file.read_text() for file in files)


def script(path: Path, *arguments: str, folder: Path, timeout: float = 160) -> tuple[int | None, str]:
    """Does what `python -W ignore path arguments` does in a folder; returns its exit code and what was printed."""
    said = folder / "said.txt"
    said.touch()
    (code,) = _ended([forked().Process(target=_script, args=(path, arguments, folder, said))], timeout)
    return code, said.read_text()


def _ended(processes: Sequence[ForkServerProcess], timeout: float) -> list[int | None]:
    """Starts processes and returns the exit code of each, None of one that hangs."""
    end = monotonic() + timeout
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(0.0, end - monotonic()))
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _rank(rank: int, port: int, module: str, arguments: list[str], said: Path) -> None:
    _print_into(said)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank))
    os.environ["WORLD_SIZE"] = "2"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _script(path: Path, arguments: tuple[str, ...], folder: Path, said: Path) -> None:
    _print_into(said)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def _print_into(said: Path) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.__stdout__, sys.__stderr__):
        os.dup2(file, stream.fileno())  # type: ignore[union-attr]
