"""Threads and processes on one folder: nothing is lost, no reader sees half an object."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.storage.open import open_store
from tests.processes import ROOT

KEY = "lake/market=um/symbol=BTCUSDT/2024-01.parquet"


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


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


def test_writers_and_deleters_of_one_folder_do_not_disturb_one_another(folder: Path) -> None:
    """A folder goes with its last object while another writer puts one in."""
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


def test_a_store_whose_empty_folder_goes_just_as_it_is_tried_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removes the folder between its creation and its use."""
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


def test_a_store_whose_empty_folder_goes_just_as_it_is_found_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mkdir` finds the folder, looks whether it is one, and by then it is gone."""
    files, make = open_store(str(tmp_path / "store")), Path.mkdir
    raced: list[Path] = []

    def racing(path: Path, *args: Any, **kwargs: Any) -> None:
        if not raced:
            raced.append(path)
            raise FileExistsError(errno.EEXIST, "it was there", str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", racing)
    files.check_writable()
    assert raced
