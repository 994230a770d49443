from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import (
    CANDLE_INTERVALS,
    Interval,
    Period,
    is_period,
    months_of,
    period_span,
    periods_of,
)
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, MINUTE_MS, iso, utc_ms
from tests.unit.helpers.strategies import checked_or_none, intervals, moments, symbols

FINE = ("1s", "1m", "3m", "5m")
COARSE = ("15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
#: Lengths in seconds; 1M has none.
SECONDS = dict(zip(FINE, (1, 60, 180, 300), strict=True)) | dict(
    zip(
        COARSE,
        (900, 1800, 3600, 7200, 14400, 21600, 28800, 43200, 86400, 259200, 604800, 0),
        strict=True,
    )
)


def calendar_floor(interval: Interval, ms: int) -> int:
    """The open time told by the calendar alone, as no line of the product does it."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0)
    if interval is Interval.MO1:
        opened = midnight.replace(day=1)
    elif interval is Interval.W1:
        opened = midnight - timedelta(days=midnight.weekday())
    else:
        seconds = int(moment.timestamp())
        opened = datetime.fromtimestamp(seconds - seconds % SECONDS[interval], UTC)
    return int(opened.timestamp()) * 1000


def test_the_exchanges_sixteen_intervals_are_all_there() -> None:
    assert [str(i) for i in CANDLE_INTERVALS] == [*FINE, *COARSE]


@settings(max_examples=120, deadline=None)
@given(interval=intervals, ms=moments)
def test_floor_is_the_open_time_of_the_candle_that_holds_the_moment(
    interval: Interval, ms: int
) -> None:
    opened = interval.floor(ms)
    assert opened == calendar_floor(interval, ms)
    assert opened <= ms < interval.advance(opened, 1)


@settings(max_examples=120, deadline=None)
@given(interval=intervals, ms=moments)
def test_ceil_never_goes_back_and_never_skips_a_candle(interval: Interval, ms: int) -> None:
    up = interval.ceil(ms)
    assert up == interval.floor(up)
    assert up == ms or interval.floor(ms) < ms < up == interval.advance(interval.floor(ms), 1)


@settings(max_examples=80, deadline=None)
@given(interval=intervals, ms=moments, steps=st.integers(0, 40), more=st.integers(0, 40))
def test_advancing_in_two_steps_is_advancing_in_one(
    interval: Interval, ms: int, steps: int, more: int
) -> None:
    opened = interval.floor(ms)
    assert interval.advance(interval.advance(opened, steps), more) == interval.advance(
        opened, steps + more
    )
    assert interval.advance(opened, 0) == opened


@settings(max_examples=120, deadline=None)
@given(
    interval=intervals,
    start_ms=moments,
    before=st.integers(0, 2 * DAY_MS),
    candles=st.integers(0, 60),
)
def test_opens_counts_exactly_the_open_times_of_a_half_open_span(
    interval: Interval, start_ms: int, before: int, candles: int
) -> None:
    end_ms = interval.advance(interval.floor(start_ms), candles) + before % (interval.step_ms + 1)
    walked = itertools.takewhile(
        lambda at: at < end_ms,
        (interval.advance(interval.ceil(start_ms), n) for n in itertools.count()),
    )
    assert interval.opens(start_ms, end_ms) == len(list(walked))


@pytest.mark.parametrize("interval", CANDLE_INTERVALS)
def test_an_empty_or_reversed_span_has_no_opens(interval: Interval) -> None:
    at = interval.floor(utc_ms(2024, 5))
    assert interval.opens(at, at) == 0
    assert interval.opens(at + 1, at) == 0
    assert interval.opens(at, at + 1) == 1
    assert interval.opens(at + 1, at + 2) == 0


@pytest.mark.parametrize("monday", [(2023, 5, 29), (2023, 7, 31), (2024, 12, 30)])
def test_weeks_open_on_mondays(monday: tuple[int, int, int]) -> None:
    at = utc_ms(*monday)
    assert Interval.W1.floor(at) == Interval.W1.floor(at + 7 * DAY_MS - 1) == at
    assert Interval.W1.floor(at - 1) == at - 7 * DAY_MS


def test_months_open_on_the_first_whatever_their_length() -> None:
    first = [utc_ms(2023, 12), utc_ms(2024, 1), utc_ms(2024, 2), utc_ms(2024, 3)]
    assert [Interval.MO1.advance(first[0], n) for n in range(4)] == first
    assert Interval.MO1.advance(first[0], -1) == utc_ms(2023, 11)
    assert Interval.MO1.opens(utc_ms(2023), utc_ms(2025)) == 24
    assert Interval.MO1.step_ms <= min(b - a for a, b in itertools.pairwise(first))


def test_three_days_are_counted_from_the_epoch() -> None:
    assert Interval.D3.floor(utc_ms(2024, 1, 1)) % (3 * DAY_MS) == 0


@pytest.mark.parametrize("name", [*FINE, *COARSE])
def test_a_partition_is_a_day_of_seconds_a_month_of_minutes_and_a_year_of_longer_candles(
    name: str,
) -> None:
    series = Series(Market.SPOT, KLINES, Interval(name), "BTCUSDT")
    partition = series.partition(utc_ms(2024, 12, 31) + DAY_MS - 1)
    months = ("2024-12", utc_ms(2024, 12))
    period, start_ms = {"1s": ("2024-12-31", utc_ms(2024, 12, 31))}.get(name, months)
    if name in COARSE:
        period, start_ms = "2024", utc_ms(2024)
    assert (partition.period, partition.span) == (period, Span(start_ms, utc_ms(2025)))
    assert partition.is_of_this_format


def test_a_partition_of_funding_is_a_year() -> None:
    series = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
    assert series.partition(utc_ms(2024, 12, 31)) == Partition(series, "2024")


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2023-12", (2023, 12, 1), (2024, 1, 1)),
        ("2024-11", (2024, 11, 1), (2024, 12, 1)),
        ("2024", (2024, 1, 1), (2025, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("2023-12-31", (2023, 12, 31), (2024, 1, 1)),
        ("2024-01-05", (2024, 1, 5), (2024, 1, 6)),
    ],
)
def test_a_partition_spans_its_day_its_month_or_its_year(
    period: str, start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    series = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
    assert Partition(series, period).span == Span(utc_ms(*start), utc_ms(*end))


@settings(max_examples=70, deadline=None)
@given(interval=intervals, start_ms=moments, length=st.integers(1, 900 * DAY_MS))
def test_partitions_follow_one_another_and_cover_the_span(
    interval: Interval, start_ms: int, length: int
) -> None:
    span = Span(start_ms, start_ms + length)
    partitions = list(Series(Market.SPOT, KLINES, interval, "BTCUSDT").partitions(span))
    assert all(a.span.end_ms == b.span.start_ms for a, b in itertools.pairwise(partitions))
    assert partitions[0].span.start_ms <= span.start_ms < partitions[0].span.end_ms
    assert partitions[-1].span.start_ms < span.end_ms <= partitions[-1].span.end_ms


@settings(max_examples=50, deadline=None)
@given(start_ms=moments, length=st.integers(1, 400 * DAY_MS))
def test_months_of_a_span_are_whole_and_touch_it(start_ms: int, length: int) -> None:
    span = Span(start_ms, start_ms + length)
    months = list(months_of(span))
    assert all(a[1].end_ms == b[1].start_ms for a, b in itertools.pairwise(months))
    assert months[0][1].start_ms <= span.start_ms < months[0][1].end_ms
    assert months[-1][1].start_ms < span.end_ms <= months[-1][1].end_ms
    assert all(iso(month.start_ms) == f"{name}-01" for name, month in months)


@settings(max_examples=80, deadline=None)
@given(market=st.sampled_from(Market), interval=intervals, symbol=symbols, ms=moments)
def test_series_and_partitions_survive_the_way_through_a_message(
    market: Market, interval: Interval, symbol: str, ms: int
) -> None:
    series = Series(market, KLINES, interval, symbol)
    assert Series.parse(str(series)) == series
    assert Partition.parse(str(series.partition(ms))) == series.partition(ms)


@settings(max_examples=80, deadline=None)
@given(period=st.sampled_from(Period), ms=moments)
def test_a_period_is_named_for_the_span_that_its_name_stands_for(period: Period, ms: int) -> None:
    name = period.name_at(ms)
    span = period_span(name)
    assert span.start_ms <= ms < span.end_ms
    assert {period.name_at(span.start_ms), period.name_at(span.end_ms - 1)} == {name}
    assert name not in (period.name_at(span.start_ms - 1), period.name_at(span.end_ms))
    assert list(periods_of(period, Span(ms, ms + 1))) == [(name, span)]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "24",
        "20240",
        "2024-",
        "2024-00",
        "2024-13",
        "2024-1",
        "2024-01-",
        "2024-01-00",
        "2024-01-32",
        "2024-04-31",
        "2023-02-29",
        "2024-1-05",
        "2024-01-05-06",
        "2024-01-05\n",
        "２０２４",
        "0000",
        "all",
    ],
)
def test_what_is_no_period_is_named_and_has_no_span(name: str) -> None:
    assert not is_period(name)
    with pytest.raises(ValueError, match=r".+"):
        period_span(name)


@pytest.mark.parametrize(
    "text", ["um/klines/1m", "um/klines/1m/A/B", "um/klines/2m/BTCUSDT", "xx/klines/1m/BTC", ""]
)
def test_what_is_no_series_is_not_parsed(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Series.parse(text)


def test_a_message_cannot_smuggle_a_path_in_as_a_symbol() -> None:
    with pytest.raises(RequestError):
        Series.parse("um/klines/1m/..")
    with pytest.raises(RequestError):
        Partition.parse("um/klines/1m/./2024-01")


@pytest.mark.parametrize(
    "symbol",
    [
        "BTCUSDT",
        "BTCUSD_PERP",
        "BTCUSDT_261225",
        "1000SHIBUSDT",
        "币安人生",
        "ДОГЕUSDT",
        "ΔUSDT",
        "A-B",
        "한국USDT",
        "हिन्दीUSDT",
        "สวัสดีUSDT",
    ],
)
def test_symbols_of_any_script_are_accepted(symbol: str) -> None:
    assert checked_symbol(symbol) == symbol


def test_a_symbol_is_read_in_the_exchanges_capitals() -> None:
    assert checked_symbol(" btcusdt\n") == "BTCUSDT"


BAD = [
    "",
    " ",
    ".",
    "..",
    "../X",
    "A/B",
    "A\\B",
    "A B",
    "A\tB",
    "A\nB",
    "A\x00B",
    "\x1b[31m",
    "A%2FB",
    "A?B",
    "A#",
    "A=B",
]


@pytest.mark.parametrize(
    "symbol", [*BAD, "A" * 61, "A⁄B", "A\u2028B", "A\u200bB", "\u202eTDSU", "😀"]
)
def test_what_cannot_be_a_symbol_is_refused_and_named(symbol: str) -> None:
    with pytest.raises(RequestError) as refused:
        checked_symbol(symbol)
    assert repr(symbol) in str(refused.value)


@settings(max_examples=120)
@given(st.text(max_size=70))
def test_an_accepted_symbol_is_one_harmless_file_name(text: str) -> None:
    symbol = checked_or_none(text)
    assert symbol is None or not set(symbol) & set('/\\.\0 \t\n\r:*?"<>|%')
    assert symbol is None or len(f"symbol={symbol}".encode()) <= 255


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (utc_ms(2024, 1, 31), "2024-01-31"),
        (utc_ms(2024, 1, 31) + 12 * HOUR_MS, "2024-01-31T12:00"),
        (utc_ms(2024, 1, 31) + MINUTE_MS, "2024-01-31T00:01"),
        (utc_ms(2024, 1, 31) + 1, "2024-01-31T00:00:00.001"),
        (utc_ms(2024, 1, 31) + 59_999, "2024-01-31T00:00:59.999"),
        (0, "1970-01-01"),
    ],
)
def test_moments_are_told_as_short_as_they_can_be(ms: int, text: str) -> None:
    assert iso(ms) == text


@given(a=st.integers(0, 50), b=st.integers(0, 50), c=st.integers(0, 50), d=st.integers(0, 50))
def test_clip_is_what_both_spans_share(a: int, b: int, c: int, d: int) -> None:
    clipped = Span(a, b).clip(Span(c, d))
    assert set(range(clipped.start_ms, clipped.end_ms)) == set(range(a, b)) & set(range(c, d))
    assert clipped.is_empty == (not set(range(a, b)) & set(range(c, d)))


def test_a_window_is_told_by_market_symbol_interval_and_time() -> None:
    partition = Partition(Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT"), "2024-01")
    assert (
        str(Window(partition, Span(utc_ms(2024, 1, 1), utc_ms(2024, 1, 2))))
        == "um BTCUSDT 1m 2024-01-01..2024-01-02"
    )
