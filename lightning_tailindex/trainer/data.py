"""The data of a measurement: read a second time where that can be done, remembered where it cannot, or its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, TypeAlias

from torch.utils._pytree import tree_unflatten
from torch.utils.data import DataLoader

from lightning_tailindex.noise.cloning import fresh_clone
from lightning_tailindex.noise.lengths import ends_short, known_length, length_if_copied, loader_batch_size
from lightning_tailindex.noise.loaders import can_be_cloned, shuffled_batches
from lightning_tailindex.noise.minibatches import LoaderBatch, copied, guess_size
from lightning_tailindex.noise.reaching import is_a

from .flavour import Trainer, move_data_to_device

__all__ = ["Batches", "Data", "Replay", "can_read_again", "check_dataloader", "data_of", "is_endless", "why_not_again"]

Batches: TypeAlias = DataLoader | Iterable[Any]  # type: ignore[type-arg]
"""What batches can be read from; command lines build a DataLoader, without its argument, and no other iterable."""

_ENDLESS_MODES = ("min_size", "max_size_cycle")


@dataclass(frozen=True)
class Data:
    """Data that can be read again and again.

    Attributes:
        sweep_length: Loader batches of this process in one sweep; None where nobody knows.
        batch_size: Samples in a complete loader batch; None where nobody knows.
        read: From integers that determine the order to the batches, before they are moved to the device.
        ends_short: Asks whether the last loader batch of a sweep is known to have fewer samples; it may copy a loader.
    """

    sweep_length: int | None
    batch_size: int | None
    read: Callable[[tuple[int, ...]], Iterator[LoaderBatch]]
    ends_short: Callable[[], bool] = lambda: False


def _is_combined(loader: object) -> bool:
    return is_a(loader, "CombinedLoader")


def is_endless(loaders: list[Any], mode: str) -> bool:
    """Whether loaders that are read side by side in a mode all have a part in each batch."""
    return len(loaders) == 1 or mode in _ENDLESS_MODES


def _is_read_again(loader: Any) -> bool:
    """Whether a loader has a length and an order that copies can follow; one that cannot be copied is not asked."""
    return can_be_cloned(loader) and length_if_copied(loader) is not None


def can_read_again(trainer: Trainer) -> bool:
    """Whether the training data can be read a second time; streams and what cannot be copied are replayed."""
    combined: Any = trainer.fit_loop._combined_loader
    loaders = combined.flattened
    return is_endless(loaders, combined._mode) and all(map(_is_read_again, loaders))


def why_not_again(trainer: Trainer) -> str:
    """Says in words why the training data are not read a second time."""
    combined: Any = trainer.fit_loop._combined_loader
    if is_endless(combined.flattened, combined._mode):
        return "its data are read only once"
    return f"a CombinedLoader of mode {combined._mode!r} is not read a second time"


def _cloned(loaders: list[Any], assemble: Callable[[list[object]], object], sweep_length: int, rank: int) -> Data:
    """Reads loaders side by side, each through its clone; they themselves are not iterated."""
    is_single = len(loaders) == 1  # which gives as many as are in a sweep
    lengths = [sweep_length if is_single else known_length(loader) or sweep_length for loader in loaders]

    def read(seed: tuple[int, ...]) -> Iterator[LoaderBatch]:
        streams = [
            shuffled_batches(loader, min(length, sweep_length), (*seed, i), rank)
            for i, (loader, length) in enumerate(zip(loaders, lengths, strict=True))
        ]
        for batches in zip(*streams, strict=False):
            samples = batches[0].samples if len(batches) == 1 else ()  # several loaders may have data sets of their own
            yield LoaderBatch(assemble([batch.data for batch in batches]), batches[0].size, samples=samples)

    is_cycled = sweep_length > lengths[0]
    return Data(
        sweep_length,
        loader_batch_size(loaders[0]),
        read,
        lambda: not is_cycled and ends_short(loaders[0], sweep_length),
    )


def _assembled(combined: Any) -> Callable[[list[object]], object]:
    return lambda batches: tree_unflatten(batches, combined._spec)


def _training_data(trainer: Trainer) -> Data:
    """Returns the training data in an order of its own; training's loaders are not iterated.

    Args:
        trainer: The trainer, whose limits on batches are followed.

    Returns:
        The data as the trainer's loader would give them.
    """
    combined: Any = trainer.fit_loop._combined_loader
    return _cloned(combined.flattened, _assembled(combined), int(trainer.num_training_batches), trainer.global_rank)


def check_dataloader(dataloader: Any) -> None:
    """Refuses what cannot be iterated again.

    Args:
        dataloader: What the user gave to take minibatches from.

    Raises:
        ValueError: If it is no iterable of batches that can be iterated more than once.
    """
    name = type(dataloader).__name__
    if _is_combined(dataloader):  # which is its own iterator
        loaders, mode = dataloader.flattened, dataloader._mode
        if not is_endless(loaders, mode):
            rule = f"of mode {' or '.join(map(repr, _ENDLESS_MODES))}"
            raise ValueError(f"dataloader must be {rule} where it is a {name}, got mode {mode!r}.")
        unread = [type(getattr(each, "dataset", each)).__name__ for each in loaders if not _is_read_again(each)]
        if unread:
            rule = "over map-style DataLoaders that have a length and can be copied"
            raise ValueError(f"dataloader must be {rule} where it is a {name}, got one over {unread[0]}.")
        return
    is_known = dataloader is None or isinstance(dataloader, Iterable)
    if not is_known or isinstance(dataloader, (Iterator, Mapping, str, bytes)):
        rule = "None or an iterable of batches that can be iterated again"
        raise ValueError(f"dataloader must be {rule}, got {name}.")


def _own_data(dataloader: Iterable[object], trainer: Trainer) -> Data:
    """Returns the data that the user gave to measure on.

    Args:
        dataloader: A loader, which is read in an order of the measurement's own where it can be; any other iterable of
            batches is read from its start in its own order, each process taking its turn.
        trainer: The trainer.

    Returns:
        The data.

    Raises:
        ValueError: If it is empty.
    """
    rank, world = trainer.global_rank, trainer.world_size
    if _is_combined(dataloader):
        combined: Any = dataloader
        lengths = [_some(known_length(loader) or 0) for loader in combined.flattened]
        sweep_length = min(lengths) if combined._mode == "min_size" else max(lengths)
        return _cloned(combined.flattened, _assembled(combined), sweep_length, rank)
    length = known_length(dataloader)
    turns = None if length is None else _some(length) // world
    if can_be_cloned(dataloader) and length is not None:
        return _cloned([dataloader], lambda batches: batches[0], length, rank)
    if turns == 0:
        raise ValueError(f"dataloader must have a batch for each of {world} processes, got {length}.")
    return Data(turns, None, lambda seed: _in_turn(dataloader, turns, rank, world))


def _some(length: int) -> int:
    if length == 0:
        raise ValueError("dataloader must have at least one batch, got 0.")
    return length


def _batches_of(dataloader: Iterable[object]) -> Iterator[object]:
    if isinstance(dataloader, DataLoader):
        return iter(fresh_clone(dataloader))
    return map(copied, dataloader)  # a training step may write into its batch, and this one comes again


def _in_turn(dataloader: Iterable[object], length: int | None, rank: int, world: int) -> Iterator[LoaderBatch]:
    """Gives each process every so many-th batch; again and again where it is known how many there are."""
    is_empty = False
    while not is_empty:
        is_empty, first = True, 0
        batches = _batches_of(dataloader)
        for position in count() if length is None else range(length):
            turn = list(islice(batches, world))
            if len(turn) < world:
                break  # all processes need the same number
            sizes = [guess_size(batch) for batch in turn]
            first = first or sizes[0] or 0
            is_last = length is not None and position + 1 == length
            yield LoaderBatch(turn[rank], sizes[rank], is_last and any((size or 0) < first for size in sizes))
            is_empty = False
        if length is None:
            return


class Replay:
    """The last batches that training itself saw, for data that cannot be read a second time.

    Args:
        length: Batches to keep.

    Attributes:
        length: The same.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._batches: deque[LoaderBatch] = deque(maxlen=length)

    @property
    def is_full(self) -> bool:
        """Whether all the batches asked for have been seen."""
        return len(self._batches) == self.length

    def see(self, batch: object, size: int | None) -> None:
        """Keeps a copy of a batch that training is about to use, in main memory; None is yet to be fetched."""
        if batch is not None:
            self._batches.append(LoaderBatch(copied(move_data_to_device(batch, "cpu")), size))

    def data(self) -> Data:
        """Returns what has been seen, in copies, because a training step may write into its batch."""
        return Data(self.length, None, lambda seed: (replace(own, data=copied(own.data)) for own in self._batches))


def data_of(trainer: Trainer, dataloader: Iterable[object] | None, replay: Replay | None) -> Data:
    """Chooses what a measurement reads.

    Args:
        trainer: The trainer.
        dataloader: What the user gave to take minibatches from; None for the training data.
        replay: What training saw of data that are read only once; None where they can be read again.

    Returns:
        The data.

    Raises:
        ValueError: If what the user gave is empty.
    """
    if dataloader is not None:
        return _own_data(dataloader, trainer)
    return _training_data(trainer) if replay is None else replay.data()
