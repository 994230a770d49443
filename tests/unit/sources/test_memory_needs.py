"""What work needs is known from what it is made of, before it begins."""

from __future__ import annotations

import pytest

from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.limits.memory_slots import SMALL
from klinefleet.workers.sources.memory_needs import (
    bytes_to_compact,
    bytes_to_download,
    bytes_to_rewrite,
)

MIB = 1 << 20
AT = utc_ms(2024, 3, 5)


def partition(interval: Interval) -> Partition:
    return Series(Market.SPOT, KLINES, interval, "BTCUSDT").partition(AT)


def entry(of: Partition, source: Source, span: Span | None = None) -> RawEntry:
    return RawEntry("raw/x", of, span or of.span, 1, "content", source)


# The peaks that `make bench ONLY=compaction_memory` measured, in MiB.
@pytest.mark.parametrize(
    ("interval", "sources", "peak"),
    [
        (Interval.S1, (Source.DAILY,), 91),
        (Interval.S1, (Source.REST,), 78),
        (Interval.S1, (Source.REST, Source.DAILY), 183),
        (Interval.S1, (Source.MONTHLY,), 592),
        (Interval.M1, (Source.MONTHLY,), 82),
        (Interval.M1, (Source.REST, Source.MONTHLY), 108),
        (Interval.M15, (Source.MONTHLY,), 72),
    ],
)
def test_a_compaction_needs_at_least_what_was_measured_and_not_twice_that(
    interval: Interval, sources: tuple[Source, ...], peak: int
) -> None:
    of = partition(interval)
    spans = [month.clip(of.span) for _, month in months_of(of.span)]
    needed = bytes_to_compact(of, [entry(of, s, span) for s in sources for span in spans]) / MIB
    assert peak <= needed < 2 * peak


def test_a_day_needs_its_months_whole_file_if_that_is_what_there_is() -> None:
    day = partition(Interval.S1)
    assert day.span.end_ms - day.span.start_ms == DAY_MS
    own, months = (bytes_to_compact(day, [entry(day, s)]) for s in (Source.DAILY, Source.MONTHLY))
    assert months > 5 * own


def test_rare_events_need_little() -> None:
    funding = Series(Market.USD_M, kind_named("fundingRate"), Interval.EVENTS, "BTCUSDT")
    year = funding.partition(AT)
    months = [entry(year, Source.MONTHLY, Span(AT, AT + 1))] * 12
    assert bytes_to_compact(year, months) < 64 * MIB


def test_only_the_biggest_files_of_the_archive_wait_for_memory() -> None:
    for interval, is_big in ((Interval.S1, True), (Interval.M1, False), (Interval.H1, False)):
        series = partition(interval).series
        assert (bytes_to_download(ArchiveFile.of(series, Source.MONTHLY, AT)) > SMALL) is is_big


def test_a_month_of_seconds_that_is_migrated_needs_its_rows() -> None:
    series = partition(Interval.S1).series
    month, year = Partition(series, "2024-03"), partition(Interval.H1)
    # Measured: 431 MiB to read it and to take days out of it.
    assert 500 * MIB < bytes_to_rewrite([month]) < 800 * MIB
    assert bytes_to_rewrite([year]) < 64 * MIB
