"""Partitions: twice equals once, two at once lose nothing, and nothing counts before it is proved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import (
    PartitionDamaged,
    ReadBackMismatch,
    StoreFault,
    VersionConflict,
)
from klinefleet.workers.domain.intervals import month_span
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footer import Footer, footer_in
from klinefleet.workers.lake.partition_codec import decode, encode, read_back
from klinefleet.workers.lake.partitions import Partitions, merge
from klinefleet.workers.lake.proof import prove
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.storage.open import open_store
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, covered, frame, minutes, opens, times_of
from tests.unit.lake.test_raw_zone import Memory

MONTH = "2024-01"
KEY = keys.partition(MINUTES, MONTH)


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


@pytest.fixture
def lake(files: ObjectStore) -> Partitions:
    return Partitions(files)


def held(files: ObjectStore) -> list[int]:
    body = files.read(KEY)
    return times_of(decode(body)) if body else []


def put(lake: Partitions, span: Span, *, price: str = "42000.10") -> int:
    return lake.merge(MINUTES, MONTH, frame(opens(span), price=price), [span]).gained


def test_rows_and_what_they_cover_are_one_object(lake: Partitions, files: ObjectStore) -> None:
    assert put(lake, minutes(0, 60)) == 60
    assert held(files) == list(opens(minutes(0, 60)))
    assert covered(files, MINUTES) == [minutes(0, 60)]
    assert [e.key for e in files.list("")] == [KEY]


def test_merging_twice_is_merging_once_to_the_byte(lake: Partitions, files: ObjectStore) -> None:
    put(lake, minutes(0, 60))
    first, etag = files.read(KEY), files.etag(KEY)
    assert put(lake, minutes(0, 60)) == 0
    assert (files.read(KEY), files.etag(KEY)) == (first, etag)


def test_the_same_rows_give_the_same_bytes_whatever_way_they_came(tmp_path: Path) -> None:
    bodies = set()
    for n, order in enumerate(([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 0, 3, 1])):
        files = open_store(str(tmp_path / str(n)))
        for part in order:
            put(Partitions(files), minutes(part * 30, part * 30 + 30))
        bodies.add(files.read(KEY))
    rows, read_back = frame(opens(minutes(0, 120))), Footer((minutes(0, 120),))
    read_back = replace(read_back, proof=prove(MINUTES, rows, read_back.covered))
    whole = encode(rows, read_back)
    assert bodies == {whole}
    assert encode(decode(whole), read_back) == whole
    pieces = pl.concat([frame(opens(minutes(n, n + 1))) for n in range(120)], rechunk=False)
    assert encode(pieces, read_back) == whole


def test_a_newer_row_takes_the_older_ones_place(lake: Partitions, files: ObjectStore) -> None:
    put(lake, minutes(0, 10), price="1.0")
    assert put(lake, minutes(5, 15), price="2.0") == 5
    body = files.read(KEY)
    assert body
    assert decode(body)["open"].to_list() == [1.0] * 5 + [2.0] * 10


def test_of_two_rows_in_one_batch_the_later_one_stays() -> None:
    twice = pl.concat([frame([JANUARY_MS], price="1.0"), frame([JANUARY_MS], price="2.0")])
    assert merge(KLINES, no_rows(KLINES), twice)["open"].to_list() == [2.0]


def test_empty_rows_still_say_what_was_asked_and_answered(
    lake: Partitions, files: ObjectStore
) -> None:
    assert put(lake, minutes(0, 0)) == 0
    assert lake.merge(MINUTES, MONTH, frame([]), [minutes(0, 60)]).gained == 0
    assert (held(files), covered(files, MINUTES)) == ([], [minutes(0, 60)])
    put(lake, minutes(60, 70))
    assert (held(files), covered(files, MINUTES)) == (
        list(opens(minutes(60, 70))),
        [minutes(0, 70)],
    )


def test_coverage_grows_and_never_shrinks(lake: Partitions, files: ObjectStore) -> None:
    for span in (minutes(0, 10), minutes(20, 30), minutes(5, 8)):
        put(lake, span)
    assert covered(files, MINUTES) == [minutes(0, 10), minutes(20, 30)]
    put(lake, minutes(10, 20))
    assert covered(files, MINUTES) == [minutes(0, 30)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 20), st.sampled_from(["1.0", "2.0"])),
        max_size=6,
    )
)
def test_any_order_of_merges_holds_every_row_once_and_the_last_word_on_each(
    merges: list[tuple[int, int, str]],
) -> None:
    files, wanted = Versioned(), dict[int, float]()
    for start, length, price in merges:
        span = minutes(start, start + length)
        put(Partitions(files), span, price=price)
        wanted |= dict.fromkeys(opens(span), float(price))
    body = files.read(KEY)
    rows = decode(body) if body else frame([])
    assert dict(zip(times_of(rows), rows["open"].to_list(), strict=True)) == wanted
    assert times_of(rows) == sorted(wanted)
    if body:
        assert list(footer_in(body).covered) == spans.union(minutes(s, s + n) for s, n, _ in merges)


class Versioned(Memory):
    """Objects in memory with versions; `meddle` is called before each publish, as another process
    would act.
    """

    def __init__(self, meddle: Callable[[Versioned], None] = lambda _: None) -> None:
        super().__init__()
        self.versions: dict[str, int] = {}
        self.meddle = meddle
        self.published = 0

    def etag(self, key: str) -> str | None:
        return str(self.versions[key]) if key in self.held else None

    def tail(self, key: str, size: int) -> bytes | None:
        return self.held[key][-size:] if key in self.held else None

    def list(self, folder: str) -> list[StoredObject]:
        return [
            StoredObject(k, "", len(b))
            for k, b in sorted(self.held.items())
            if k.startswith(folder + "/")
        ]

    def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
        meddle, self.meddle = self.meddle, lambda _: None
        meddle(self)
        if self.etag(key) != replaces:
            raise VersionConflict(key)
        self.held[key] = body
        self.versions[key] = self.versions.get(key, 0) + 1
        self.published += 1


def test_what_another_publishes_between_reading_and_publishing_is_not_lost() -> None:
    files = Versioned(lambda store: put(Partitions(store), minutes(10, 20)) and None)
    assert put(Partitions(files), minutes(0, 10)) == 10
    assert held(files) == list(opens(minutes(0, 20)))
    assert covered(files, MINUTES) == [minutes(0, 20)]


def test_what_another_publishes_on_top_before_it_is_read_back_is_not_lost() -> None:
    class Overtaken(Versioned):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 1:
                put(Partitions(self), minutes(10, 20))

    files = Overtaken()
    assert put(Partitions(files), minutes(0, 10)) == 10
    assert held(files) == list(opens(minutes(0, 20)))


def test_threads_that_merge_at_once_lose_nothing(tmp_path: Path) -> None:
    parts = [minutes(n * 50, n * 50 + 60) for n in range(4)]
    gained: list[int] = []
    threads = [
        threading.Thread(
            target=lambda part=part: gained.append(put(Partitions(open_store(str(tmp_path))), part))
        )
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = open_store(str(tmp_path))
    assert held(files) == list(opens(minutes(0, 210)))
    assert covered(files, MINUTES) == [minutes(0, 210)]
    assert sum(gained) == 210


def test_a_publish_whose_answer_was_lost_counts_as_published() -> None:
    class Deaf(Versioned):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 1:
                # The store has taken it; the second try of the same call finds its own version
                # there.
                raise VersionConflict("the second try met the first")

    files = Deaf()
    put(Partitions(files), minutes(0, 10))
    assert files.published == 1
    assert held(files) == list(opens(minutes(0, 10)))
    assert covered(files, MINUTES) == [minutes(0, 10)]


def test_a_partition_that_vanishes_while_it_is_read_is_made_anew() -> None:
    class Vanishing(Versioned):
        reads = 0

        def read(self, key: str) -> bytes | None:
            self.reads += 1
            if self.reads == 1:
                self.held.pop(key)
            return super().read(key)

    files = Vanishing()
    files.publish(KEY, encode(frame(opens(minutes(0, 5))), Footer()), replaces=None)
    assert put(Partitions(files), minutes(5, 10)) == 5
    assert held(files) == list(opens(minutes(5, 10)))


class Forgetful(Versioned):
    """Takes every publish, and gives back an older version ever after."""

    def read(self, key: str) -> bytes | None:
        return (
            encode(frame(opens(minutes(0, 3))), Footer((minutes(0, 3),)))
            if key in self.held
            else None
        )


def test_a_store_that_gives_back_another_version_is_never_believed() -> None:
    with pytest.raises(ReadBackMismatch, match="the raw objects are kept"):
        put(Partitions(Forgetful()), minutes(0, 10))


class Rotting(Versioned):
    """Takes every publish, and gives half of it back."""

    def read(self, key: str) -> bytes | None:
        body = super().read(key)
        return body and body[: len(body) // 2]


def test_a_store_that_gives_back_damaged_bytes_is_never_believed() -> None:
    with pytest.raises(ReadBackMismatch):
        put(Partitions(Rotting()), minutes(0, 200))


def test_a_store_that_takes_no_version_is_given_up_after_a_bounded_number_of_rounds() -> None:
    tried = []

    class Refusing(Versioned):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            tried.append(replaces)
            raise VersionConflict(key)

    with pytest.raises(ReadBackMismatch):
        put(Partitions(Refusing()), minutes(0, 10))
    assert 1 < len(tried) <= 50


def test_rows_that_would_not_decode_to_themselves_are_never_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = Versioned()
    monkeypatch.setattr("klinefleet.workers.lake.partitions.decode", lambda _: frame([JANUARY_MS]))
    with pytest.raises(ReadBackMismatch, match="nothing was published or deleted"):
        put(Partitions(files), minutes(0, 10))
    assert files.held == {}


def test_a_store_that_fails_while_publishing_leaves_the_old_version(
    files: ObjectStore, tmp_path: Path
) -> None:
    put(Partitions(files), minutes(0, 10))
    before = files.read(KEY)

    class Full(FolderStore):
        def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
            raise OSError("no space left")

    full = Full(files._fs, str(tmp_path), sleep=lambda _: None)
    with pytest.raises(StoreFault), suppress(ReadBackMismatch):
        put(Partitions(full), minutes(10, 20))
    assert files.read(KEY) == before


def test_coverage_of_a_series_is_that_of_all_its_months(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 31 * 1440))
    february = Span(JANUARY_MS + 31 * 1440 * MINUTE_MS, JANUARY_MS + 32 * 1440 * MINUTE_MS)
    lake.merge(MINUTES, "2024-02", frame(opens(february)), [february])
    files.put(keys.series_folder("lake", MINUTES) + "/notes.txt", b"somebody's notes")
    assert covered(files, MINUTES) == [Span(JANUARY_MS, february.end_ms)]


def test_a_partition_is_what_any_reader_of_parquet_expects(
    lake: Partitions, files: ObjectStore, tmp_path: Path
) -> None:
    put(lake, minutes(0, 200))
    told = pl.read_parquet(tmp_path / KEY)
    assert told.schema == schema_of(KLINES)
    assert told["open_time"].is_sorted()
    body = files.read(KEY)
    assert body
    assert body[:4] == body[-4:] == b"PAR1"
    assert (
        pl.scan_parquet(tmp_path / KEY)
        .filter(pl.col("open_time") < pl.lit(0).cast(told["open_time"].dtype))
        .collect()
        .is_empty()
    )


def spoilt(body: bytes) -> bytes:
    """The bytes with other values than those that were proved."""
    return encode(decode(body).with_columns(open=pl.lit(7.0)), footer_in(body))


def test_values_that_changed_on_the_disk_are_never_merged_and_proved_anew(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    rotten = spoilt(files.read(KEY) or b"")
    files.put(KEY, rotten)
    with pytest.raises(PartitionDamaged, match="klines verify --repair"):
        put(lake, minutes(10, 20))
    assert files.read(KEY) == rotten


def test_what_is_forgotten_is_missing_and_the_rest_stays_as_it_was(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    before = files.read(KEY)
    assert lake.forget(MINUTES, MONTH, [minutes(3, 5)]) == [minutes(3, 5)]
    assert held(files) == [*opens(minutes(0, 3)), *opens(minutes(5, 10))]
    assert covered(files, MINUTES) == [minutes(0, 3), minutes(5, 10)]
    assert footer_in(files.read(KEY) or b"").proof == prove(
        MINUTES, read_back(KLINES, files.read(KEY) or b"")[0], covered(files, MINUTES)
    )
    (kept,) = files.list("damaged")
    assert files.read(kept.key) == before
    put(lake, minutes(3, 5))
    assert files.read(KEY) == before


def test_forgetting_twice_is_forgetting_once(lake: Partitions, files: ObjectStore) -> None:
    put(lake, minutes(0, 10))
    lake.forget(MINUTES, MONTH, [minutes(3, 5)])
    first, etag = files.read(KEY), files.etag(KEY)
    assert lake.forget(MINUTES, MONTH, [minutes(3, 5)]) == [minutes(3, 5)]
    assert (files.read(KEY), files.etag(KEY)) == (first, etag)
    assert len(files.list("damaged")) == 1


def test_of_rows_that_are_not_those_that_were_proved_everything_is_forgotten(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    files.put(KEY, spoilt(files.read(KEY) or b""))
    assert lake.forget(MINUTES, MONTH, [minutes(3, 5)]) == [minutes(0, 10)]
    assert (held(files), covered(files, MINUTES)) == ([], [])


@pytest.mark.parametrize("bad", [b"", b"PAR1 no Parquet at all PAR1"])
def test_a_file_that_does_not_decode_is_kept_aside_and_its_month_is_missing(
    lake: Partitions, files: ObjectStore, bad: bytes
) -> None:
    files.put(KEY, bad)
    assert lake.forget(MINUTES, MONTH, [minutes(3, 5)]) == [month_span(MONTH)]
    assert covered(files, MINUTES) == []
    assert [files.read(entry.key) for entry in files.list("damaged")] == [bad]
    assert put(lake, minutes(0, 10)) == 10


def test_a_forgetting_whose_answer_was_lost_tells_just_what_was_covered() -> None:
    class Deaf(Versioned):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 2:
                raise VersionConflict("the second try met the first")

    files = Deaf()
    put(Partitions(files), minutes(0, 10))
    assert Partitions(files).forget(MINUTES, MONTH) == [minutes(0, 10)]
    assert (held(files), covered(files, MINUTES)) == ([], [])
    assert Partitions(files).forget(MINUTES, MONTH) == []


def test_what_another_publishes_while_time_is_forgotten_is_not_lost() -> None:
    files = Versioned()
    put(Partitions(files), minutes(0, 10))
    files.meddle = lambda store: put(Partitions(store), minutes(10, 20)) and None
    Partitions(files).forget(MINUTES, MONTH, [minutes(3, 5)])
    assert covered(files, MINUTES) == [minutes(0, 3), minutes(5, 20)]


def test_rows_out_of_order_are_put_in_order_where_time_is_forgotten(
    lake: Partitions, files: ObjectStore
) -> None:
    rows = frame(opens(minutes(0, 10)))
    files.put(KEY, encode(rows.reverse(), Footer((minutes(0, 10),))))
    lake.forget(MINUTES, MONTH, [minutes(3, 5)])
    assert held(files) == [*opens(minutes(0, 3)), *opens(minutes(5, 10))]
