"""The range of a request: from two moments to open times of closed candles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.tasks.requests import build
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.timestamps import DAY_MS, iso, utc_ms
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.strategies import intervals, moments

NOW_MS = utc_ms(2024, 6, 15) + 10 * 3_600_000 + 30_500


def range_of(
    start: str, end: str | None = None, *, interval: Interval = Interval.M1, now_ms: int = NOW_MS
) -> list[str]:
    return [iso(ms) for ms in build.parse_range(KLINES, interval, start, end, now_ms=now_ms)]


@pytest.mark.parametrize(
    ("start", "end", "interval", "wanted"),
    [
        ("2024-01-01", "2024-02-01", Interval.M1, ["2024-01-01", "2024-02-01"]),
        (
            "2024-01-01T00:00:30",
            "2024-01-01T00:05:30",
            Interval.M1,
            ["2024-01-01T00:01", "2024-01-01T00:06"],
        ),
        (
            "2024-01-01T02:00+02:00",
            "2024-01-01T00:01Z",
            Interval.M1,
            ["2024-01-01", "2024-01-01T00:01"],
        ),
        ("2024-01-03", "2024-01-30", Interval.W1, ["2024-01-08", "2024-02-05"]),
        ("2024-01-15", "2024-03-15", Interval.MO1, ["2024-02-01", "2024-04-01"]),
        ("2024-06-01", None, Interval.D1, ["2024-06-01", "2024-06-15"]),
        ("2024-06-01", "2025-01-01", Interval.D1, ["2024-06-01", "2024-06-15"]),
        ("2024-06-15", None, Interval.M1, ["2024-06-15", "2024-06-15T10:00"]),
        ("20240101", "20240102", Interval.M1, ["2024-01-01", "2024-01-02"]),
    ],
)
def test_a_range_is_the_open_times_between_its_ends(
    start: str, end: str | None, interval: Interval, wanted: list[str]
) -> None:
    assert range_of(start, end, interval=interval) == wanted


@pytest.mark.parametrize(
    ("past_ms", "last"),
    [(0, "23:59"), (KLINES.settle_ms - 1, "23:59"), (KLINES.settle_ms, "24:00")],
)
def test_a_candle_is_asked_for_only_once_it_has_been_closed_for_a_while(
    past_ms: int, last: str
) -> None:
    wanted = "2024-01-02" if last == "24:00" else f"2024-01-01T{last}"
    assert range_of("2024-01-01", now_ms=utc_ms(2024, 1, 2) + past_ms) == ["2024-01-01", wanted]


@settings(max_examples=70, deadline=None)
@given(
    interval=intervals,
    start_ms=moments.filter(lambda ms: ms >= build.FIRST_MS),
    length=st.integers(0, 60 * DAY_MS),
    ago=st.integers(-DAY_MS, 90 * DAY_MS),
)
def test_every_candle_of_a_range_opens_in_it_and_is_closed(
    interval: Interval, start_ms: int, length: int, ago: int
) -> None:
    now_ms, end_ms = start_ms + ago, start_ms + length
    texts = [f"{iso(ms)}Z" if "T" in iso(ms) else iso(ms) for ms in (start_ms, end_ms)]
    closed = [
        at
        for n in range(61)
        if (at := interval.advance(interval.ceil(start_ms), n)) < end_ms
        and interval.advance(at, 1) <= now_ms - KLINES.settle_ms
    ]
    try:
        first_ms, last_ms = build.parse_range(KLINES, interval, *texts, now_ms=now_ms)
    except RequestError:
        assert closed == []
        return
    assert closed
    assert first_ms == closed[0]
    assert last_ms == interval.floor(last_ms) <= interval.ceil(end_ms)
    assert last_ms <= now_ms - KLINES.settle_ms
    assert len(closed) == 61 or last_ms == interval.advance(closed[-1], 1)


@pytest.mark.parametrize(
    ("start", "end", "interval", "said"),
    [
        ("2024-06-16", None, Interval.M1, "start 2024-06-16 is in the future"),
        ("2024-02-01", "2024-01-01", Interval.M1, "start 2024-02-01 is not before end 2024-01-01"),
        ("2024-01-01", "2024-01-01", Interval.M1, "is not before end"),
        (
            "2024-06-15",
            None,
            Interval.D1,
            "no 1d candle opens and closes between 2024-06-15 and now",
        ),
        ("2024-01-02", "2024-01-06", Interval.W1, "no 1w candle opens and closes between"),
        ("yesterday", None, Interval.M1, "start 'yesterday' is no date like 2024-01-31"),
        ("2024-01-01", "2024-02-30", Interval.M1, "end '2024-02-30' is no date like"),
        ("", None, Interval.M1, "start '' is no date"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_in_one_line(
    start: str, end: str | None, interval: Interval, said: str
) -> None:
    with pytest.raises(RequestError) as refused:
        range_of(start, end, interval=interval)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_end_in_the_far_future_means_now() -> None:
    assert range_of("2024-06-01", "9999-12-31", interval=Interval.D1) == [
        "2024-06-01",
        "2024-06-15",
    ]


def test_an_end_in_the_last_month_there_is_means_now_too() -> None:
    assert range_of("2024-01-01", "9999-12-31", interval=Interval.MO1) == [
        "2024-01-01",
        "2024-06-01",
    ]


def test_a_source_is_found_by_its_name() -> None:
    assert build.parse_source("REST") is Mode.REST
    with pytest.raises(RequestError, match="unknown source 'ftp'; known are auto, archive, rest"):
        build.parse_source("ftp")


@pytest.mark.parametrize("error", [RequestError("no market 'x'"), UnknownSymbol("no symbol X")])
def test_a_refusal_says_once_what_happened_to_the_data(error: RequestError) -> None:
    with pytest.raises(type(error)) as refused, on_refusal("nothing was queued"):
        raise error
    assert str(refused.value) == f"{error}; nothing was queued"
