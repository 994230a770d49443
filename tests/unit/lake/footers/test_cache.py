"""The cache of footers in one SQLite file: bounded, shared, and harmless when damaged."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from klinefleet.workers.domain.series import Partition, Source
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.cache import FooterCache, footer_cache_path
from klinefleet.workers.lake.footers.footer import FOOTER_KEY, Footer
from klinefleet.workers.storage.objects import StoredObject
from tests.answers import ASKED_MS
from tests.unit.helpers.footers import KEY, RecordingStore, footer_cache_at, hold, recall_all
from tests.unit.helpers.klines import MINUTES, minutes


@pytest.fixture
def files(tmp_path: Path) -> RecordingStore:
    return RecordingStore(tmp_path / "store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "coverage.sqlite"


def entry(n: int = 0, etag: str = "1") -> StoredObject:
    return StoredObject(
        keys.partition(Partition(MINUTES, f"{2000 + n // 12}-{n % 12 + 1:02}")), etag, 1
    )


def footer(n: int = 1) -> Footer:
    return Footer((Answer(minutes(0, n), Source.DAILY, ASKED_MS, "etag", "content"),))


def test_only_the_version_that_was_read_is_recalled(path: Path) -> None:
    footer_cache_at(path).put([(entry(0, "old"), footer(1)), (entry(1, "old"), footer(2))])
    assert recall_all(path, [entry(0, "new"), entry(1, "old")]) == {entry(1).key: footer(2)}
    footer_cache_at(path).put([(entry(0, "new"), footer(3))])
    assert recall_all(path, [entry(0, "new")]) == {entry(0).key: footer(3)}
    assert recall_all(path, [entry(0, "old")]) == {}


def test_a_store_is_never_answered_for_by_another(path: Path, tmp_path: Path) -> None:
    footer_cache_at(path, "s3://bucket/one").put([(entry(), footer())])
    for other in ("s3://bucket/two", "s3://bucket", "./data", str(tmp_path)):
        assert footer_cache_at(path, other).get([entry()]) == {}
    footer_cache_at(path, "s3://bucket/two").put([(entry(), footer(2))])
    assert footer_cache_at(path, "s3://bucket/one").get([entry()]) == {entry().key: footer()}
    assert footer_cache_at(path, "s3://bucket/two").get([entry()]) == {entry().key: footer(2)}


def test_a_folder_is_the_same_store_however_it_is_spelled(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    footer_cache_at(path, str(tmp_path / "data")).put([(entry(), footer())])
    assert footer_cache_at(path, "./data").get([entry()]) == {entry().key: footer()}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert footer_cache_at(path, "./data").get([entry()]) == {}


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1201])
def test_more_footers_than_a_statement_takes_are_all_recalled(path: Path, count: int) -> None:
    entries = [entry(n) for n in range(count)]
    footer_cache_at(path).put((one, footer(n + 1)) for n, one in enumerate(entries))
    assert recall_all(path, entries) == {one.key: footer(n + 1) for n, one in enumerate(entries)}


def test_the_memory_does_not_grow_without_bound_and_the_oldest_go_first(path: Path) -> None:
    entries = [entry(n) for n in range(30)]
    for one in entries:
        FooterCache("s3://bucket", path, max_kept=10).put([(one, footer())])
    assert list(recall_all(path, entries)) == [one.key for one in entries[-10:]]


def execute_sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(statement)


def damaged(path: Path) -> None:
    footer_cache_at(path).put([(entry(), footer())])
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)


SPOILED: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"this is no database at all" * 100),
    "a folder": lambda path: path.mkdir(),
    "damaged inside": damaged,
    "another program's": lambda path: execute_sql(
        path, "CREATE TABLE footers (url TEXT, seen INTEGER)"
    ),
    "other columns": lambda path: execute_sql(
        path, "CREATE TABLE footers (store, key, etag, footer, more)"
    ),
    "a view": lambda path: execute_sql(
        path, "CREATE VIEW footers AS SELECT 1 store, 2 key, 3 etag, 4 footer"
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_memory_stops_nothing_and_is_said(
    files: RecordingStore, path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(parents=True)
    SPOILED[how](path)
    hold(files, minutes(0, 60))
    lake = Coverage(files, footer_cache_at(path))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    "footer_text",
    [
        "",
        "{",
        "no json",
        '{"klinefleet.covered": "[[1]]"}',
        '{"klinefleet.covered": 5}',
        json.dumps({FOOTER_KEY: "{}"}),
        json.dumps({FOOTER_KEY: 5}),
        json.dumps({FOOTER_KEY: '{"partition": null, "answers": [[1]], "proof": null}'}),
    ],
)
def test_a_footer_that_was_spoiled_in_the_memory_is_read_from_the_store_and_mended(
    files: RecordingStore, path: Path, footer_text: str
) -> None:
    hold(files, minutes(0, 60))
    Coverage(files, footer_cache_at(path)).covered(MINUTES)
    with closing(sqlite3.connect(path)) as held, held:
        held.execute("UPDATE footers SET footer = ?", [footer_text])
    files.reads.clear()
    for _ in range(2):
        assert Coverage(files, footer_cache_at(path)).covered(MINUTES) == [minutes(0, 60)]
        assert files.reads == [KEY]


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_memory_is_closed_again(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(parents=True)
    SPOILED[how](path)
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(file: Path, timeout: float) -> sqlite3.Connection:
        opened.append(connect(file, timeout=timeout))
        return opened[-1]

    monkeypatch.setattr("klinefleet.workers.lake.footers.cache.sqlite3.connect", noted)
    footer_cache_at(path).put([(entry(), footer())])
    footer_cache_at(path).get([entry()])
    for one in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            one.execute("SELECT 1")


def test_a_memory_whose_folder_cannot_be_made_stops_nothing(
    files: RecordingStore, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    hold(files, minutes(0, 60))
    lake = Coverage(files, footer_cache_at(tmp_path / "cache" / "coverage.sqlite"))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]


def test_a_memory_that_is_deleted_meanwhile_is_made_anew(files: RecordingStore, path: Path) -> None:
    hold(files, minutes(0, 60))
    lake = Coverage(files, footer_cache_at(path))
    lake.covered(MINUTES)
    for left in path.parent.iterdir():
        left.unlink()
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY, KEY]


def test_threads_that_share_a_memory_do_not_disturb_each_other(path: Path) -> None:
    shared, wrong = footer_cache_at(path), list[object]()

    def work(first: int) -> None:
        for n in range(first, 60, 4):
            shared.put([(entry(n), footer(n + 1))])
            if shared.get([entry(n)]) != {entry(n).key: footer(n + 1)}:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(recall_all(path, [entry(n) for n in range(60)])) == 60


def note(path: Path, first: int) -> dict[str, Footer]:
    """Keep every second footer in a process of its own, and return what it recalled."""
    one, recalled = footer_cache_at(path), dict[str, Footer]()
    for n in range(first, 200, 2):
        one.put([(entry(n), footer(n + 1))])
        recalled |= one.get([entry(n), entry(n - first), entry(n + 1 - first)])
    return recalled


def test_two_processes_at_once_neither_stop_nor_spoil_each_other(path: Path) -> None:
    right = {entry(n).key: footer(n + 1) for n in range(200)}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        for one in [processes.submit(note, path, first) for first in range(2)]:
            assert one.result().items() <= right.items()
    recalled = recall_all(path, [entry(n) for n in range(200)])
    # A footer may go unremembered where both open the file at once: it is only ever a saving.
    assert recalled.items() <= right.items()
    assert len(recalled) > 100
    with closing(sqlite3.connect(path)) as held:
        assert held.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_memory_lies_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert footer_cache_path() == tmp_path / "klinefleet" / "coverage.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert footer_cache_path() == tmp_path / "home" / ".cache" / "klinefleet" / "coverage.sqlite"


def test_a_remembered_text_that_is_no_footer_is_read_again(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 10))
    coverage = Coverage(files, footer_cache_at(path))
    coverage.covered(MINUTES)
    execute_sql(path, "UPDATE footers SET footer = '[]'")
    assert coverage.covered(MINUTES) == [minutes(0, 10)]


def test_a_key_that_is_no_text_stops_nothing(path: Path) -> None:
    footer_cache_at(path).put(
        [(StoredObject("lake/symbol=\udcff/2024-01.parquet", "1", 1), Footer())]
    )
