"""Runs a script in two processes at once, which are forked from one that has imported Lightning for all of them.

Importing takes longer than what most of these scripts do. Lightning finds its processes started, as it does with
`torchrun`; `test_two_processes.py` lets Lightning start them.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import monotonic

from lightning.fabric.plugins.environments.lightning import find_free_network_port


def forked() -> ForkServerContext:
    """Where processes are forked from: it trains nothing itself, so it has no threads that a fork would lose."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "lightning_tailindex"])
    return context


def in_two_processes(module: str, folder: Path, *arguments: str, timeout: float) -> tuple[list[int | None], str]:
    """Does what `python -m module folder arguments` does twice; returns the exit codes and what both have printed."""
    port, end = find_free_network_port(), monotonic() + timeout
    ranks = [forked().Process(target=_work, args=(rank, port, module, folder, arguments)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(max(0.0, end - monotonic()))
        codes = [rank.exitcode for rank in ranks]  # None of one that hangs
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    return codes, "".join((folder / f"rank{rank}.said").read_text() for rank in range(2))


def _work(rank: int, port: int, module: str, folder: Path, arguments: tuple[str, ...]) -> None:
    said = os.open(folder / f"rank{rank}.said", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank))
    os.environ["WORLD_SIZE"] = "2"
    sys.argv = [module, str(folder), *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
