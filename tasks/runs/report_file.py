"""report.csv: what a run had to report, kept in the store beside the lake."""

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

#: A run's report in the store, and its columns; times UTC, ends exclusive. A row of the level
#: `request` tells in `text` what was asked for, as JSON.
REPORT, REQUEST = "report.csv", "request"
_COLUMNS = ("level", "market", "kind", "interval", "symbol", "start", "end", "source", "text")


def to_csv(records: Iterable[Record], request: str) -> bytes:
    """Return the records as a report; what was asked for stands there too."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(_row(record))
    writer.writerow({"level": REQUEST, "text": request})
    return text.getvalue().encode()


def of_csv(body: bytes) -> tuple[list[Record], str | None]:
    """Return the records of a report and what was asked for; rows that say nothing are left out:
    people may edit it.
    """
    records, request = list[Record](), None
    for row in csv.DictReader(io.StringIO(body.decode(errors="replace"))):
        if row.get("level") == REQUEST:
            request = row["text"]
            continue
        try:
            records.append(_of_row(row))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return records, request


def _row(record: Record) -> dict[str, str]:
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


def _of_row(row: dict[str, str]) -> Record:
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


def keep_report(services: Services, progress: Progress) -> None:
    """Keep in the store what a run has to report, if it has: reports/<run>/report.csv.

    What was asked for stands there too: when Redis has forgotten the run, this is what is left of
    it.
    """
    told = [record for record in progress.records if record.level is not Level.NOTE]
    if told:
        services.store.put(
            keys.report(progress.run, REPORT), to_csv(told, progress.request.to_json())
        )
