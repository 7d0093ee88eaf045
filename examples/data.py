"""Real images for the examples: scikit-learn's digits, and MNIST where its files are at hand."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits as sklearn_digits
from torch import Tensor
from torch.utils.data import TensorDataset

__all__ = ["Images", "load_digits", "load_idx"]

_IMAGES_MAGIC = 2051  # unsigned bytes, three dimensions
_LABELS_MAGIC = 2049  # unsigned bytes, one dimension
_TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class Images:
    """Labelled images in two parts.

    Attributes:
        name: What every figure made with these images has to call them.
        train: Pairs of an image, float in [0, 1] of shape ``[1, height, width]``, and its label, an integer.
        test: The same, from images that ``train`` does not hold.
    """

    name: str
    train: TensorDataset
    test: TensorDataset


def load_digits(seed: int = 0) -> Images:
    """Load the 1797 scans of 8 x 8 pixels that come with scikit-learn.

    Args:
        seed: Seed of the split into 1437 images to train on and 360 to test with.

    Returns:
        The images, named "digits".
    """
    digits = sklearn_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # 17 levels of grey, 0 to 16
    return _split("digits", images, torch.as_tensor(digits.target, dtype=torch.int64), seed)


def load_idx(folder: str | Path, seed: int = 0) -> Images:
    """Load MNIST from the IDX files in which it is distributed, plain or with the suffix ``.gz``.

    Args:
        folder: Where the files are: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with
            ``t10k``. Without the ``train`` files the 10,000 images of ``t10k`` are split into 8,000 and 2,000.
        seed: Seed of that split; not used where the ``train`` files are present.

    Returns:
        The images, named "MNIST", or "MNIST-10k" where they are those of ``t10k`` alone.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what its name says.
    """
    folder = Path(folder)
    test_images, test_labels = _read_pair(folder, "t10k")
    if not _candidates(folder, "train-images-idx3-ubyte"):
        return _split("MNIST-10k", test_images, test_labels, seed)
    return Images("MNIST", TensorDataset(*_read_pair(folder, "train")), TensorDataset(test_images, test_labels))


def _split(name: str, images: Tensor, labels: Tensor, seed: int) -> Images:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order.tensor_split([int(_TRAIN_SHARE * len(images))])
    return Images(name, TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]))


def _read_pair(folder: Path, prefix: str) -> tuple[Tensor, Tensor]:
    images = _read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"), _IMAGES_MAGIC)
    labels = _read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"), _LABELS_MAGIC)
    if len(images) != len(labels):
        raise ValueError(f"{prefix} needs one label per image, got {len(images)} images and {len(labels)} labels.")
    return images.unsqueeze(1) / 255, labels.long()


def _candidates(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def _find(folder: Path, name: str) -> Path:
    found = _candidates(folder, name)
    if not found:
        raise FileNotFoundError(f"load_idx needs {name} or {name}.gz, and {folder} has neither.")
    return found[0]


def _read_idx(path: Path, magic: int) -> Tensor:
    """Read one file: the magic number, whose last byte counts the dimensions, their lengths, then the bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(f"{path.name} needs the magic number {magic} of its kind of IDX file, got {found}.")
    start = 4 + 4 * (magic % 256)
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"{path.name} declares shape {shape} and needs {math.prod(shape)} bytes of it, got {len(content) - start}."
        )
    # A bytearray, since torch warns of memory that it may not write to.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)
