"""Objects in a folder: conditional, bounded in its tries, and safe from other processes.

No test sleeps.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from klinefleet.workers.domain.errors import StoreFault, VersionConflict
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.storage.s3 import S3Store
from klinefleet.workers.support.retry import STORE
from tests.processes import ROOT

KEY = "lake/market=um/symbol=BTCUSDT/2024-01.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def files(folder: Path) -> ObjectStore:
    return open_store(str(folder), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def publish(files: ObjectStore, body: bytes) -> str:
    """Put a version in place of whatever there is, and return what tells it from others."""
    files.publish(KEY, body, replaces=files.etag(KEY))
    etag = files.etag(KEY)
    assert etag
    return etag


def test_what_was_put_is_read_listed_and_told_apart(files: ObjectStore) -> None:
    files.put("raw/a/1", b"one")
    files.put("raw/b/2", b"three")
    assert files.read("raw/a/1") == b"one"
    assert [(e.key, e.size) for e in files.list("raw")] == [("raw/a/1", 3), ("raw/b/2", 5)]
    assert [e.etag for e in files.list("raw")] == [files.etag("raw/a/1"), files.etag("raw/b/2")]


def test_what_is_not_there_is_none_and_no_error(files: ObjectStore) -> None:
    assert files.read(KEY) is None
    assert files.tail(KEY, 8) is None
    assert files.etag(KEY) is None
    assert files.list("lake") == []


def test_a_folder_is_listed_without_its_namesakes(files: ObjectStore) -> None:
    files.put("lake/symbol=BTC/1", b"")
    files.put("lake/symbol=BTCUSDT/1", b"")
    assert [e.key for e in files.list("lake/symbol=BTC")] == ["lake/symbol=BTC/1"]


@pytest.mark.parametrize("symbol", ["币安人生", "A[B]C", "A*", "A?", "ДОГЕ"])
def test_keys_are_taken_literally_in_any_script(files: ObjectStore, symbol: str) -> None:
    files.put(f"lake/{symbol}/1", b"one")
    files.put("lake/ABC/1", b"two")
    assert [(e.key, files.read(e.key)) for e in files.list(f"lake/{symbol}")] == [
        (f"lake/{symbol}/1", b"one")
    ]


@pytest.mark.parametrize(("size", "tail"), [(3, b"789"), (9, b"123456789"), (100, b"123456789")])
def test_a_tail_is_the_last_bytes_or_all_there_are(
    files: ObjectStore, size: int, tail: bytes
) -> None:
    files.put(KEY, b"123456789")
    assert files.tail(KEY, size) == tail


def test_putting_twice_is_putting_once(files: ObjectStore, folder: Path) -> None:
    files.put(KEY, b"same")
    files.put(KEY, b"same")
    assert [p.read_bytes() for p in everything(folder) if p.is_file()] == [b"same"]


def test_publishing_replaces_exactly_the_version_that_was_read(files: ObjectStore) -> None:
    files.publish(KEY, b"first", replaces=None)
    files.publish(KEY, b"second", replaces=files.etag(KEY))
    assert files.read(KEY) == b"second"


def stale(files: ObjectStore) -> str | None:
    old = publish(files, b"first")
    publish(files, b"other")
    return old


def stale_of_same_bytes(files: ObjectStore) -> str | None:
    old = publish(files, b"other")
    publish(files, b"other")
    return old


def gone(files: ObjectStore) -> str | None:
    old = publish(files, b"first")
    files.delete([KEY])
    return old


def unknown(files: ObjectStore) -> str | None:
    publish(files, b"other")
    return "0-0-0"


def believed_absent(files: ObjectStore) -> str | None:
    publish(files, b"other")
    return None


@pytest.mark.parametrize(
    "wrong", [stale, stale_of_same_bytes, gone, unknown, believed_absent], ids=lambda w: w.__name__
)
def test_publishing_over_any_other_version_fails_and_writes_nothing(
    files: ObjectStore, folder: Path, wrong: Callable[[ObjectStore], str | None]
) -> None:
    replaces = wrong(files)
    before = {path: path.read_bytes() for path in everything(folder) if path.is_file()}
    with pytest.raises(VersionConflict):
        files.publish(KEY, b"mine!", replaces=replaces)
    assert {path: path.read_bytes() for path in everything(folder) if path.is_file()} == before


def test_versions_published_one_upon_the_other_all_have_their_own_tag(files: ObjectStore) -> None:
    """Same length, same bytes, and as fast as can be: a file system may give a freed inode away
    again.
    """
    assert len({publish(files, b"same") for _ in range(60)}) == 60


def test_threads_that_publish_at_once_lose_nothing(folder: Path) -> None:
    def count() -> None:
        mine = open_store(str(folder))
        for _ in range(12):
            while True:
                etag = mine.etag(KEY)
                body = mine.read(KEY) if etag else None
                try:
                    mine.publish(
                        KEY, b"%d" % (int(body or b"0") + 1), replaces=etag if body else None
                    )
                    break
                except VersionConflict:
                    continue

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_store(str(folder)).read(KEY) == b"60"
    assert [p for p in everything(folder) if p.name.startswith(".")] == []


COUNTER = """
import sys
from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.storage.open import open_store
files = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    while True:
        etag = files.etag("count")
        body = files.read("count") if etag else None
        try:
            files.publish("count", b"%d" % (int(body or b"0") + 1), replaces=etag if body else None)
            break
        except VersionConflict:
            continue
