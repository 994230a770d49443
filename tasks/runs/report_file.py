"""report.csv: a run's failures and reports in the store, which outlive its state in Redis."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from klinefleet.tasks.runs.progress import Progress
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import parse_iso
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services

REPORT_FILE = "report.csv"
#: The level of the row whose `text` is the run's request, as JSON.
REQUEST_LEVEL = "request"
#: Times are UTC, ends exclusive.
_COLUMNS = ("level", "market", "kind", "interval", "symbol", "start", "end", "source", "text")


def store_report(services: Services, progress: Progress) -> None:
    """Store the run's failures and reports, if any, as reports/<run>/report.csv.

    The file also keeps the request, for when Redis has forgotten the run.
    """
    records = [record for record in progress.records if record.level is not Level.NOTE]
    if records:
        body = to_csv(records, progress.request.to_json())
        services.store.put(keys.report(progress.run, REPORT_FILE), body)


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
