import copy
import gzip
import io
import multiprocessing
import pickle
import queue
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from lightning_tailindex.noise.cloning import full_clone
from lightning_tailindex.noise.copying import copy_data
from lightning_tailindex.noise.loaders import shuffled_batches

ENDED: list[str] = []


class Ending:
    """Says which of its kind were deleted."""

    def __init__(self, name: str, *parts: object) -> None:
        self.name, self.parts, self.counts = name, parts, [0]

    def __del__(self) -> None:
        ENDED.append(self.name)


class Slotted(Ending):
    __slots__ = ("more",)


class Listed(Ending):
    """Knows which classes derive from it."""

    kinds: list[str] = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        Listed.kinds.append(cls.__name__)


@pytest.fixture(autouse=True)
def _nothing_ended_yet() -> None:
    ENDED.clear()


@pytest.mark.parametrize("kind", [Ending, Slotted])
def test_a_copy_that_is_deleted_ends_nothing(kind: type[Ending]) -> None:
    original = kind("outer", kind("inner"))
    copied = copy_data(original)
    assert isinstance(copied, kind)
    assert (type(copied).__name__, type(copied).__module__) == (kind.__name__, kind.__module__)
    copied.counts[0] += 1
    again = copy_data(copied)
    del copied, again
    assert ENDED == []
    assert original.counts == [0]
    plain = copy.deepcopy(original)  # the control
    del plain
    assert ENDED == ["outer", "inner"]
    del original
    assert len(ENDED) == 4


def test_what_was_copied_before_an_error_ends_nothing() -> None:
    original = SimpleNamespace(first=Ending("first"), stream=(i for i in range(3)))
    with pytest.raises(TypeError, match="generator"):
        copy_data(original)
    assert ENDED == []
    with pytest.raises(TypeError, match="generator"):
        copy.deepcopy(original)  # the control
    assert ENDED == ["first"]


def test_what_is_shared_keeps_its_finalizer() -> None:
    shared = Ending("shared")
    copied = copy_data(SimpleNamespace(part=shared), share=(shared,))
    del copied
    assert type(shared) is Ending
    del shared
    assert ENDED == ["shared"]


def test_a_proxy_is_copied_without_the_finalizer_of_what_it_stands_for() -> None:
    original = Ending("original")
    copied = copy_data(SimpleNamespace(proxy=weakref.proxy(original)))
    del copied
    assert ENDED == []
    plain = copy.deepcopy(SimpleNamespace(proxy=weakref.proxy(original)))  # the control
    del plain
    assert ENDED == ["original"]


def test_worker_processes_end_what_is_their_own() -> None:
    original = Ending("elsewhere")
    copied = pickle.loads(pickle.dumps(copy_data(original)))
    assert type(copied) is type(original)
    del copied
    assert ENDED == ["elsewhere"]


def test_a_class_that_keeps_a_list_of_its_kinds_gets_no_other_one() -> None:
    original = Listed("listed")
    with pytest.raises(TypeError, match="cannot copy Listed: it ends something in __del__"):
        copy_data(original)
    assert (Listed.kinds, ENDED) == ([], [])


class Reopened(Ending):
    """Says what a copy has: nothing of the original's, but what its user gives it."""

    def __getstate__(self) -> dict[str, Any]:
        return {"name": "copy", "parts": self.parts, "counts": [0]}


def test_a_copy_that_shares_nothing_by_its_own_word_ends_what_is_its_own(tmp_path: Path) -> None:
    original = Reopened("original")
    copied = copy_data(original)
    del copied
    assert ENDED == ["copy"]
    with (tmp_path / "file").open("w") as file:
        original.parts = (file,)
        copied = copy_data(original)
        del copied
        assert ENDED == ["copy"]


class Finalized:
    """Ends by a callback instead of a method."""

    def __init__(self) -> None:
        self.end = weakref.finalize(self, ENDED.append, "finalized")


def test_callbacks_of_an_original_are_none_of_its_copy() -> None:
    original = Finalized()
    copied = copy_data(original)
    del copied
    assert ENDED == []
    del original
    assert ENDED == ["finalized"]


