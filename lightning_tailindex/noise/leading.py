"""One process decides, and all of them compute what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .processes import Processes

__all__ = ["led"]

T = TypeVar("T")


def led(
    together: Processes,
    is_leader: bool,
    work: Callable[[Callable[[Tensor], Tensor]], T],
    answer: Callable[[Tensor], Tensor],
    question: Callable[[], Tensor],
    share: Callable[[Any], T],
) -> T:
    """Lets one process ask questions, each of which all processes answer together, and tells all what it made of them.

    What depends on the answers, as when an iteration has converged, is decided once: two processes that decided for
    themselves could disagree in the last place, and then one of them would wait for ever. Only the leader keeps what
    the work keeps.

    Args:
        together: The processes; each of them has to call this.
        is_leader: Whether this is the one that asks.
        work: What to do, given what answers a question; called in the leader alone, which may fail at any time.
        answer: From a question to its answer. Called in every process with the same question; it returns in every
            process, or raises in each. What may fail in one alone, such as what the leader makes of the answer, belongs
            into ``work`` or into an agreement of its own.
        question: Makes a tensor as questions are: shape, type and device.
        share: Returns in every process what the leader gives it; the others give None.

    Returns:
        What ``work`` returned, in every process.

    Raises:
        Exception: What ``answer`` or ``work`` raised.
        OtherProcessError: If the leader's work failed, in the others.
    """
    if together.count == 1:
        return work(answer)

    # memory is asked for once, by agreement: a process that had none left later would leave the others waiting
    like, own = together.all_or_none(lambda: _memory(question()))

    def spread(asked: Tensor | None) -> Tensor:
        """The question that the leader asks; the number behind it is 0 where it has no more."""
        own.zero_()
        if asked is not None:
            own[:-1].copy_(asked.reshape(-1)).mul_(together.count)
            own[-1] = together.count
        return together.mean(own)

    if is_leader:
        result = _leads(together, work, lambda message: answer(message[:-1].view_as(like)), spread)
        return share(result)
    while (message := spread(None))[-1] > 0:
        answer(message[:-1].view_as(like))
    together.agree(None, 0)
    return share(None)


def _memory(question: Tensor) -> tuple[Tensor, Tensor]:
    """What questions are like, without values of its own, and a message that has room for one."""
    message = torch.empty(question.numel() + 1, dtype=question.dtype, device=question.device)
    return message[:-1].view_as(question), message


def _leads(
    together: Processes,
    work: Callable[[Callable[[Tensor], Tensor]], T],
    answer: Callable[[Tensor], Tensor],
    spread: Callable[[Tensor | None], Tensor],
) -> T:
    is_known_to_all = False

    def ask(asked: Tensor) -> Tensor:
        nonlocal is_known_to_all
        message = spread(asked)  # if it fails, then before the others have heard of it
        is_known_to_all = True  # whatever fails in an answer fails in every process
        answered = answer(message)
        is_known_to_all = False
        return answered

    try:
        result = work(ask)
    except Exception as error:
        if not is_known_to_all:
            spread(None)
            together.agree(error, 0)
        raise
    spread(None)
    together.agree(None, 0)
    return result
