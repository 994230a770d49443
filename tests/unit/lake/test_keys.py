from __future__ import annotations

import posixpath
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.intervals import Interval, Period
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.storage.objects import StoredObject
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes
from tests.unit.helpers.strategies import intervals, moments, symbols

CONTENT = "0123456789abcdef"
any_series = st.builds(
    Series, st.sampled_from(Market), st.sampled_from(list(KINDS.values())), intervals, symbols
)


def test_partitions_lie_where_the_readme_says() -> None:
    folder = "lake/market=um/kind=klines"
    named = {
        "interval=1s/symbol=BTCUSDT/2024-01-05.parquet": Interval.S1,
        "interval=1m/symbol=BTCUSDT/2024-01.parquet": Interval.M1,
        "interval=1h/symbol=BTCUSDT/2024.parquet": Interval.H1,
        "interval=1mo/symbol=BTCUSDT/2024.parquet": Interval.MO1,
    }
    for name, interval in named.items():
        series = Series(Market.USD_M, KLINES, interval, "BTCUSDT")
        assert keys.partition(series.partition(utc_ms(2024, 1, 5))) == f"{folder}/{name}"


def test_raw_objects_lie_beside_the_lake_by_partition_span_time_of_asking_and_content() -> None:
    span = minutes(0, 60)
    folder = "raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01"
    assert (
        keys.raw(JANUARY, span, 7, CONTENT)
        == f"{folder}/{span.start_ms}-{span.end_ms}-7-{CONTENT}.json.zst"
    )


@settings(max_examples=70, deadline=None)
@given(
    series=any_series,
    start_ms=moments,
    length=st.integers(0, 10**10),
    asked_ms=moments,
    content=st.from_regex("[0-9a-f]{16}", fullmatch=True),
    source=st.sampled_from([(Source.REST, ""), (Source.DAILY, "1f-2"), (Source.MONTHLY, "1f")]),
)
def test_a_raw_key_tells_everything_that_went_into_it(
    series: Series,
    start_ms: int,
    length: int,
    asked_ms: int,
    content: str,
    source: tuple[Source, str],
) -> None:
    partition, span = series.partition(start_ms), Span(start_ms, start_ms + length)
    told = (partition, span, asked_ms, content, *source)
    assert keys.parse_raw(series, keys.raw(*told)) == told


@settings(max_examples=50, deadline=None)
@given(series=any_series, ms=moments)
def test_a_partitions_key_tells_its_series_and_period(series: Series, ms: int) -> None:
    partition = series.partition(ms)
    assert keys.partition_of(keys.partition(partition)) == partition
    assert keys.period_of(keys.partition(partition)) == partition.period


@settings(max_examples=50, deadline=None)
@given(series=any_series, year=st.integers(1970, 2030), month=st.integers(1, 12))
def test_a_month_of_a_lake_of_format_1_is_a_partition_whatever_its_series(
    series: Series, year: int, month: int
) -> None:
    partition = Partition(series, f"{year}-{month:02}")
    assert keys.partition_of(keys.partition(partition)) == partition
    assert partition.is_of_this_format == (series.period is Period.MONTH)


@pytest.mark.parametrize(
    "key",
    [
        "lake/market=moon/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet",
        "lake/market=um/kind=klines/interval=7m/symbol=BTCUSDT/2024-01.parquet",
        "lake/market=um/kind=klines/interval=1M/symbol=BTCUSDT/2024-01.parquet",
        "lake/market=um/kind=klines/interval=1m/symbol=btcusdt/2024-01.parquet",
        "lake/market=um/kind=klines/interval=1m/symbol=../2024-01.parquet",
        "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-13.parquet",
        "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/0000-01.parquet",
        "lake/market=um/kind=klines/interval=1s/symbol=BTCUSDT/2023-02-29.parquet",
        "lake/market=um/kind=klines/interval=1s/symbol=BTCUSDT/2024-04-31.parquet",
        "lake/market=um/kind=klines/interval=1h/symbol=BTCUSDT/0000.parquet",
        "lake/market=um/kind=klines/interval=1h/symbol=BTCUSDT/x/2024.parquet",
        "lake/market=um/kind=klines/symbol=BTCUSDT/interval=1h/2024.parquet",
        "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/all.parquet",
        "damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet",
    ],
)
def test_what_is_no_partition_of_ours_is_not_taken_for_one(key: str) -> None:
    assert keys.partition_of(key) is None


def test_what_is_kept_aside_lies_outside_the_lake_and_is_no_partition() -> None:
    key = keys.damaged(JANUARY, CONTENT)
    assert (
        key == f"damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01-{CONTENT}.parquet"
    )
    assert keys.period_of(key) is keys.partition_of(key) is None


def test_minutes_and_months_are_spelled_apart() -> None:
    folders = {
        i: keys.series_folder("lake", Series(Market.SPOT, KLINES, i, "X")).casefold()
        for i in Interval
    }
    assert len(set(folders.values())) == len(Interval)
    assert "/interval=1mo/" in folders[Interval.MO1]
    assert "/interval=1m/" in folders[Interval.M1]


