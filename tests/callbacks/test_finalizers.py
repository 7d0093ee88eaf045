"""What closes, frees or deletes something when it is deleted does it once: copies leave training what they share."""

from __future__ import annotations

import ctypes
import gzip
import os
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lightning_tailindex import TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, Trace, train

pytestmark = pytest.mark.uncounted

FOLDER: dict[str, Path] = {}
AT_THE_END: list[Callable[[], object]] = []
"""Closes what else would be told by warnings of its own."""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> Iterator[None]:
    """Writes what the data sets below read."""
    FOLDER["path"] = tmp_path
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype("f4")
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        for i, row in enumerate(rows):
            archive.writestr(str(i), row.tobytes())
    np.savez(tmp_path / "rows.npz", **{str(i): row for i, row in enumerate(rows)})
    (tmp_path / "rows.bin").write_bytes(rows.tobytes())
    with gzip.open(tmp_path / "rows.gz", "wb") as file:
        file.write(rows.tobytes())
    yield
    FOLDER.clear()
    while AT_THE_END:
        AT_THE_END.pop()()


def path(name: str) -> Path:
    return FOLDER["path"] / name


class Reading(NoisyData):
    """Adds to its samples what it reads from what it holds open."""

    def row(self, index: int) -> bytes:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + torch.from_numpy(np.frombuffer(self.row(index), "f4").copy()), y


