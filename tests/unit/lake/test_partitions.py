"""Merging rows into partitions: twice equals once, and coverage never shrinks."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import (
    PartitionDamaged,
    ReadBackMismatch,
)
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import decode, encode
from klinefleet.workers.lake.partitions import Partitions, merge
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.answers import covering
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, covered, frame, minutes, opens, times_of
from tests.unit.helpers.partitions import KEY, MONTH, VersionedStore, held, put, spoilt


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


@pytest.fixture
def lake(files: ObjectStore) -> Partitions:
    return Partitions(files)


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
    rows, span = frame(opens(minutes(0, 120))), minutes(0, 120)
    read_back = Footer(covering(span), prove(MINUTES, rows, [span]), Partition(MINUTES, MONTH))
    whole = encode(rows, read_back)
    assert bodies == {whole}
    assert encode(decode(whole), read_back) == whole
    pieces = pl.concat([frame(opens(minutes(n, n + 1))) for n in range(120)], rechunk=False)
    assert encode(pieces, read_back) == whole


def test_a_row_that_is_held_stays_and_only_what_is_missing_is_added(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10), price="1.0")
    assert put(lake, minutes(5, 15), price="2.0") == 5
    body = files.read(KEY)
    assert body
    assert decode(body)["open"].to_list() == [1.0] * 10 + [2.0] * 5


def test_of_two_rows_in_one_batch_the_later_one_stays() -> None:
    twice = pl.concat([frame([JANUARY_MS], price="1.0"), frame([JANUARY_MS], price="2.0")])
    assert merge(KLINES, no_rows(KLINES), twice)["open"].to_list() == [2.0]


def test_empty_rows_still_say_what_was_asked_and_answered(
    lake: Partitions, files: ObjectStore
) -> None:
    assert put(lake, minutes(0, 0)) == 0
    assert lake.merge(Partition(MINUTES, MONTH), frame([]), covering(minutes(0, 60))).gained == 0
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
def test_any_order_of_merges_holds_every_row_once_and_the_first_word_on_each(
    merges: list[tuple[int, int, str]],
) -> None:
    files, wanted = VersionedStore(), dict[int, float]()
    for start, length, price in merges:
        span = minutes(start, start + length)
        put(Partitions(files), span, price=price)
        wanted = dict.fromkeys(opens(span), float(price)) | wanted
    body = files.read(KEY)
    rows = decode(body) if body else frame([])
    assert dict(zip(times_of(rows), rows["open"].to_list(), strict=True)) == wanted
    assert times_of(rows) == sorted(wanted)
    if body:
        assert list(parse_footer(body).covered) == spans.union(
            minutes(s, s + n) for s, n, _ in merges
        )


def test_rows_that_would_not_decode_to_themselves_are_never_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = VersionedStore()
    monkeypatch.setattr("klinefleet.workers.lake.partitions.decode", lambda _: frame([JANUARY_MS]))
    with pytest.raises(ReadBackMismatch, match="nothing was published or deleted"):
        put(Partitions(files), minutes(0, 10))
    assert files.held == {}


def test_coverage_of_a_series_is_that_of_all_its_months(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 31 * 1440))
    february = Span(JANUARY_MS + 31 * 1440 * MINUTE_MS, JANUARY_MS + 32 * 1440 * MINUTE_MS)
    lake.merge(Partition(MINUTES, "2024-02"), frame(opens(february)), covering(february))
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


def test_values_that_changed_on_the_disk_are_never_merged_and_proved_anew(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    rotten = spoilt(files.read(KEY) or b"")
    files.put(KEY, rotten)
    with pytest.raises(PartitionDamaged, match="klines verify --repair"):
        put(lake, minutes(10, 20))
    assert files.read(KEY) == rotten
