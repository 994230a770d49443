"""A summary tells causes: what has one cause is one line, whatever came of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klinefleet.tasks.runs.records import Cause, Level, Record, causes
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, utc_ms
from tests.unit.helpers.klines import MINUTES

REFUSED = "Restricted: 451, the archive does not serve this address"
FEBRUARY = Span(utc_ms(2023, 2), utc_ms(2023, 3))


def lines(*records: Record) -> list[str]:
    return [f"{one.level} {one.name}: {one.text}" for one in causes(records)]


def symbol(number: int) -> Series:
    return replace(MINUTES, symbol=f"SIM{number:03d}USDT")


def month(reason: str = REFUSED, series: Series = MINUTES) -> Record:
    """The report of February's file, in whose place its daily files are fetched."""
    key = ArchiveFile.of(series, Source.MONTHLY, FEBRUARY.start_ms).key
    return Record(Level.REPORT, f"{reason} ({key}); daily files instead", series, FEBRUARY, key)


def days(
    reason: str = REFUSED, series: Series = MINUTES, numbers: range = range(28)
) -> list[Record]:
    """The failures of February's daily files."""
    found = []
    for number in numbers:
        start_ms = FEBRUARY.start_ms + number * DAY_MS
        key = ArchiveFile.of(series, Source.DAILY, start_ms).key
        span = Span(start_ms, start_ms + DAY_MS)
        found.append(Record(Level.FAILED, f"{reason} ({key})", series, span, "daily"))
    return found


def test_a_refused_month_is_one_line_and_not_twenty_eight() -> None:
    file = month()
    assert lines(*days(), file) == [
        f"failed {file.name}: {file.text}, of which 28 failed alike",
    ]


def test_what_the_days_of_a_month_failed_with_is_told_in_its_line() -> None:
    told = days(numbers=range(20)) + days("NotPublished: no such file", numbers=range(20, 28))
    (line,) = lines(month(), *told)
    assert line.endswith(
        "; daily files instead, of which 20 failed alike and 8: NotPublished: no such file"
    )


def test_refused_months_of_many_symbols_are_one_line() -> None:
    records = [
        record for n in range(5) for record in [month(series=symbol(n)), *days(series=symbol(n))]
    ]
    assert lines(*records) == [
        "failed 5 files of 5 symbols (SIM000USDT, SIM001USDT, SIM002USDT, …), "
        f"2023-02-01..2023-03-01: {REFUSED}; daily files instead, of which 140 failed alike"
    ]


def test_a_month_whose_days_were_good_is_no_failure() -> None:
    file = month("ChecksumMismatch: other bytes")
    assert lines(file) == [f"report {file.name}: {file.text}"]


def test_days_of_another_month_or_symbol_are_no_consequence() -> None:
    other = [replace(record, series=symbol(1)) for record in days()]
    march = [
        replace(one, span=Span(one.span.start_ms + 28 * DAY_MS, one.span.end_ms + 28 * DAY_MS))
        for one in days()
        if one.span
    ]
    found = causes([month(), *other, *march])
    assert [(one.level, one.size, one.consequences) for one in found] == [
        (Level.FAILED, 56, []),
        (Level.REPORT, 1, []),
    ]


def windows(text: str, count: int, series: Series = MINUTES) -> list[Record]:
    start_ms = utc_ms(2024)
    return [
        Record(
            Level.FAILED,
            text.format(n),
            series,
            Span(start_ms + n * HOUR_MS, start_ms + (n + 1) * HOUR_MS),
            "rest",
        )
        for n in range(count)
    ]


def test_three_hundred_failures_of_one_cause_are_one_line_and_the_biggest_comes_first() -> None:
    records = [
        Record(Level.FAILED, "StoreFault: could not write", MINUTES),
        *windows("BadAnswer: other rows than were asked for (page {}); nothing was kept", 3),
        *(one for n in range(15) for one in windows("Restricted: 451", 20, symbol(n))),
        Record(Level.FAILED, "Unreadable: later", source="plan"),
    ]
    assert lines(*records) == [
        "failed plan: Unreadable: later",
        "failed 300 windows of 15 symbols (SIM000USDT, SIM001USDT, SIM002USDT, …), "
        "2024-01-01..2024-01-01T20:00: Restricted: 451",
        "failed 3 windows of BTCUSDT, 2024-01-01..2024-01-01T03:00: "
        "BadAnswer: other rows than were asked for; nothing was kept",
        "failed um BTCUSDT: StoreFault: could not write",
    ]


def test_days_that_were_witnesses_only_are_no_consequence_of_a_month_that_rest_answered() -> None:
    file = month()
    by_rest = replace(file, text=file.text.replace("daily files", "REST"))
    assert [one.consequences for one in causes([by_rest, *days()])] == [[], []]


def test_damaged_partitions_are_one_line_though_each_is_named_in_its_text() -> None:
    text = "PartitionDamaged: lake/um/2024-{:02}.parquet: its rows do not decode; it was left"
    (line,) = lines(*windows(text, 12))
    assert line.endswith("T12:00: PartitionDamaged: its rows do not decode; it was left")


def test_a_failure_alone_is_told_in_full() -> None:
    (record,) = windows("BadAnswer: other rows (page {}); nothing was kept", 1)
    assert lines(record) == [
        "failed um BTCUSDT 1m 2024-01-01..2024-01-01T01:00: "
        "BadAnswer: other rows (page 0); nothing was kept"
    ]


def test_missing_files_and_notes_of_one_text_are_one_line_each() -> None:
    files = [
        Record(
            Level.REPORT,
            "absent: daily files instead",
            symbol(n),
            FEBRUARY,
            ArchiveFile.of(symbol(n), Source.MONTHLY, FEBRUARY.start_ms).key,
        )
        for n in range(2)
    ]
    notes = [Record(Level.NOTE, "did not trade then", symbol(n)) for n in range(4)]
    assert lines(*files, *notes) == [
        "note 4 symbols (SIM000USDT, SIM001USDT, SIM002USDT, …): did not trade then",
        "report 2 files of SIM000USDT, SIM001USDT, 2023-02-01..2023-03-01: "
        "absent: daily files instead",
    ]


@pytest.mark.parametrize("level", [Level.FAILED, Level.REPORT])
def test_no_record_is_lost_in_its_cause(level: Level) -> None:
    records = [replace(one, level=level) for one in windows("why ({})", 9)]
    (cause,) = causes(records)
    assert isinstance(cause, Cause)
    assert (cause.level, cause.records) == (level, records)
