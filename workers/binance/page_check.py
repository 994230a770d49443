"""What a page of klines must look like, told from its bytes alone: fetch threads never parse JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from klinefleet.workers.domain.errors import BadAnswer
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import MINUTE_MS, SECOND_MS

#: One row of klines without its digits: open time, o h l c v, close time, quote volume, count,
#: taker volumes, unused.
_ROW = b'[,"","","","","",,"",,"","",""]'
_DIGITS = b"0123456789.-"
_FIRST = re.compile(rb"\[\[(\d{13}),")
_LAST = re.compile(rb'\[(\d{13}),(?:"[^"]*",){5}(\d{13}),[^\[]*\]\]$')


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What a good page says of itself."""

    rows: int
    """Candles in it, the open one not counted."""
    end_ms: int
    """Candles that open before this are final: the page's end, or earlier where the present cuts
    it.
    """
    is_full: bool = False
    """Whether there may be more rows than were answered; only of events, whose number nobody knows
    beforehand.
    """


def inspect(body: bytes, page: Page, series: Series, server_ms: int | None) -> PageFacts:
    """Return what the page holds; BadAnswer where it is no page of such rows, or reaches outside
    what was asked.

    The exchange marks no candle as open: one is open while its close time is not before the
    exchange's clock.
    """
    interval = series.interval
    if not interval.is_grid:
        return _inspect_events(body, page, series.symbol, server_ms)
    end_ms = (
        page.span.end_ms if server_ms is None else min(page.span.end_ms, interval.floor(server_ms))
    )
    if body == b"[]":
        return PageFacts(0, max(end_ms, page.span.start_ms))
    skeleton = body.translate(None, _DIGITS)
    rows = skeleton.count(b"[") - 1
    first, last = _FIRST.match(body), _LAST.search(body, max(0, len(body) - 1000))
    if skeleton != _skeleton(rows) or not first or not last:
        raise BadAnswer(
            f"{page.span}: not rows of klines but {body[:80]!r}…{body[-40:]!r}; nothing was kept"
        )
    opened_ms, last_ms, close_ms = int(first[1]), int(last[1]), int(last[2])
    if rows > page.limit or not page.span.start_ms <= opened_ms <= last_ms < page.span.end_ms:
        found = f"{rows} rows from {opened_ms} to {last_ms}"
        raise BadAnswer(
            f"{page.span}: {found} where at most {page.limit} inside were asked for; nothing "
            "was kept"
        )
    # The Date header names a second; a candle that closes within it may still change.
    if server_ms is not None and close_ms >= server_ms - server_ms % SECOND_MS:
        return PageFacts(rows - 1, max(page.span.start_ms, min(end_ms, last_ms)))
    return PageFacts(rows, end_ms)


def _inspect_events(body: bytes, page: Page, symbol: str, server_ms: int | None) -> PageFacts:
    """The same of funding events: a few hundred objects, so they are parsed."""
    try:
        told = json.loads(body)
        events = [
            (str(event["symbol"]), int(event["fundingTime"]), float(event["fundingRate"]))
            for event in told
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(
            f"{page.span}: not funding rates but {body[:80]!r} ({error!r}); nothing was kept"
        ) from error
    for name, at_ms, _ in events:
        if name != symbol or not page.span.start_ms <= at_ms < page.span.end_ms:
            raise BadAnswer(
                f"{page.span}: an event of {name} at {at_ms} was not asked for; nothing was kept"
            )
    # An event of this very second may still be on its way into the answer.
    settled_ms = (
        page.span.end_ms if server_ms is None else min(page.span.end_ms, server_ms - MINUTE_MS)
    )
    return PageFacts(
        len(events), max(page.span.start_ms, settled_ms), is_full=len(events) >= page.limit
    )


@lru_cache(maxsize=2048)
def _skeleton(rows: int) -> bytes:
    return b"[" + b",".join([_ROW] * rows) + b"]"
