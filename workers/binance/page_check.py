"""What a page of rows must look like, checked on its bytes: fetch threads parse no candles."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from klinefleet.workers.binance.calls.answers import bare_json
from klinefleet.workers.domain.errors import BadAnswer
from klinefleet.workers.domain.kinds.declaration import ColumnType, Kind, RestRows
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import MINUTE_MS, SECOND_MS

_DIGITS = b"0123456789.-"
_FIRST = re.compile(rb"\[\[(\d{13}),")
#: The open and the close time of the last candle: open time, o h l c v, close time, and so on.
_LAST = re.compile(rb'\[(\d{13}),(?:"[^"]*",){5}(\d{13}),[^\[]*\]\]$')

#: An event of this very second may still be missing in the answer.
_EVENT_DELAY_MS = MINUTE_MS


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What a checked page holds."""

    rows: int
    """Rows in it, without a candle that is still open."""
    end_ms: int
    """Rows that open before this are final, ms UTC: the page's end, or earlier near the present."""
    is_full: bool = False
    """Whether there may be more rows than came; only of events: no calendar counts them."""


def inspect(body: bytes, page: Page, series: Series, server_ms: int | None) -> PageFacts:
    """Return what the page holds; BadAnswer unless it has such rows, all within the page's span.

    The exchange does not mark the open candle: a candle is open until its close time is before the
    exchange's clock (`server_ms`, ms UTC).
    """
    interval = series.interval
    if series.kind.rest_rows is RestRows.OBJECTS:
        return _inspect_objects(body, page, series, server_ms)
    end_ms = (
        page.span.end_ms if server_ms is None else min(page.span.end_ms, interval.floor(server_ms))
    )
    body = bare_json(body)
    if body == b"[]":
        return PageFacts(0, max(end_ms, page.span.start_ms))
    skeleton = body.translate(None, _DIGITS)
    rows = skeleton.count(b"[") - 1
    first, last = _FIRST.match(body), _LAST.search(body, max(0, len(body) - 1000))
    if skeleton != _skeleton(series.kind, rows) or not first or not last:
        raise BadAnswer(
            f"the answer is not rows of {series.kind} ({page.span}: {body[:80]!r}…{body[-40:]!r}); "
            "nothing was kept"
        )
    opened_ms, last_ms, close_ms = int(first[1]), int(last[1]), int(last[2])
    if rows > page.limit or not page.span.start_ms <= opened_ms <= last_ms < page.span.end_ms:
        found = f"{rows} rows from {opened_ms} to {last_ms}"
        raise BadAnswer(
            f"the answer has other rows than were asked for ({page.span}, at most {page.limit}: "
            f"{found}); nothing was kept"
        )
    # The Date header names a second; a candle that closes within it may still change.
    if server_ms is not None and close_ms >= server_ms - server_ms % SECOND_MS:
        return PageFacts(rows - 1, max(page.span.start_ms, min(end_ms, last_ms)))
    return PageFacts(rows, end_ms)


def _inspect_objects(body: bytes, page: Page, series: Series, server_ms: int | None) -> PageFacts:
    """Return the same of a page of objects: there are a few hundred, so they are parsed."""
    time, *others = [column for column in series.kind.columns if column.rest_field]
    required = [column.rest_field for column in others if not column.may_be_null]
    try:
        rows = json.loads(body)
        opened = [(str(row["symbol"]), int(row[time.rest_field])) for row in rows]
        for row in rows:
            for field in required:
                float(row[field])
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(
            f"the answer is not rows of {series.kind} ({page.span}: {body[:80]!r}); nothing was "
            "kept"
        ) from error
    for symbol, at_ms in opened:
        if symbol != series.symbol or not page.span.start_ms <= at_ms < page.span.end_ms:
            raise BadAnswer(
                f"the answer has other rows than were asked for ({page.span}: {symbol} at "
                f"{at_ms}); nothing was kept"
            )
    final_ms = page.span.end_ms
    if server_ms is not None:
        final_ms = min(final_ms, server_ms - _EVENT_DELAY_MS)
    is_full = len(rows) >= page.limit
    return PageFacts(len(rows), max(page.span.start_ms, final_ms), is_full)


@lru_cache(maxsize=2048)
def _skeleton(kind: Kind, rows: int) -> bytes:
    """Return a page of so many rows without its digits."""
    quoted = (ColumnType.FLOAT, ColumnType.TEXT)
    row = b",".join(b'""' if column.type in quoted else b"" for column in kind.archive_columns)
    return b"[" + b",".join([b"[" + row + b"]"] * rows) + b"]"
