"""CIFAR-10 in its version for Python: its folder and its archive, and what is none of it."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.papers.cifar10 import load_cifar10

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
SIZE = 40  # of 10,000


def content(place: int) -> bytes:
    """A batch as it is distributed, of random images; protocol 2 is what Python 2 wrote."""
    rng = np.random.default_rng(place)
    images = rng.integers(256, size=(SIZE, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": images, b"labels": [*range(10)] * (SIZE // 10)}, protocol=2)


def write_cifar10(folder: Path) -> None:
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for place, name in enumerate(NAMES):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content(place))
            archive.addfile(member, io.BytesIO(content(place)))


def test_archive_and_folder_are_the_images_as_written(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    from_archive = load_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    for place, name in enumerate(NAMES):
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(content(place))
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    for one, other in zip(from_archive, load_cifar10(tmp_path), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors, other.tensors, strict=True))
    (images, labels), test = from_archive[0].tensors, from_archive[1].tensors
    assert (images.shape, test[0].shape) == ((5 * SIZE, 3, 32, 32), (SIZE, 3, 32, 32))
    assert labels[:12].tolist() == [*range(10), 0, 1]
    written = np.random.default_rng(0).integers(256, size=(SIZE, 3072), dtype=np.uint8)
    assert torch.equal((images[:SIZE] * 255).round().flatten(1), torch.as_tensor(written).float())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"needs cifar-10-batches-py or cifar-10-python.tar.gz, and .* neither"):
        load_cifar10(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz"):
        pass
    with pytest.raises(FileNotFoundError, match=r"needs the file cifar-10-batches-py/data_batch_1"):
        load_cifar10(tmp_path)


class Harmful:
    """Unpickled, it would call something."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("harm",))


@pytest.mark.parametrize("bad", [pickle.dumps(Harmful()), b"", pickle.dumps({b"labels": [1]}), pickle.dumps([1])])
def test_what_is_no_batch_is_refused_and_not_run(
    tmp_path: Path, bad: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(bad)
    with pytest.raises(ValueError, match=r"data_batch_1 needs to be a batch of CIFAR-10 for Python"):
        load_cifar10(tmp_path)
    assert capsys.readouterr().out == ""
