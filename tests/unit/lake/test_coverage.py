"""Coverage of a lake, read from its footers with the cache and without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.storage.open import open_store
from tests.answers import covering, footer_of
from tests.unit.helpers.footers import KEY, RecordingStore, footer_cache_at, hold, recall_all
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes

ETHER = Series(Market.USD_M, KLINES, Interval.M1, "ETHUSDT")


@pytest.fixture
def files(tmp_path: Path) -> RecordingStore:
    return RecordingStore(tmp_path / "store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "coverage.sqlite"


def test_a_partition_is_read_once_and_answered_from_memory_after_by_any_process(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 60))
    hold(files, minutes(0, 10), ETHER)
    for _ in range(3):
        lake = Coverage(files, footer_cache_at(path))
        assert lake.covered(MINUTES) == [minutes(0, 60)]
        held = lake.held_by_group(Market.USD_M, KLINES, Interval.M1)
        assert {symbol: one.covered for symbol, one in held.items()} == {
            "BTCUSDT": [minutes(0, 60)],
            "ETHUSDT": [minutes(0, 10)],
        }
        assert lake.origins(MINUTES) == list(covering(minutes(0, 60)))
    assert sorted(files.reads) == [KEY, keys.partition(Partition(ETHER, "2024-01"))]


def test_a_changed_partition_is_never_answered_from_memory(
    files: RecordingStore, path: Path
) -> None:
    lake = Coverage(files, footer_cache_at(path))
    for end in range(1, 6):
        hold(files, minutes(0, end))
        assert lake.covered(MINUTES) == [minutes(0, end)]
    assert files.reads == [KEY] * 5


def test_a_partition_that_was_put_back_smaller_is_not_believed_to_be_whole(
    files: RecordingStore, path: Path
) -> None:
    lake = Coverage(files, footer_cache_at(path))
    hold(files, minutes(0, 60))
    assert lake.covered(MINUTES) == [minutes(0, 60)]
    files.put(KEY, encode(frame([]), footer_of(minutes(0, 1))))
    assert lake.covered(MINUTES) == [minutes(0, 1)]


def test_a_partition_that_is_gone_covers_nothing_though_it_is_remembered(
    files: RecordingStore, path: Path
) -> None:
    lake = Coverage(files, footer_cache_at(path))
    hold(files, minutes(0, 60))
    lake.covered(MINUTES)
    files.delete([KEY])
    assert lake.covered(MINUTES) == []
    assert lake.held_by_group(Market.USD_M, KLINES, Interval.M1) == {}


def test_a_partition_that_goes_between_listing_and_reading_covers_nothing(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 60))
    files.before_read = lambda key: files.delete([key])
    assert Coverage(files, footer_cache_at(path)).covered(MINUTES) == []


def test_a_damaged_partition_is_said_every_time_and_never_remembered_as_empty(
    files: RecordingStore, path: Path
) -> None:
    files.put(KEY, b"PAR1 but cut off")
    for _ in range(2):
        with pytest.raises(PartitionDamaged, match="left as it is"):
            Coverage(files, footer_cache_at(path)).covered(MINUTES)
    assert files.reads == [KEY, KEY]


def test_what_is_no_partition_is_neither_read_nor_remembered(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 60))
    folder = keys.series_folder("lake", MINUTES)
    for name in ("_SUCCESS", "2024-1.parquet", "2024-01.parquet.bak", "notes.txt"):
        files.put(f"{folder}/{name}", b"not ours")
    assert Coverage(files, footer_cache_at(path)).covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY]


def test_months_are_joined_and_symbols_of_any_script_kept_apart(
    files: RecordingStore, path: Path
) -> None:
    february = Span(JANUARY.span.end_ms, JANUARY.span.end_ms + 60 * MINUTE_MS)
    last_hour = Span(JANUARY.span.end_ms - 60 * MINUTE_MS, JANUARY.span.end_ms)
    life = Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT")
    for one in (MINUTES, life):
        hold(files, last_hour, one)
        hold(files, february, one, "2024-02")
    lake, joined = (
        Coverage(files, footer_cache_at(path)),
        [Span(last_hour.start_ms, february.end_ms)],
    )
    for _ in range(2):
        assert lake.covered(life) == joined
        held = lake.held_by_group(Market.USD_M, KLINES, Interval.M1)
        assert {symbol: one.covered for symbol, one in held.items()} == {
            "BTCUSDT": joined,
            "币安人生USDT": joined,
        }


def test_without_a_memory_every_footer_is_read_and_nothing_is_written(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 60))
    lake = Coverage(files, footer_cache_at(None))
    assert lake.covered(MINUTES) == lake.covered(MINUTES) == [minutes(0, 60)]
    assert files.reads == [KEY, KEY]
    assert not path.parent.exists()


def test_an_empty_lake_leaves_no_memory_behind(files: RecordingStore, path: Path) -> None:
    assert Coverage(files, footer_cache_at(path)).covered(MINUTES) == []
    assert not path.parent.exists()


def test_many_footers_are_read_side_by_side_and_each_stays_with_its_key(
    files: RecordingStore, path: Path
) -> None:
    spans = {f"COIN{n}USDT": minutes(n, n + 1) for n in range(40)}
    for symbol, span in spans.items():
        one = Series(Market.USD_M, KLINES, Interval.M1, symbol)
        files.put(keys.partition(Partition(one, "2024-01")), encode(frame([]), footer_of(span)))
    for _ in range(2):
        held = Coverage(files, footer_cache_at(path)).held_by_group(
            Market.USD_M, KLINES, Interval.M1
        )
        assert {symbol: one.covered for symbol, one in held.items()} == {
            symbol: [span] for symbol, span in spans.items()
        }
    assert len(files.reads) == 40


def test_a_real_store_opened_by_its_path_is_covered_the_same(
    files: RecordingStore, tmp_path: Path, path: Path
) -> None:
    hold(files, Span(JANUARY_MS, JANUARY_MS + MINUTE_MS))
    store = str(tmp_path / "store")
    assert Coverage(open_store(store), FooterCache(store, path)).covered(MINUTES) == [minutes(0, 1)]


def test_a_partition_replaced_while_it_was_read_is_not_remembered_as_what_it_was(
    files: RecordingStore, path: Path
) -> None:
    hold(files, minutes(0, 10))
    (listed,) = files.list("lake")
    replaced = iter([lambda: hold(files, minutes(10, 60))])
    files.before_read = lambda _: next(replaced, lambda: None)()
    assert Coverage(files, footer_cache_at(path)).covered(MINUTES) == [minutes(0, 60)]
    assert recall_all(path, [listed]) == {}
