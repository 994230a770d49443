"""Records of a run: kept by subject, named for people, and read back from a report."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinefleet.tasks.runs.records import Level, Record, texts_by_name
from klinefleet.tasks.runs.report_file import REQUEST_LEVEL, parse_csv, to_csv
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes

FILE = "data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip"
SERIES = st.sampled_from(
    [
        MINUTES,
        Series(Market.COIN_M, MARK_PRICE_KLINES, Interval.MO1, "BTCUSD_PERP"),
        Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "币安人生USDT"),
    ]
)
MS = st.integers(0, utc_ms(2100))
SPANS = st.builds(lambda at, long: Span(at, at + long), MS, st.integers(1, 10**9))
RECORDS = st.builds(
    Record,
    st.sampled_from(Level),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1),
    SERIES | st.none(),
    SPANS | st.none(),
    st.sampled_from(["", "monthly", FILE, "plan"]),
)


@given(RECORDS)
def test_a_record_is_read_back_from_redis_as_it_was(record: Record) -> None:
    assert Record.from_identity(record.identity, record.text) == record


@given(st.lists(RECORDS, max_size=5))
def test_a_report_is_read_back_as_it_was(records: list[Record]) -> None:
    assert parse_csv(to_csv(records, '{"market": "um"}')) == (records, '{"market": "um"}')


def test_rows_that_say_nothing_do_not_hide_those_that_do() -> None:
    record = Record.for_partition(Level.FAILED, JANUARY, "why")
    header, row, request = to_csv([record], "{}").splitlines(keepends=True)
    torn = b"failed,um,klines,1m,BTCUSDT,2024-13-01,,,x\nfailed,um\nso what\n\xff\n"
    assert parse_csv(header + torn + row + request) == ([record], "{}")
    assert parse_csv(b"what,told\num/klines/1m/BTCUSDT/2024-01,FAILED of an earlier version\n") == (
        [],
        None,
    )
    assert parse_csv(b"") == ([], None)


def test_a_level_that_a_later_version_has_is_left_out() -> None:
    header, row, request = to_csv([Record(Level.NOTE, "x", MINUTES)], REQUEST_LEVEL).splitlines(
        keepends=True
    )
    assert parse_csv(header + row.replace(b"note", b"hint") + request)[0] == []


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Record(Level.REPORT, "", MINUTES, minutes(0, 9), FILE), FILE),
        (Record(Level.FAILED, "", source="plan"), "plan"),
        (Record(Level.NOTE, "", MINUTES), "BTCUSDT"),
        (Record(Level.FAILED, "", MINUTES), "um BTCUSDT"),
        (Record.for_partition(Level.FAILED, JANUARY, ""), "um BTCUSDT 1m 2024-01-01..2024-02-01"),
        (
            Record.for_window(Level.FAILED, Window(JANUARY, JANUARY.span, Source.MONTHLY), ""),
            "um BTCUSDT 1m 2024-01-01..2024-02-01 (monthly archive)",
        ),
    ],
)
def test_a_record_is_named_by_what_it_is_about(record: Record, name: str) -> None:
    assert record.name == name


def test_of_two_records_of_one_thing_the_later_stands() -> None:
    first, second = (
        Record.for_partition(Level.FAILED, JANUARY, why) for why in ("first", "second")
    )
    kept = {record.identity: record.text for record in (first, second)}
    assert list(kept.values()) == ["second"]
    assert texts_by_name([Record.from_identity(*one) for one in kept.items()], Level.FAILED) == {
        second.name: "second"
    }


def test_times_in_a_report_are_told_for_people_in_utc() -> None:
    span = Span(utc_ms(2024), utc_ms(2024) + 1)
    line = to_csv([Record(Level.REPORT, "x", MINUTES, span)], "{}").decode().splitlines()[1]
    assert datetime.fromtimestamp(span.start_ms / 1000, UTC).strftime("%Y-%m-%d") in line
