from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.errors import RawDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.raw_zone import RawZone, _content
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.answers import ASKED_MS
from tests.unit.helpers.klines import JANUARY, MINUTES, body, minutes, opens
from tests.unit.helpers.memory_store import MemoryStore

PAGES = [body(opens(minutes(0, 5))), b"[]", body(opens(minutes(9, 10)))]


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


@pytest.fixture
def raw(files: ObjectStore) -> RawZone:
    return RawZone(files)


def test_pages_come_back_as_they_were_received(raw: RawZone) -> None:
    assert raw.load(raw.store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS)) == PAGES


def test_the_same_answer_stored_twice_is_one_object(raw: RawZone) -> None:
    assert raw.store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS) == raw.store(
        JANUARY, minutes(0, 10), list(PAGES), asked_ms=ASKED_MS
    )
    assert len(raw.entries(JANUARY)) == 1


def test_another_answer_for_the_same_time_does_not_take_the_firsts_place(raw: RawZone) -> None:
    first = raw.store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS)
    second = raw.store(JANUARY, minutes(0, 10), PAGES[:1], asked_ms=ASKED_MS)
    assert [raw.load(entry) for entry in (first, second)] == [PAGES, PAGES[:1]]
    assert sorted(raw.entries(JANUARY), key=lambda e: e.key) == sorted(
        [first, second], key=lambda e: e.key
    )


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_single_changed_byte_is_never_taken_for_the_answer(at: int, flip: int) -> None:
    files = MemoryStore()
    entry = RawZone(files).store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS)
    held = files.held[entry.key]
    at %= len(held)
    files.held[entry.key] = held[:at] + bytes([held[at] ^ flip]) + held[at + 1 :]
    with pytest.raises(RawDamaged) as damaged:
        RawZone(files).load(entry)
    assert damaged.value.key == entry.key


@pytest.mark.parametrize(
    "bytes_left", [b"", b"garbage", zstandard.compress(b"[]")], ids=["empty", "garbage", "another"]
)
def test_an_object_that_was_overwritten_is_told_from_the_one_its_name_promises(
    raw: RawZone, files: ObjectStore, bytes_left: bytes
) -> None:
    entry = raw.store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS)
    files.put(entry.key, bytes_left)
    with pytest.raises(RawDamaged, match="will be fetched again"):
        raw.load(entry)


def test_an_object_that_another_compaction_took_is_none_and_no_error(raw: RawZone) -> None:
    entry = raw.store(JANUARY, minutes(0, 10), PAGES, asked_ms=ASKED_MS)
    raw.drop([entry])
    assert raw.load(entry) is None
    raw.drop([entry])


def test_entries_are_those_of_the_partition_or_the_series_oldest_first(
    raw: RawZone, files: ObjectStore
) -> None:
    february = Partition(MINUTES, "2024-02")
    other = Partition(
        Series(MINUTES.market, MINUTES.kind, MINUTES.interval, "BTCUSDT_261225"), "2024-01"
    )
    spans = [minutes(600, 1200), minutes(0, 600)]
    stored = [raw.store(JANUARY, span, [b"[]"], asked_ms=ASKED_MS) for span in spans]
    late = raw.store(
        february,
        Span(february.span.start_ms, february.span.start_ms + 1),
        [b"[]"],
        asked_ms=ASKED_MS,
    )
    raw.store(other, minutes(0, 600), [b"[]"], asked_ms=ASKED_MS)
    files.put("raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/notes.txt", b"not ours")
    assert raw.entries(JANUARY) == [stored[1], stored[0]]
    assert raw.entries(MINUTES) == [stored[1], stored[0], late]


def test_what_was_left_for_a_month_of_format_1_is_not_taken_for_a_part_of_its_year(
    raw: RawZone,
) -> None:
    hours = replace(MINUTES, interval=Interval.H1)
    raw.store(Partition(hours, "2024-01"), minutes(0, 60), [b"[]"], asked_ms=ASKED_MS)
    of_year = raw.store(Partition(hours, "2024"), minutes(60, 120), [b"[]"], asked_ms=ASKED_MS)
    assert raw.entries(hours) == raw.entries(Partition(hours, "2024")) == [of_year]
    group = raw.entries_of_group(hours.market, hours.kind, hours.interval)
    assert group == {"BTCUSDT": [of_year]}


def test_what_is_listed_is_what_was_stored(raw: RawZone) -> None:
    entry = raw.store(JANUARY, minutes(3, 4), PAGES, asked_ms=ASKED_MS)
    assert raw.entries(JANUARY) == [entry]
    assert (entry.partition, entry.span) == (JANUARY, minutes(3, 4))
    assert entry.content in entry.key
    assert len(_content(b"")) == len(entry.content)