class Zipped(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.archive = zipfile.ZipFile(path("rows.zip"))
        AT_THE_END.append(self.archive.close)

    def row(self, index: int) -> bytes:
        return self.archive.read(str(index))


class Arrays(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.arrays = np.load(path("rows.npz"))
        AT_THE_END.append(self.arrays.close)

    def row(self, index: int) -> bytes:
        return bytes(self.arrays[str(index)].tobytes())


class Compressed(Reading):
    """Its file closes what it reads from when it is deleted, as every file of Python's own does."""

    def __init__(self) -> None:
        super().__init__()
        self.file = gzip.open(path("rows.gz"))  # noqa: SIM115 -- open as long as the data set is
        AT_THE_END.append(self.file.close)

    def row(self, index: int) -> bytes:
        self.file.seek(24 * index)
        return self.file.read(24)


class ClosesItsFile(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.file = path("rows.bin").open("rb")

    def row(self, index: int) -> bytes:
        self.file.seek(24 * index)
        return self.file.read(24)

    def __del__(self) -> None:
        self.file.close()


class ClosesItsDescriptor(Reading):
    """Has a number in the place of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.file = (os.open(path("rows.bin"), os.O_RDONLY),)

    def row(self, index: int) -> bytes:
        return os.pread(*self.file, 24, 24 * index)

    def __del__(self) -> None:
        os.close(*self.file)


class ClosesItsConnection(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:")

    def row(self, index: int) -> bytes:
        ((value,),) = self.connection.execute("select ?", (index / 40,)).fetchall()
        return np.full(6, value, "f4").tobytes()

    def __del__(self) -> None:
        self.connection.close()


class Temporary(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.file = tempfile.NamedTemporaryFile(dir=FOLDER["path"])  # noqa: SIM115 -- open as long as the data set is
        self.file.write(path("rows.bin").read_bytes())
        self.file.flush()
        self.folder = tempfile.TemporaryDirectory(dir=FOLDER["path"])
        AT_THE_END.extend((self.file.close, self.folder.cleanup))

    def row(self, index: int) -> bytes:
        assert Path(self.folder.name).is_dir()
        return Path(self.file.name).read_bytes()[24 * index : 24 * index + 24]


class Pointer:
    """What a library of C gave, and gets back; it writes down when."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(path("rows.bin").read_bytes())
        self.address = ctypes.cast(self.memory, ctypes.c_void_p)
        self.freed = Path(tempfile.mkdtemp(dir=FOLDER["path"])) / "freed"

    def __del__(self) -> None:
        if self.freed.parent.exists():
            self.freed.touch()


class Native(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.pointer = Pointer()

    def row(self, index: int) -> bytes:
        assert not self.pointer.freed.exists()
        return ctypes.string_at((self.pointer.address.value or 0) + 24 * index, 24)


class HoldsAnArchive(Net):
    def __init__(self) -> None:
        super().__init__()
        self.archive = zipfile.ZipFile(path("rows.zip"))
        AT_THE_END.append(self.archive.close)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        row = np.frombuffer(self.archive.read(str(batch_idx)), "f4").copy()
        return super().training_step([batch[0] + torch.from_numpy(row), batch[1]], batch_idx)


class ClosesItself(Net):
    """The module itself has a finalizer."""

    def __init__(self) -> None:
        super().__init__()
        self.file = path("rows.bin").open("rb")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.file.seek(0)
        assert self.file.read(1)
        return super().training_step(batch, batch_idx)

    def __del__(self) -> None:
        self.file.close()


class ArchivedData(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.archive = zipfile.ZipFile(path("rows.zip"))
        AT_THE_END.append(self.archive.close)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(NoisyData)()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        row = np.frombuffer(self.archive.read("3"), "f4").copy()
        return [batch[0] + torch.from_numpy(row), batch[1]]


class OrderInAFile(Sampler[int]):
    """Shuffles an array of its own in place, and closes its file."""

    def __init__(self) -> None:
        self.file = path("rows.bin").open("rb")
        self.order = np.arange(40)

    def __len__(self) -> int:
        return 40

    def __iter__(self) -> Iterator[int]:
        self.file.seek(0)
        start = self.file.read(1)[0]
        self.order[:] = (self.order[::-1] + start) % 40
        return iter(self.order.tolist())

    def __del__(self) -> None:
        self.file.close()


class StopsItsHelper(DataLoader[Any]):
    """Ends what reads ahead for it when it is deleted, as loaders do that keep their workers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.__dict__["helper"] = path("rows.bin").open("rb")

    def __iter__(self) -> Any:
        self.__dict__["helper"].seek(0)
        return super().__iter__()

    def __del__(self) -> None:
        self.__dict__["helper"].close()


def loader(data: Callable[[], Any], kind: type[DataLoader[Any]] = DataLoader, **options: Any) -> Callable[[], Any]:
    return lambda: kind(data(), **{"batch_size": 6, "shuffle": True, **options})


KINDS: dict[str, dict[str, Any]] = {
    "a zip archive": {"loader": loader(Zipped)},
    "archived arrays": {"loader": loader(Arrays)},
    "archived arrays by a worker": {"loader": loader(Arrays, num_workers=1)},
    "a compressed file": {"loader": loader(Compressed)},
    "a data set that closes its file": {"loader": loader(ClosesItsFile)},
    "a data set that closes a descriptor": {"loader": loader(ClosesItsDescriptor)},
    "a data set that closes a descriptor, by workers": {"loader": loader(ClosesItsDescriptor, num_workers=2)},
    "a data set that closes its connection": {"loader": loader(ClosesItsConnection)},
    "temporary files": {"loader": loader(Temporary)},
    "a pointer that is freed": {"loader": loader(Native)},
    "a module with an archive": {"loader": loader(NoisyData), "module": HoldsAnArchive},
    "a module that closes its file": {"loader": loader(NoisyData), "module": ClosesItself},
    "a data module with an archive": {"loader": ArchivedData},
    "a sampler that closes its file": {"loader": lambda: DataLoader(NoisyData(), 6, sampler=OrderInAFile())},
    "a loader that ends its helper": {"loader": loader(NoisyData, StopsItsHelper)},
}


def run(folder: Path, kind: str, *callbacks: Callback) -> Trace:
    options = dict(KINDS[kind])
    return train(str(folder), options.pop("loader"), callbacks, **options)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_bit_for_bit_and_keeps_what_it_holds_open(kind: str, tmp_path: Path) -> None:
    without = run(tmp_path / "without", kind)
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise")
    watched = run(tmp_path / "with", kind, watcher)
    # worker processes share the place where a file is read next: such data are replayed, once training has taken them
    assert len(watcher.reports) == (1 if kind == "archived arrays by a worker" else 7)
    assert without.differences(watched) == []
    try:
        naive = run(tmp_path / "naive", kind, NaiveMeasurement())
    except zipfile.BadZipFile:  # it moved the place where training's worker reads
        assert kind == "archived arrays by a worker"
    else:
        assert "parameters" in without.differences(naive)
