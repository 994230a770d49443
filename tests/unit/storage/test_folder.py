"""Objects in a folder: put, listed, published over one version, deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import StoreFault, VersionConflict
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store

KEY = "lake/market=um/symbol=BTCUSDT/2024-01.parquet"


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def publish(files: ObjectStore, body: bytes) -> str:
    """Put a version in place of whatever there is, and return what tells it from others."""
    files.publish(KEY, body, replaces=files.etag(KEY))
    etag = files.etag(KEY)
    assert etag
    return etag


def test_what_was_put_is_read_and_listed_by_version(files: ObjectStore) -> None:
    files.put("raw/a/1", b"one")
    files.put("raw/b/2", b"three")
    assert files.read("raw/a/1") == b"one"
    assert [(e.key, e.size) for e in files.list("raw")] == [("raw/a/1", 3), ("raw/b/2", 5)]
    assert [e.etag for e in files.list("raw")] == [files.etag("raw/a/1"), files.etag("raw/b/2")]


def test_what_is_not_there_is_none_and_no_error(files: ObjectStore) -> None:
    assert files.read(KEY) is None
    assert files.read_tail(KEY, 8) is None
    assert files.etag(KEY) is None
    assert files.list("lake") == []


def test_a_folder_is_listed_without_its_namesakes(files: ObjectStore) -> None:
    files.put("lake/symbol=BTC/1", b"")
    files.put("lake/symbol=BTCUSDT/1", b"")
    assert [e.key for e in files.list("lake/symbol=BTC")] == ["lake/symbol=BTC/1"]


def test_links_in_a_circle_neither_hide_nor_repeat_what_is_there(
    files: ObjectStore, tmp_path: Path
) -> None:
    """Two links each would be followed a trillion times before the kernel gives up."""
    root = Path(files.address(""))
    files.put("lake/a/1", b"one")
    files.put("lake/b/2", b"two")
    for name in ("a/up", "b/up"):
        (root / "lake" / name).symlink_to(root)
    (root / "lake/a/b").symlink_to("../b")
    (root / "lake/b/a").symlink_to("../a")
    (root / "lake/self").symlink_to("self")
    (root / "lake/other").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "3").write_bytes(b"three")
    listed = [entry.key for entry in files.list("lake")]
    assert {"lake/a/1", "lake/b/2", "lake/other/3"} <= set(listed)
    assert len(listed) < 10


def test_a_store_whose_path_is_a_circle_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    slept: list[float] = []
    store = open_store(str(tmp_path / "loop" / "store"), sleep=slept.append)
    for call in (lambda: store.list("lake"), lambda: store.read(KEY), store.check_writable):
        with pytest.raises(StoreFault, match=r"loop/store/.*: Too many levels of symbolic links"):
            call()
    assert slept == []


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
    assert files.read_tail(KEY, size) == tail


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
    """Same bytes in quick succession: a file system may reuse a freed inode."""
    assert len({publish(files, b"same") for _ in range(60)}) == 60


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


def test_what_a_killed_writer_left_is_deleted_once_it_cannot_be_written_any_more(
    files: ObjectStore, folder: Path
) -> None:
    files.put("raw/a/1", b"")
    files.put("raw/a/.2.crc", b"another program's")
    names = {".2." + "a" * 32: 3700, ".2." + "b" * 32: 3500, ".2.crc": 3700, "1": 3700}
    for name, age_s in names.items():
        path = folder / "raw/a" / name
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    assert [e.key for e in files.list("raw")] == ["raw/a/1"]
    assert {path.name for path in (folder / "raw/a").iterdir()} == set(names) - {".2." + "a" * 32}


def test_a_writable_store_is_found_so_and_left_as_it_was(files: ObjectStore, folder: Path) -> None:
    folder.mkdir()
    files.check_writable()
    assert everything(folder) == []


def test_a_store_that_is_no_folder_fails_at_once(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreFault, match="Not a directory"):
        open_store(str(folder)).check_writable()
