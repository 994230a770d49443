from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import footer_cache, keys
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footer import Footer, Origin
from klinefleet.workers.lake.footer_cache import FooterCache, footer_cache_path
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.storage.open import open_store
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes, opens

KEY = keys.partition(MINUTES, "2024-01")
ETHER = Series(Market.USD_M, KLINES, Interval.M1, "ETHUSDT")


class WatchedFiles(FolderStore):
    """A folder that tells which ends of objects were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(
            fsspec.filesystem("file", auto_mkdir=True),
            str(root),
            sleep=lambda s: pytest.fail(f"slept {s}"),
        )
        self.reads: list[str] = []
        self.before_read: Callable[[str], None] = lambda key: None

    def tail(self, key: str, size: int) -> bytes | None:
        self.before_read(key)
        self.reads.append(key)
        return super().tail(key, size)


@pytest.fixture
def files(tmp_path: Path) -> WatchedFiles:
    return WatchedFiles(tmp_path / "store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "coverage.sqlite"


def memory(path: Path | None, store: str = "s3://bucket") -> FooterCache:
    return FooterCache(store, path)


def hold(files: FolderStore, span: Span, series: Series = MINUTES, month: str = "2024-01") -> None:
    origin = Origin(span, Source.MONTHLY, "etag", "0123456789abcdef")
    Partitions(files).merge(series, month, frame(opens(span)), [span], [origin])


def entry(n: int = 0, etag: str = "1") -> StoredObject:
    return StoredObject(keys.partition(MINUTES, f"{2000 + n // 12}-{n % 12 + 1:02}"), etag, 1)


def footer(n: int = 1) -> Footer:
    return Footer((minutes(0, n),), (Origin(minutes(0, n), Source.DAILY, "etag", "content"),))


def told(path: Path, entries: Iterable[StoredObject]) -> dict[str, Footer]:
    return memory(path).recall(list(entries))


def test_a_partition_is_read_once_and_answered_from_memory_after_by_any_process(
    files: WatchedFiles, path: Path
) -> None:
    hold(files, minutes(0, 60))
    hold(files, minutes(0, 10), ETHER)
    for _ in range(3):
        lake = Coverage(files, memory(path))
        assert lake.covered(MINUTES) == [minutes(0, 60)]
        assert lake.covered_group(Market.USD_M, KLINES, Interval.M1) == {
            "BTCUSDT": [minutes(0, 60)],
            "ETHUSDT": [minutes(0, 10)],
        }
        assert lake.origins(MINUTES) == [
            Origin(minutes(0, 60), Source.MONTHLY, "etag", "0123456789abcdef")
        ]
    assert sorted(files.reads) == [KEY, keys.partition(ETHER, "2024-01")]


def test_a_changed_partition_is_never_answered_from_memory(files: WatchedFiles, path: Path) -> None:
    lake = Coverage(files, memory(path))
    for end in range(1, 6):
        hold(files, minutes(0, end))
        assert lake.covered(MINUTES) == [minutes(0, end)]
    assert files.reads == [KEY] * 5


def test_a_partition_that_was_put_back_smaller_is_not_believed_to_be_whole(
    files: WatchedFiles, path: Path
) -> None:
    lake = Coverage(files, memory(path))
    hold(files, minutes(0, 60))
    assert lake.covered(MINUTES) == [minutes(0, 60)]
    files.put(KEY, encode(frame([]), Footer((minutes(0, 1),))))
    assert lake.covered(MINUTES) == [minutes(0, 1)]


def test_a_partition_that_is_gone_covers_nothing_though_it_is_remembered(
    files: WatchedFiles, path: Path
) -> None:
    lake = Coverage(files, memory(path))
    hold(files, minutes(0, 60))
    lake.covered(MINUTES)
    files.delete([KEY])
    assert lake.covered(MINUTES) == []
    assert lake.covered_group(Market.USD_M, KLINES, Interval.M1) == {}


def test_a_partition_that_goes_between_listing_and_reading_covers_nothing(
    files: WatchedFiles, path: Path
) -> None:
    hold(files, minutes(0, 60))
    files.before_read = lambda key: files.delete([key])
    assert Coverage(files, memory(path)).covered(MINUTES) == []


def test_a_damaged_partition_is_said_every_time_and_never_remembered_as_empty(
    files: WatchedFiles, path: Path
) -> None:
    files.put(KEY, b"PAR1 but cut off")
    for _ in range(2):
        with pytest.raises(PartitionDamaged, match="left as it is"):
            Coverage(files, memory(path)).covered(MINUTES)
    assert files.reads == [KEY, KEY]


def test_what_is_no_partition_is_neither_read_nor_remembered(
    files: WatchedFiles, path: Path
) -> None:
    hold(files, minutes(0, 60))
    folder = keys.series_folder("lake", MINUTES)
    for name in ("_SUCCESS", "2024.parquet", "2024-01.parquet.bak", "notes.txt"):
        files.put(f"{folder}/{name}", b"not ours")
    assert Coverage(files, memory(path)).covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY]


def test_months_are_joined_and_symbols_of_any_script_kept_apart(
    files: WatchedFiles, path: Path
) -> None:
    february = Span(JANUARY.span.end_ms, JANUARY.span.end_ms + 60 * MINUTE_MS)
    last_hour = Span(JANUARY.span.end_ms - 60 * MINUTE_MS, JANUARY.span.end_ms)
    life = Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT")
    for one in (MINUTES, life):
        hold(files, last_hour, one)
        hold(files, february, one, "2024-02")
    lake, joined = Coverage(files, memory(path)), [Span(last_hour.start_ms, february.end_ms)]
    for _ in range(2):
        assert lake.covered(life) == joined
        assert lake.covered_group(Market.USD_M, KLINES, Interval.M1) == {
            "BTCUSDT": joined,
            "币安人生USDT": joined,
        }


def test_without_a_memory_every_footer_is_read_and_nothing_is_written(
    files: WatchedFiles, path: Path
) -> None:
    hold(files, minutes(0, 60))
    lake = Coverage(files, memory(None))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY, KEY]
    assert not path.parent.exists()


def test_an_empty_lake_leaves_no_memory_behind(files: WatchedFiles, path: Path) -> None:
    assert Coverage(files, memory(path)).covered(MINUTES) == []
    assert not path.parent.exists()


def test_only_the_version_that_was_read_is_recalled(path: Path) -> None:
    memory(path).keep([(entry(0, "old"), footer(1)), (entry(1, "old"), footer(2))])
    assert told(path, [entry(0, "new"), entry(1, "old")]) == {entry(1).key: footer(2)}
    memory(path).keep([(entry(0, "new"), footer(3))])
    assert told(path, [entry(0, "new")]) == {entry(0).key: footer(3)}
    assert told(path, [entry(0, "old")]) == {}


def test_a_store_is_never_answered_for_by_another(path: Path, tmp_path: Path) -> None:
    memory(path, "s3://bucket/one").keep([(entry(), footer())])
    for other in ("s3://bucket/two", "s3://bucket", "./data", str(tmp_path)):
        assert memory(path, other).recall([entry()]) == {}
    memory(path, "s3://bucket/two").keep([(entry(), footer(2))])
    assert memory(path, "s3://bucket/one").recall([entry()]) == {entry().key: footer()}
    assert memory(path, "s3://bucket/two").recall([entry()]) == {entry().key: footer(2)}


def test_a_folder_is_the_same_store_however_it_is_spelled(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(path, str(tmp_path / "data")).keep([(entry(), footer())])
    assert memory(path, "./data").recall([entry()]) == {entry().key: footer()}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert memory(path, "./data").recall([entry()]) == {}


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1201])
def test_more_footers_than_a_statement_takes_are_all_recalled(path: Path, count: int) -> None:
    entries = [entry(n) for n in range(count)]
    memory(path).keep((one, footer(n + 1)) for n, one in enumerate(entries))
    assert told(path, entries) == {one.key: footer(n + 1) for n, one in enumerate(entries)}


def test_the_memory_does_not_grow_without_bound_and_the_oldest_go_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footer_cache, "_MOST_KEPT", 10)
    entries = [entry(n) for n in range(30)]
    for one in entries:
        memory(path).keep([(one, footer())])
    assert list(told(path, entries)) == [one.key for one in entries[-10:]]


def foreign(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(statement)


def damaged(path: Path) -> None:
    memory(path).keep([(entry(), footer())])
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)


SPOILED: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"this is no database at all" * 100),
    "a folder": lambda path: path.mkdir(),
    "damaged inside": damaged,
    "another program's": lambda path: foreign(
        path, "CREATE TABLE footers (url TEXT, seen INTEGER)"
    ),
    "other columns": lambda path: foreign(
        path, "CREATE TABLE footers (store, key, etag, footer, more)"
    ),
    "a view": lambda path: foreign(
        path, "CREATE VIEW footers AS SELECT 1 store, 2 key, 3 etag, 4 footer"
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_memory_stops_nothing_and_is_said(
    files: WatchedFiles, path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(parents=True)
    SPOILED[how](path)
    hold(files, minutes(0, 60))
    lake = Coverage(files, memory(path))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    "footer_text",
    ["", "{", "no json", '{"klinefleet.covered": "[[1]]"}', '{"klinefleet.covered": 5}'],
)
def test_a_footer_that_was_spoiled_in_the_memory_is_read_from_the_store_and_mended(
    files: WatchedFiles, path: Path, footer_text: str
) -> None:
    hold(files, minutes(0, 60))
    Coverage(files, memory(path)).covered(MINUTES)
    with closing(sqlite3.connect(path)) as held, held:
        held.execute("UPDATE footers SET footer = ?", [footer_text])
    files.reads.clear()
    for _ in range(2):
        assert Coverage(files, memory(path)).covered(MINUTES) == [minutes(0, 60)]
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

    monkeypatch.setattr("klinefleet.workers.lake.footer_cache.sqlite3.connect", noted)
    memory(path).keep([(entry(), footer())])
    memory(path).recall([entry()])
    for one in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            one.execute("SELECT 1")


def test_a_memory_whose_folder_cannot_be_made_stops_nothing(
    files: WatchedFiles, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    hold(files, minutes(0, 60))
    lake = Coverage(files, memory(tmp_path / "cache" / "coverage.sqlite"))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]


def test_a_memory_that_is_deleted_meanwhile_is_made_anew(files: WatchedFiles, path: Path) -> None:
    hold(files, minutes(0, 60))
    lake = Coverage(files, memory(path))
    lake.covered(MINUTES)
    for left in path.parent.iterdir():
        left.unlink()
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY, KEY]


def test_many_footers_are_read_side_by_side_and_each_stays_with_its_key(
    files: WatchedFiles, path: Path
) -> None:
    spans = {f"COIN{n}USDT": minutes(n, n + 1) for n in range(40)}
    for symbol, span in spans.items():
        one = Series(Market.USD_M, KLINES, Interval.M1, symbol)
        files.put(keys.partition(one, "2024-01"), encode(frame([]), Footer((span,))))
    for _ in range(2):
        held = Coverage(files, memory(path)).covered_group(Market.USD_M, KLINES, Interval.M1)
        assert held == {symbol: [span] for symbol, span in spans.items()}
    assert len(files.reads) == 40


def test_threads_that_share_a_memory_do_not_disturb_each_other(path: Path) -> None:
    shared, wrong = memory(path), list[object]()

    def work(first: int) -> None:
        for n in range(first, 60, 4):
            shared.keep([(entry(n), footer(n + 1))])
            if shared.recall([entry(n)]) != {entry(n).key: footer(n + 1)}:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(told(path, [entry(n) for n in range(60)])) == 60


def note(path: Path, first: int) -> dict[str, Footer]:
    """Keep every second footer, one by one, as a process of its own; returns what it recalled on
    the way.
    """
    one, recalled = memory(path), dict[str, Footer]()
    for n in range(first, 200, 2):
        one.keep([(entry(n), footer(n + 1))])
        recalled |= one.recall([entry(n), entry(n - first), entry(n + 1 - first)])
    return recalled


def test_two_processes_at_once_neither_stop_nor_spoil_each_other(path: Path) -> None:
    right = {entry(n).key: footer(n + 1) for n in range(200)}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        for one in [processes.submit(note, path, first) for first in range(2)]:
            assert one.result().items() <= right.items()
    recalled = told(path, [entry(n) for n in range(200)])
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


def test_a_real_store_opened_by_its_path_is_covered_the_same(
    files: WatchedFiles, tmp_path: Path, path: Path
) -> None:
    hold(files, Span(JANUARY_MS, JANUARY_MS + MINUTE_MS))
    store = str(tmp_path / "store")
    assert Coverage(open_store(store), FooterCache(store, path)).covered(MINUTES) == [minutes(0, 1)]


def test_a_partition_replaced_while_it_was_read_is_not_remembered_as_what_it_was(
    files: WatchedFiles, path: Path
) -> None:
    hold(files, minutes(0, 10))
    (listed,) = files.list("lake")
    replaced = iter([lambda: hold(files, minutes(10, 60))])
    files.before_read = lambda _: next(replaced, lambda: None)()
    assert Coverage(files, memory(path)).covered(MINUTES) == [minutes(0, 60)]
    assert told(path, [listed]) == {}


def test_a_remembered_text_that_is_no_footer_is_read_again(files: WatchedFiles, path: Path) -> None:
    hold(files, minutes(0, 10))
    coverage = Coverage(files, memory(path))
    coverage.covered(MINUTES)
    foreign(path, "UPDATE footers SET footer = '[]'")
    assert coverage.covered(MINUTES) == [minutes(0, 10)]


def test_a_key_that_is_no_text_stops_nothing(path: Path) -> None:
    memory(path).keep([(StoredObject("lake/symbol=\udcff/2024-01.parquet", "1", 1), Footer())])
