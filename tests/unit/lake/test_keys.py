from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Block, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes
from tests.unit.helpers.strategies import intervals, moments, symbols

CONTENT = "0123456789abcdef"
any_series = st.builds(
    Series, st.sampled_from(Market), st.sampled_from(list(KINDS.values())), intervals, symbols
)


def test_partitions_lie_where_the_readme_says() -> None:
    wanted = "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet"
    assert keys.partition(MINUTES, "2024-01") == wanted


def test_raw_objects_lie_beside_the_lake_by_block_span_and_content() -> None:
    span = minutes(0, 60)
    folder = "raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01"
    assert (
        keys.raw(JANUARY, span, CONTENT)
        == f"{folder}/{span.start_ms}-{span.end_ms}-{CONTENT}.json.zst"
    )


@settings(max_examples=70, deadline=None)
@given(
    series=any_series,
    start_ms=moments,
    length=st.integers(0, 10**10),
    content=st.from_regex("[0-9a-f]{16}", fullmatch=True),
)
def test_a_raw_key_tells_everything_that_went_into_it(
    series: Series, start_ms: int, length: int, content: str
) -> None:
    block, span = series.block(start_ms), Span(start_ms, start_ms + length)
    assert keys.parse_raw(series, keys.raw(block, span, content)) == (
        block,
        span,
        content,
        Source.REST,
        "",
    )


@settings(max_examples=50, deadline=None)
@given(series=any_series, year=st.integers(2017, 2030), month=st.integers(1, 12))
def test_a_partitions_key_tells_its_month(series: Series, year: int, month: int) -> None:
    assert keys.month_of(keys.partition(series, f"{year}-{month:02}")) == f"{year}-{month:02}"


@settings(max_examples=70, deadline=None)
@given(series=any_series, year=st.integers(1970, 2030), month=st.integers(1, 12))
def test_a_partitions_key_tells_its_series_and_month(series: Series, year: int, month: int) -> None:
    assert keys.partition_of(keys.partition(series, f"{year}-{month:02}")) == (
        series,
        f"{year}-{month:02}",
    )


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
        "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/all.parquet",
        "damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet",
    ],
)
def test_what_is_no_partition_of_ours_is_not_taken_for_one(key: str) -> None:
    assert keys.partition_of(key) is None


def test_what_is_kept_aside_lies_outside_the_lake_and_is_no_partition() -> None:
    key = keys.damaged(MINUTES, "2024-01", CONTENT)
    assert (
        key == f"damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01-{CONTENT}.parquet"
    )
    assert keys.month_of(key) is keys.partition_of(key) is None


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
        keys.partition(series, "2024-01"),
        keys.raw(series.block(start_ms), Span(0, 1), CONTENT),
    ):
        assert posixpath.normpath(key) == key
        assert not key.startswith("/")
        assert f"/symbol={series.symbol}/" in key


@pytest.mark.parametrize(
    "name",
    [
        "lake/x/2024-01.parquet.tmp",
        "lake/x/.2024-01.parquet.0a1b",
        "lake/x/2024.parquet",
        "lake/x/2024-1.parquet",
        "lake/x/2024-01-01.parquet",
        "lake/x/_SUCCESS",
        "2024-01.parquet",
        "",
    ],
)
def test_what_is_no_partition_has_no_month(name: str) -> None:
    assert keys.month_of(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "1-2-0123456789abcdef.json",
        "1-2-0123456789ABCDEF.json.zst",
        "1-2-0123.json.zst",
        "1--0123456789abcdef.json.zst",
        "-1-2-0123456789abcdef.json.zst",
        ".1-2-0123456789abcdef.json.zst.0a1b",
        "deeper/1-2-0123456789abcdef.json.zst",
        "notes.txt",
    ],
)
def test_what_is_no_raw_object_is_not_taken_for_one(name: str) -> None:
    assert keys.parse_raw(MINUTES, f"{keys.raw_folder(JANUARY)}/{name}") is None


def test_a_raw_object_of_another_series_is_not_taken_for_ones_own() -> None:
    other = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
    longer = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT_261225")
    for stranger in (other, longer):
        assert (
            keys.parse_raw(MINUTES, keys.raw(Block(stranger, "2024-01"), Span(1, 2), CONTENT))
            is None
        )
