"""The examples' images: real, split reproducibly, and refused with a reason where a file is not what it says."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from examples.data import Images, load_digits, load_idx


def write_idx(path: Path, values: torch.Tensor, magic: int | None = None) -> None:
    header = struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim if magic is None else magic, *values.shape)
    content = header + bytes(values.flatten().tolist())
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_pair(folder: Path, prefix: str, count: int, suffix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 5, 4), generator=generator)
    labels = torch.arange(count)
    write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def rows(data: TensorDataset) -> set[tuple[float, ...]]:
    return {tuple(image.flatten().tolist()) for image in data.tensors[0]}


def test_digits_are_the_scans_of_scikit_learn() -> None:
    digits = load_digits()
    images, labels = digits.train.tensors
    assert digits.name == "digits"
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert images.shape[1:] == (1, 8, 8)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize("load", [load_digits, lambda seed: load_idx(Path(), seed)], ids=["digits", "idx"])
def test_the_split_is_the_seed_s_and_shares_no_image(
    load: Callable[[int], Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path, "t10k", 50)
    once, again, other = load(3), load(3), load(4)
    assert torch.equal(once.train.tensors[0], again.train.tensors[0])
    assert not torch.equal(once.train.tensors[0], other.train.tensors[0])
    assert len(rows(once.train) & rows(once.test)) == 0
    assert rows(once.train) | rows(once.test) == rows(other.train) | rows(other.test)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_both_pairs_are_mnist_as_written(tmp_path: Path, suffix: str) -> None:
    written = {prefix: write_pair(tmp_path, prefix, count, suffix) for prefix, count in (("train", 7), ("t10k", 3))}
    read = load_idx(tmp_path)
    assert read.name == "MNIST"
    for (images, labels), part in ((written["train"], read.train), (written["t10k"], read.test)):
        torch.testing.assert_close(part.tensors[0], images.unsqueeze(1) / 255)
        assert torch.equal(part.tensors[1], labels)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_t10k_alone_is_split_and_says_so(tmp_path: Path, suffix: str) -> None:
    images, _ = write_pair(tmp_path, "t10k", 10, suffix)
    read = load_idx(str(tmp_path))
    assert (read.name, len(read.train), len(read.test)) == ("MNIST-10k", 8, 2)
    for part in (read.train, read.test):
        torch.testing.assert_close(part.tensors[0][:, 0] * 255, images[part.tensors[1]].float())


@pytest.mark.parametrize("missing", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train-labels-idx1-ubyte"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_pair(tmp_path, "train", 7)
    write_pair(tmp_path, "t10k", 3)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"needs {missing} or {missing}.gz, and .* has neither"):
        load_idx(tmp_path)


def test_a_wrong_magic_number_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "t10k", 3)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", torch.zeros(3, 5, 4, dtype=torch.int64), magic=2049)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte needs the magic number 2051 .* got 2049"):
        load_idx(tmp_path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "t10k", 3)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"declares shape \[3\] and needs 3 bytes of it, got 2"):
        load_idx(tmp_path)


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "t10k", 3)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", torch.arange(2))
    with pytest.raises(ValueError, match="t10k needs one label per image, got 3 images and 2 labels"):
        load_idx(tmp_path)
