"""Passes that leave alone what ``torch.compile`` compiled for training."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

__all__ = ["uncompiled_passes"]


def uncompiled_passes() -> AbstractContextManager[object]:
    """Runs inside what a class has compiled methods for as it was written, as far as torch can, from 2.6 on.

    A copy of a module has uncompiled copies of the functions that the module holds, but the methods of its class are
    those of training: a minibatch of another size would have them compiled for any size, and training would use that.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and to import it takes seconds
        return nullcontext()
    try:
        from torch.compiler import set_stance
    except ImportError:
        return nullcontext()
    stance: AbstractContextManager[object] = set_stance("force_eager")
    return stance
