"""A store that fails is tried again a bounded number of times. No test sleeps."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.retry import STORE


class Failing:
    """A file system whose first calls fail with the same error."""

    def __init__(
        self, error: BaseException, times: int, calls: tuple[str, ...] | None = None
    ) -> None:
        self._real = fsspec.filesystem("file", auto_mkdir=True)
        self._error = error
        self._calls = calls
        self.left = times
        self.called = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.called += 1
            if self.left and (self._calls is None or name in self._calls):
                self.left -= 1
                raise self._error
            return real(*args, **kwargs)

        return call


class ThroughItsFileSystem(FolderStore):
    """A folder that is listed through its file system, so that listing can fail."""

    _find = ObjectStore._find


Verb = Callable[[ObjectStore], Any]


VERBS: dict[str, Verb] = {
    "read": lambda f: f.read("a/1"),
    "list": lambda f: f.list("a"),
    "stat": lambda f: f.etag("a/1"),
    "write": lambda f: f.put("a/1", b"one"),
    "publish": lambda f: f.publish("a/1", b"two", replaces=open_store(f._root).etag("a/1")),
    "delete": lambda f: f.delete(["a/1"]),
}


BROKEN = OSError(errno.EIO, "the disk is tired")


def failing(
    folder: Path, error: BaseException, times: int
) -> tuple[ObjectStore, Failing, list[float]]:
    open_store(str(folder)).put("a/1", b"one")
    fs, slept = Failing(error, times), []
    return ThroughItsFileSystem(fs, str(folder), sleep=slept.append), fs, slept


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_that_fails_for_a_while_is_tried_again(folder: Path, verb: str) -> None:
    files, fs, slept = failing(folder, BROKEN, STORE.tries - 1)
    wanted = VERBS[verb](open_store(str(folder))) if verb in ("read", "list", "stat") else None
    assert VERBS[verb](files) == wanted
    assert fs.left == 0
    assert len(slept) == STORE.tries - 1
    assert all(0 <= pause <= STORE.max_pause_s for pause in slept)


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_that_keeps_failing_is_given_up_and_named(folder: Path, verb: str) -> None:
    files, fs, slept = failing(folder, BROKEN, 10**6)
    with pytest.raises(StoreFault) as fault:
        VERBS[verb](files)
    path = f"{folder}/a" if verb == "list" else f"{folder}/a/1"
    assert str(fault.value) == f"could not {verb} in the store ({path}): Input/output error"
    assert (fs.called, len(slept)) == (STORE.tries, STORE.tries - 1)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("not yours"), "access was denied"),
        (PermissionError(errno.EACCES, "not yours"), "Permission denied"),
        (IsADirectoryError(errno.EISDIR, "a folder"), "Is a directory"),
        (NotADirectoryError(errno.ENOTDIR, "a file"), "Not a directory"),
    ],
)
def test_an_error_that_stays_is_raised_at_once(
    folder: Path, verb: str, error: OSError, words: str
) -> None:
    files, fs, slept = failing(folder, error, 10**6)
    with pytest.raises(StoreFault, match=f": {words}$"):
        VERBS[verb](files)
    assert (fs.called, slept) == (1, [])


def test_a_process_that_is_to_end_is_not_held_up_by_tries(folder: Path) -> None:
    files, fs, slept = failing(folder, KeyboardInterrupt(), 10**6)
    with pytest.raises(KeyboardInterrupt):
        files.read("a/1")
    assert (fs.called, slept) == (1, [])


def test_a_folder_that_is_removed_again_and_again_is_given_up(folder: Path) -> None:
    slept: list[float] = []
    files = FolderStore(
        Failing(FileNotFoundError("gone"), 10**6, ("pipe_file",)), str(folder), sleep=slept.append
    )
    with pytest.raises(StoreFault, match="it does not exist"):
        files.put("a/1", b"one")
    assert len(slept) == STORE.tries - 1


class FullDisk:
    """A file system on which no file of more than a byte has room."""

    def pipe_file(self, path: str, body: bytes) -> None:
        Path(path).write_bytes(body[:1])
        raise OSError(errno.ENOSPC, "no space")


def test_a_write_without_room_leaves_no_half_of_it(folder: Path) -> None:
    files = FolderStore(FullDisk(), str(folder), sleep=lambda _: None)
    with pytest.raises(StoreFault, match="No space left on device"):
        files.put("a/1", b"one")
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_store_that_refused_a_write_is_tried_before_more_is_done_and_only_then(
    tmp_path: Path,
) -> None:
    fs = Failing(OSError(errno.ENOSPC, "full"), 0, ("pipe_file",))
    store = FolderStore(fs, str(tmp_path), sleep=lambda _: None)
    store.put("a/1", b"one")
    fs.called = 0
    store.require_writable()
    assert fs.called == 0, "writes succeed: nothing is tried"
    fs.left = STORE.tries + 1
    with pytest.raises(StoreFault, match="No space left on device"):
        store.put("a/1", b"two")
    with pytest.raises(StoreFault, match="No space left on device"):
        store.require_writable()
    store.require_writable()
    fs.called = 0
    store.require_writable()
    assert fs.called == 0
    assert store.read("a/1") == b"one"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a/1"]
