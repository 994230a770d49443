"""The peak memory of compactions of several kinds, against the memory reserved for each.

Each case runs in a process of its own: `python -m tests.benchmarks.compaction_memory CASE STORE`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from klinefleet.tasks.ingest.raw_rows import answers, load_raw_objects
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import days_of
from klinefleet.workers.sources.consensus import resolve_conflicts
from klinefleet.workers.sources.memory_needs import bytes_to_compact
from klinefleet.workers.support.machine import own_memory, peak_memory
from klinefleet.workers.support.settings import Settings
from tests.benchmarks.measure import show

DAY = utc_ms(2024, 3, 5)
#: Rows of a page of REST, and pages of one raw object.
PAGE, PAGES = 1_000, 10
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A partition, the sources of its raw objects, and whether the lake holds half of it."""

    interval: Interval
    sources: tuple[Source, ...]
    is_held: bool = False

    @property
    def partition(self) -> Partition:
        return Series(Market.SPOT, KLINES, self.interval, "BTCUSDT").partition(DAY)


CASES = {
    "1s-day-file": Case(Interval.S1, (Source.DAILY,)),
    "1s-rest": Case(Interval.S1, (Source.REST,)),
    "1s-rest-and-day-file-and-held": Case(Interval.S1, (Source.REST, Source.DAILY), is_held=True),
    "1s-month-file": Case(Interval.S1, (Source.MONTHLY,)),
    "1m-month-file": Case(Interval.M1, (Source.MONTHLY,)),
    "1m-day-files-and-held": Case(Interval.M1, (Source.DAILY,), is_held=True),
    "1m-rest-and-month-file-and-held": Case(
        Interval.M1, (Source.REST, Source.MONTHLY), is_held=True
    ),
    "15m-month-files-and-held": Case(Interval.M15, (Source.MONTHLY,), is_held=True),
}


def compaction_memory() -> None:
    """Compact a partition of each kind; show its peak beside what was reserved for it."""
    for name in CASES:
        with tempfile.TemporaryDirectory(prefix="klines-bench-") as store:
            _put(Services(Settings(store_url=store)), CASES[name])
            command = [sys.executable, "-m", "tests.benchmarks.compaction_memory", name, store]
            told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        show(
            f"compaction of {name}",
            **told,
            peak_of_reserved=told["peak_mib"] / told["reserved_mib"],
        )


def _put(services: Services, case: Case) -> None:
    """Store a case's raw objects, and half of their rows as the partition."""
    for source in case.sources:
        for span in _spans(case, source):
            if source is Source.REST:
                pages = list(_pages(case.interval, span))
                services.raw_zone.store(case.partition, span, pages, asked_ms=1)
                continue
            file = ArchiveFile.of(case.partition.series, source, span.start_ms)
            body = io.BytesIO()
            with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{file.stem}.csv", _csv(case.interval, file.span))
            services.raw_zone.store_file(
                case.partition, span, body.getvalue(), source, "etag", asked_ms=1
            )
    if case.is_held:
        _compact(services, case, share=2)


def _spans(case: Case, source: Source) -> Iterator[Span]:
    """Yield the spans of the raw objects of a source."""
    whole, step_ms = case.partition.span, case.interval.step_ms * PAGE * PAGES
    if source is Source.DAILY:
        yield from days_of(whole)
    elif source is Source.MONTHLY:
        yield from (month.clip(whole) for _, month in months_of(whole))
    else:
        for start_ms in range(whole.start_ms, whole.end_ms, step_ms):
            yield Span(start_ms, start_ms + step_ms).clip(whole)


def _rows(interval: Interval, span: Span) -> pl.DataFrame:
    """Return candles whose values compress as badly as real ones."""
    at = pl.int_range(span.start_ms, span.end_ms, interval.step_ms, eager=True)
    noise = at.hash(1) % 100_000
    price, volume = 60_000 + noise / 1000, (at.hash(2) % 3_000_000) / 100_000
    return pl.DataFrame(
        {
            "open_time": at,
            "open": price,
            "high": price + 7.25,
            "low": price - 9.5,
            "close": price + 1.5,
            "volume": volume,
            "close_time": at + interval.step_ms - 1,
            "quote_volume": (volume * price).round(6),
            "count": at.hash(3) % 5_000,
            "taker": (volume / 3).round(5),
            "taker_quote": (volume * price / 3).round(6),
            "ignore": pl.repeat(0, at.len(), eager=True),
        }
    )


def _csv(interval: Interval, span: Span) -> bytes:
    return _rows(interval, span).write_csv(include_header=False).encode()


def _pages(interval: Interval, span: Span) -> Iterator[bytes]:
    for rows in _rows(interval, span).iter_slices(PAGE):
        lines = rows.write_csv(include_header=False).splitlines()
        yield f"[{','.join(f'[{line}]' for line in lines)}]".encode()


def _compact(services: Services, case: Case, share: int = 1) -> None:
    """Do what a compaction does with the rows of a partition."""
    partition = case.partition
    loaded = load_raw_objects(services, services.raw_zone.entries(partition))
    won = resolve_conflicts(partition.series, loaded.versions, no_rows(KLINES)).rows
    services.partitions.merge(partition, won.head(won.height // share), answers(loaded))


if __name__ == "__main__":
    chosen, services = CASES[sys.argv[1]], Services(Settings(store_url=sys.argv[2]))
    wanted = bytes_to_compact(chosen.partition, services.raw_zone.entries(chosen.partition))
    idle = own_memory()
    _compact(services, chosen)
    held = services.partitions.rows(chosen.partition).height
    peak = (peak_memory() - idle) // MIB
    print(json.dumps({"rows": held, "peak_mib": peak, "reserved_mib": wanted // MIB}))