def test_files_of_every_kind_are_shared_but_for_those_in_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "data", "wb") as file:
        copied = copy_data(SimpleNamespace(file=file, memory=io.BytesIO(b"abc"), text=io.StringIO("abc")))
        assert copied.file is file
        assert (copied.memory.read(), copied.text.read()) == (b"abc", "abc")
        del copied
        assert not file.closed


class Numbers(Ending):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


class EndingLoader(DataLoader[Any]):
    """Ends its helpers with itself."""

    def __del__(self) -> None:
        ENDED.append("loader")


def test_loaders_and_their_data_are_cloned_without_their_finalizers() -> None:
    loader: EndingLoader = EndingLoader(Numbers("data"), 2)  # type: ignore[arg-type]
    clone = full_clone(loader)
    assert next(iter(clone)).tolist() == [0, 1]
    del clone
    batches = shuffled_batches(loader, 4, (0,))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert ENDED == []
    plain = copy.copy(loader)  # the control
    del plain
    assert ENDED == ["loader"]


@pytest.mark.skipif(sys.platform == "win32", reason="it is the other way to start processes that is asked for")
def test_data_with_a_finalizer_reach_processes_that_are_started_anew() -> None:
    context = multiprocessing.get_context("spawn")
    loader: Any = DataLoader(Numbers("data"), 2, num_workers=1, multiprocessing_context=context)  # type: ignore[arg-type]
    assert sorted(batch.tolist() for batch in full_clone(loader)) == [[0, 1], [2, 3], [4, 5], [6, 7]]


class Remote(io.RawIOBase):
    """A file that says how another one is opened where it stands, as those of remote storage do."""

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def __reduce__(self) -> Any:
        return Remote, (self.position,)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        self.position += len(buffer)
        return len(buffer)


def test_a_file_that_says_how_it_is_copied_is_read_on_by_nobody_else() -> None:
    file = Remote()
    file.read(3)
    copied = copy_data([file])[0]
    copied.read(5)
    assert (file.position, copied.position) == (3, 8)
    del copied
    assert not file.closed


def test_what_threads_write_while_others_are_asked_stays() -> None:
    class Counting:
        def __init__(self) -> None:
            self.seen, self.slow = 0, Slow(self)

        def __getstate__(self) -> dict[str, object]:
            return dict(vars(self))

    class Slow:
        def __init__(self, owner: Counting) -> None:
            self.owner = owner

        def __deepcopy__(self, memo: dict[int, object]) -> Any:
            self.owner.seen += 1  # as another thread would meanwhile
            return self

    counting = Counting()
    copy_data(counting)
    assert counting.seen == 1


def test_long_data_beside_what_a_copy_opens_let_it_end_that(tmp_path: Path) -> None:
    class Lazy:
        def __init__(self) -> None:
            self.paths, self.opened = [str(i) for i in range(2000)], False

        def __getstate__(self) -> dict[str, object]:
            return {**vars(self), "opened": False}

        def __del__(self) -> None:
            if self.opened:
                ENDED.append("lazy")

    lazy = Lazy()
    copied = copy_data(lazy)
    assert copied.paths is lazy.paths
    copied.opened = True
    del copied
    assert ENDED == ["lazy"]


def test_an_event_is_asked_without_waiting() -> None:
    event = copy_data({"stop": threading.Event()})["stop"]
    assert event.wait(0) is False
    with pytest.raises(RuntimeError, match="would wait for another thread"):
        event.wait(0.01)


def test_of_data_that_are_not_read_queues_are_copied_and_what_is_done_is_shared() -> None:
    waiting: queue.Queue[int] = queue.Queue()
    with pytest.raises(TypeError, match="cannot copy a Queue"):
        copy_data([waiting])
    (copied,) = copy_data([waiting], is_read=False)
    copied.put(1)
    assert waiting.empty()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: 3)
        assert done.result() == 3
    assert copy_data([done])[0].result() == 3
