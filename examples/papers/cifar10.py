"""CIFAR-10 from its version for Python, where the user has it."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

__all__ = ["load_cifar10"]

_ARCHIVE, _FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
_TRAIN, _TEST = [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]
_SHAPE = (3, 32, 32)


class _Arrays(pickle.Unpickler):
    """Makes arrays, and nothing else: a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # wherever this numpy keeps it
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a batch of CIFAR-10 needs nothing but arrays, got {module}.{name}.")


def load_cifar10(folder: str | Path) -> tuple[TensorDataset, TensorDataset]:
    """Loads the 50,000 images to train on and the 10,000 to test with.

    Args:
        folder: Where ``cifar-10-python.tar.gz`` or, extracted, ``cifar-10-batches-py`` is.

    Returns:
        Pairs of an image, float in [0, 1] of shape ``[3, 32, 32]``, and its label, an integer.

    Raises:
        FileNotFoundError: If neither is there.
        ValueError: If a batch is not what its name says.
    """
    batches = _read(Path(folder), [*_TRAIN, *_TEST])
    return _joined([batches[name] for name in _TRAIN]), _joined([batches[name] for name in _TEST])


def _read(folder: Path, names: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    if (folder / _FOLDER).is_dir():
        return {name: _batch(name, (folder / _FOLDER / name).read_bytes()) for name in names}
    if not (folder / _ARCHIVE).is_file():
        raise FileNotFoundError(f"load_cifar10 needs {_FOLDER} or {_ARCHIVE}, and {folder} has neither.")
    with tarfile.open(folder / _ARCHIVE) as archive:
        return {name: _batch(name, _member(archive, f"{_FOLDER}/{name}")) for name in names}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise FileNotFoundError(f"{_ARCHIVE} needs the file {name}, and has none.")
    return file.read()


def _batch(name: str, content: bytes) -> tuple[Tensor, Tensor]:
    try:
        found = _Arrays(io.BytesIO(content), encoding="bytes").load()
        images, labels = torch.from_numpy(found[b"data"]), torch.tensor(found[b"labels"])
        return images.reshape(len(labels), *_SHAPE) / 255, labels
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} needs to be a batch of CIFAR-10 for Python, got {error!r}.") from error


def _joined(batches: list[tuple[Tensor, Tensor]]) -> TensorDataset:
    return TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