@settings(max_examples=70, deadline=None)
@given(series=any_series, start_ms=moments)
def test_a_symbol_can_never_climb_out_of_its_folder(series: Series, start_ms: int) -> None:
    for key in (
        keys.partition(series.partition(start_ms)),
        keys.raw(series.partition(start_ms), Span(0, 1), 2, CONTENT),
    ):
        assert posixpath.normpath(key) == key
        assert not key.startswith("/")
        assert f"/symbol={series.symbol}/" in key


@pytest.mark.parametrize(
    "name",
    [
        "lake/x/2024-01.parquet.tmp",
        "lake/x/.2024-01.parquet.0a1b",
        "lake/x/24.parquet",
        "lake/x/20240.parquet",
        "lake/x/2024-1.parquet",
        "lake/x/2024-13.parquet",
        "lake/x/2024-01-1.parquet",
        "lake/x/2024-01-32.parquet",
        "lake/x/2023-02-29.parquet",
        "lake/x/0000.parquet",
        "lake/x/_SUCCESS",
        "2024-01.parquet",
        "",
    ],
)
def test_what_is_no_partition_has_no_period(name: str) -> None:
    assert keys.period_of(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "1-2-3-0123456789abcdef.json",
        "1-2-3-0123456789ABCDEF.json.zst",
        "1-2-3-0123.json.zst",
        "1-2-0123456789abcdef.json.zst",
        "1-2--0123456789abcdef.json.zst",
        "-1-2-3-0123456789abcdef.json.zst",
        ".1-2-3-0123456789abcdef.json.zst.0a1b",
        "deeper/1-2-3-0123456789abcdef.json.zst",
        "1-2-3-0123456789abcdef.hourly.0a1b.zip",
        "notes.txt",
    ],
)
def test_what_is_no_raw_object_is_not_taken_for_one(name: str) -> None:
    assert keys.parse_raw(MINUTES, f"{keys.raw_folder(JANUARY)}/{name}") is None


def test_a_raw_object_of_another_series_is_not_taken_for_ones_own() -> None:
    other = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
    longer = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT_261225")
    for stranger in (other, longer):
        key = keys.raw(Partition(stranger, "2024-01"), Span(1, 2), 3, CONTENT)
        assert keys.parse_raw(MINUTES, key) is None


@pytest.mark.parametrize("period", ["2024", "2024-01-05", "2024-13", "all"])
def test_a_raw_object_of_another_period_than_its_series_is_not_taken_for_one(period: str) -> None:
    key = keys.raw(JANUARY, Span(1, 2), 3, CONTENT).replace("/2024-01/", f"/{period}/")
    assert keys.parse_raw(MINUTES, key) is None


def listed(*partitions: Partition) -> list[StoredObject]:
    return [StoredObject(keys.partition(one), "1", 1) for one in partitions]


def test_a_year_takes_the_place_of_its_months_and_a_month_of_its_days() -> None:
    """A migration that was interrupted leaves both: no row may be counted twice."""
    hours, seconds = (replace(MINUTES, interval=i) for i in (Interval.H1, Interval.S1))
    stay = [
        Partition(hours, "2023-12"),
        Partition(hours, "2024"),
        Partition(hours, "2025-01"),
        Partition(seconds, "2023-12-31"),
        Partition(seconds, "2024-01"),
        Partition(seconds, "2024-02-01"),
    ]
    go = [
        Partition(hours, "2024-01"),
        Partition(hours, "2024-12"),
        Partition(seconds, "2024-01-01"),
        Partition(seconds, "2024-01-31"),
    ]
    mixed = sorted(listed(*stay, *go), key=lambda entry: entry.key)
    assert list(keys.partitions_in(mixed).values()) == sorted(stay)
    assert list(keys.partitions_in(reversed(mixed)).values()) == sorted(stay, reverse=True)


def test_a_year_stands_for_the_months_of_no_other_series() -> None:
    hours = replace(MINUTES, interval=Interval.H1)
    others = [
        Partition(replace(hours, symbol="ETHUSDT"), "2024-01"),
        Partition(replace(hours, market=Market.SPOT), "2024-01"),
        Partition(MINUTES, "2024-01"),
    ]
    found = keys.partitions_in(listed(Partition(hours, "2024"), *others))
    assert list(found.values()) == [Partition(hours, "2024"), *others]


def test_what_is_no_partition_among_listed_objects_is_left_out() -> None:
    (january,) = listed(JANUARY)
    folder = january.key.rpartition("/")[0]
    names = ("_SUCCESS", "2024-01.parquet.tmp", "2024-13.parquet", "x/2024-01.parquet")
    strangers = [StoredObject(f"{folder}/{name}", "1", 1) for name in names]
    assert keys.partitions_in([*strangers, january]) == {january: JANUARY}


@pytest.mark.parametrize(
    ("interval", "period"),
    [
        (Interval.M1, "2024"),
        (Interval.M1, "2024-01-05"),
        (Interval.H1, "2024-01-05"),
        (Interval.S1, "2024"),
    ],
)
def test_a_file_of_a_period_that_no_version_writes_is_no_partition_and_hides_none(
    interval: Interval, period: str
) -> None:
    series = Series(Market.SPOT, KLINES, interval, "BTCUSDT")
    foreign = StoredObject(keys.partition(Partition(series, period)), "e", 1)
    month = StoredObject(keys.partition(Partition(series, "2024-01")), "e", 1)
    assert keys.partition_of(foreign.key) is None
    assert list(keys.partitions_in([foreign, month])) == [month]