"""


def test_processes_that_publish_at_once_lose_nothing(folder: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    counters = [
        subprocess.Popen([sys.executable, "-c", COUNTER, str(folder)], **pipes) for _ in range(2)
    ]
    for counter in counters:
        assert counter.stdout
        assert counter.stdout.readline() == b"ready\n"
    for counter in counters:
        counter.communicate(b"go\n", timeout=120)
    assert [counter.returncode for counter in counters] == [0, 0]
    assert open_store(str(folder)).read("count") == b"80"


def test_one_reader_never_sees_half_an_object(folder: Path) -> None:
    files, bodies, stop = (
        open_store(str(folder)),
        [b"a" * 200_000, b"b" * 200_000],
        threading.Event(),
    )
    files.put(KEY, bodies[0])
    seen: set[bytes | None] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(open_store(str(folder)).read(KEY))

    reader = threading.Thread(target=look)
    reader.start()
    for n in range(30):
        files.publish(KEY, bodies[n % 2], replaces=files.etag(KEY))
        files.put(KEY, bodies[n % 2])
    stop.set()
    reader.join()
    assert seen <= set(bodies)


def test_deleting_what_is_gone_is_no_error(files: ObjectStore) -> None:
    files.put("raw/a/1", b"")
    files.delete(["raw/a/1", "raw/a/1", "raw/never/was"])
    assert files.read("raw/a/1") is None


def test_emptied_folders_go_with_their_last_object_but_never_the_root(
    files: ObjectStore, folder: Path
) -> None:
    files.put("raw/a/b/1", b"")
    files.put("raw/a/2", b"")
    files.delete(["raw/a/b/1"])
    assert sorted(p.name for p in everything(folder)) == ["2", "a", "raw"]
    files.delete(["raw/a/2"])
    assert everything(folder) == []
    assert folder.is_dir()


def test_an_object_is_never_deleted_with_a_folder_that_is_not_empty(files: ObjectStore) -> None:
    files.put("raw/a/1", b"one")
    files.put("raw/a/2", b"two")
    files.delete(["raw/a/1"])
    assert files.read("raw/a/2") == b"two"


def test_what_a_killed_writer_left_half_written_is_never_listed(
    files: ObjectStore, folder: Path
) -> None:
    files.put("raw/a/1", b"")
    (folder / "raw/a/.2.0123456789abcdef").write_bytes(b"half")
    assert [e.key for e in files.list("raw")] == ["raw/a/1"]


def test_writers_and_deleters_of_one_folder_do_not_disturb_one_another(folder: Path) -> None:
    """A folder goes with its last object while another writer is about to put one in: after a pause
    all is well.
    """
    failed: list[BaseException] = []

    def churn(name: int) -> None:
        # The product's own pauses: without them four threads in step can use up all tries of one.
        files = open_store(str(folder))
        try:
            for _ in range(60):
                files.put(f"raw/a/b/{name}", b"one")
                assert files.read(f"raw/a/b/{name}") == b"one"
                files.delete([f"raw/a/b/{name}"])
        except BaseException as error:  # noqa: BLE001 - told by the test below
            failed.append(error)

    threads = [threading.Thread(target=churn, args=[name]) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_folder_that_goes_while_it_is_being_made_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `mkdir -p` meets when another process removes the parent it has just made."""
    make, left, slept = Path.mkdir, [2], list[float]()
    files = open_store(str(folder), sleep=slept.append)

    def racing(path: Path, *args: Any, **kwargs: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise FileNotFoundError(errno.ENOENT, "the parent has just gone", str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", racing)
    files.put("raw/a/b/1", b"one")
    assert files.read("raw/a/b/1") == b"one"


def test_a_writable_store_is_found_so_and_left_as_it_was(files: ObjectStore, folder: Path) -> None:
    folder.mkdir()
    files.check_writable()
    assert everything(folder) == []


def test_a_store_that_is_no_folder_is_told_at_once(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises((StoreFault, OSError)):
        open_store(str(folder)).check_writable()


class Failing:
    """A file system whose calls fail so many times, each with the same error, before they reach the
    real one.
    """

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
    """A folder that is listed through its file system too, so that a listing can be made to fail."""

    _find = ObjectStore._find


Verb = Callable[[ObjectStore], Any]
VERBS: dict[str, Verb] = {
    "read": lambda f: f.read("a/1"),
    "list": lambda f: f.list("a"),
    "look at": lambda f: f.etag("a/1"),
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
    wanted = VERBS[verb](open_store(str(folder))) if verb in ("read", "list", "look at") else None
    assert VERBS[verb](files) == wanted
    assert fs.left == 0
    assert len(slept) == STORE.tries - 1
    assert all(0 <= pause <= STORE.longest_pause_s for pause in slept)


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_that_keeps_failing_is_given_up_and_named(folder: Path, verb: str) -> None:
    files, fs, slept = failing(folder, BROKEN, 10**6)
    with pytest.raises(StoreFault) as fault:
        VERBS[verb](files)
    assert str(
        fault.value
    ) == f"could not {verb} {folder}/a/{'' if verb == 'list' else '1'}: OSError: {BROKEN}".replace(
        "/a/:", "/a:"
    )
    assert (fs.called, len(slept)) == (STORE.tries, STORE.tries - 1)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "error",
    [PermissionError("not yours"), IsADirectoryError("a folder"), NotADirectoryError("a file")],
)
def test_what_will_not_pass_is_told_at_once(folder: Path, verb: str, error: OSError) -> None:
    files, fs, slept = failing(folder, error, 10**6)
    with pytest.raises(StoreFault, match=type(error).__name__):
        VERBS[verb](files)
    assert (fs.called, slept) == (1, [])


def test_a_process_that_is_told_to_end_is_not_held_up_by_tries(folder: Path) -> None:
    files, fs, slept = failing(folder, KeyboardInterrupt(), 10**6)
    with pytest.raises(KeyboardInterrupt):
        files.read("a/1")
    assert (fs.called, slept) == (1, [])


def test_a_folder_that_is_removed_again_and_again_is_given_up(folder: Path) -> None:
    slept: list[float] = []
    files = FolderStore(
        Failing(FileNotFoundError("gone"), 10**6, ("pipe_file",)), str(folder), sleep=slept.append
    )
    with pytest.raises(StoreFault, match="FileNotFoundError: gone"):
        files.put("a/1", b"one")
    assert len(slept) == STORE.tries - 1


class Bucket:
    """A bucket that answers conditional PUTs as S3 does, as far as `publish` sees it."""

    def __init__(self, code: str | None = None) -> None:
        self.code = code
        self.put: list[dict[str, Any]] = []

    def pipe_file(self, path: str, body: bytes, **options: Any) -> None:
        self.put.append({"path": path, "body": body, **options})
        if self.code:
            cause = Exception("from the server")
            cause.response = {"Error": {"Code": self.code}}  # type: ignore[attr-defined]
            raise OSError(errno.EIO, self.code) from cause

    def info(self, path: str) -> dict[str, Any]:
        return {"ETag": '"abc"', "size": 3}


@pytest.mark.parametrize(
    ("replaces", "condition"), [("abc", {"IfMatch": "abc"}), (None, {"IfNoneMatch": "*"})]
)
def test_a_bucket_is_asked_to_replace_one_version_in_one_put(
    replaces: str | None, condition: dict[str, str]
) -> None:
    bucket = Bucket()
    S3Store(bucket, "bucket/prefix").publish("a/1", b"one", replaces=replaces)
    [put] = bucket.put
    assert (put["path"], put["body"]) == ("bucket/prefix/a/1", b"one")
    assert {name: put[name] for name in ("IfMatch", "IfNoneMatch") if name in put} == condition
    assert put["chunksize"] >= 5 * 2**30


@pytest.mark.parametrize(
    "code", ["PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"]
)
def test_a_bucket_that_holds_another_version_says_changed_and_is_asked_once(code: str) -> None:
    bucket = Bucket(code)
    with pytest.raises(VersionConflict):
        S3Store(bucket, "bucket", sleep=lambda _: pytest.fail("slept")).publish(
            "a/1", b"one", replaces="abc"
        )
    assert len(bucket.put) == 1


def test_a_bucket_that_fails_otherwise_is_tried_again_with_the_same_condition() -> None:
    bucket = Bucket("SlowDown")
    with pytest.raises(StoreFault, match="SlowDown"):
        S3Store(bucket, "bucket", sleep=lambda _: None).publish("a/1", b"one", replaces="abc")
    assert [put["IfMatch"] for put in bucket.put] == ["abc"] * STORE.tries


def test_tags_of_a_bucket_are_read_without_their_quotes() -> None:
    assert S3Store(Bucket(), "bucket").etag("a/1") == "abc"


def test_a_store_whose_empty_folder_goes_just_as_it_is_tried_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the last raw object away takes its folder as well, between its making and its
    use.
    """
    files, real = open_store(str(tmp_path / "store")), Path.replace
    gone: list[Path] = []

    def replace(self: Path, target: str) -> Path:
        if not gone:
            gone.append(self)
            shutil.rmtree(self.parent)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    files.check_writable()
    assert gone
