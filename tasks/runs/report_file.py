"""report.csv: a run's failures and reports in the store, which outlive its state in Redis.

Of a run with many records Redis keeps none once it has ended: they are in its report.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable
from dataclasses import replace

from klinefleet.tasks.runs.progress import Progress
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import KEPT_RECORDS
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import parse_iso
from klinefleet.workers.lake import keys
from klinefleet.workers.storage.objects import ObjectStore

logger = logging.getLogger(__name__)

REPORT_FILE = "report.csv"
#: The level of the row whose `text` is the run's request, as JSON.
REQUEST_LEVEL = "request"
#: Times are UTC, ends exclusive.
_COLUMNS = ("level", "market", "kind", "interval", "symbol", "start", "end", "source", "text")


def store_report(store: ObjectStore, progress: Progress) -> int:
    """Store the run's records as reports/<run>/report.csv, and return how many.

    The file also keeps the request, for when Redis has forgotten the run. There is none, and 0 is
    returned, for a run with nothing but a few notes.
    """
    records = progress.records
    if len(records) <= KEPT_RECORDS and all(one.level is Level.NOTE for one in records):
        return 0
    store.put(keys.report(progress.run, REPORT_FILE), to_csv(records, progress.request.to_json()))
    return len(records)


def with_records(store: ObjectStore, progress: Progress) -> Progress:
    """Return the progress with the records that have left Redis for the run's report."""
    if not progress.moved:
        return progress
    key = keys.report(progress.run, REPORT_FILE)
    try:
        body = store.read(key)
    except StoreFault as error:
        logger.warning("what went wrong in run %s is not shown: %s", progress.run, error)
        return progress
    if body is None:
        logger.warning("what went wrong in run %s is not shown: %s is gone", progress.run, key)
        return progress
    return replace(progress, records=parse_csv(body)[0])


def to_csv(records: Iterable[Record], request: str) -> bytes:
    """Return the records and the request (JSON) as the body of a report."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(_to_row(record))
    writer.writerow({"level": REQUEST_LEVEL, "text": request})
    return text.getvalue().encode()


def parse_csv(body: bytes) -> tuple[list[Record], str | None]:
    """Return the records and the request (JSON) of a report.

    Rows that cannot be parsed are left out: people may edit the file.
    """
    records, request = list[Record](), None
    for row in csv.DictReader(io.StringIO(body.decode(errors="replace"))):
        if row.get("level") == REQUEST_LEVEL:
            request = row["text"]
            continue
        try:
            records.append(_parse_row(row))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return records, request


def _to_row(record: Record) -> dict[str, str]:
    row = {"level": str(record.level), "source": record.source, "text": record.text}
    if series := record.series:
        row |= {
            "market": series.market,
            "kind": str(series.kind),
            "interval": series.interval,
            "symbol": series.symbol,
        }
    if span := record.span:
        start, _, end = str(span).partition("..")
        row |= {"start": start, "end": end}
    return row


def _parse_row(row: dict[str, str]) -> Record:
    if None in row.values():
        raise ValueError("a row with too few columns")
    series, span = None, None
    if row["symbol"]:
        series = Series(
            Market(row["market"]), kind_named(row["kind"]), Interval(row["interval"]), row["symbol"]
        )
    if row["start"]:
        span = Span(parse_iso(row["start"]), parse_iso(row["end"]))
    return Record(Level(row["level"]), row["text"], series, span, row["source"])
