"""Builds and parses every object key.

lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet
raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/<start ms>-<end ms>-<content>.json.zst
raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/<start ms>-<end
ms>-<content>.monthly.<etag>.zip catalog/market=um/2026-11-21.parquet reports/<run>/…
damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01-<content>.parquet
"""

from __future__ import annotations

import re
from functools import lru_cache

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Block, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import is_symbol

_SERIES = re.compile(
    r"lake/market=(?P<market>\w+)/kind=(?P<kind>\w+)(?:/interval=(?P<interval>\w+))?/symbol=(?P<symbol>[^/]+)"
)
_MONTH = re.compile(r".*/((?:19[7-9]\d|[2-9]\d{3})-(?:0[1-9]|1[0-2]))\.parquet")
_RAW_NAME = re.compile(
    r"(\d+)-(\d+)-([0-9a-f]{16})\.(?:json\.zst|(monthly|daily)\.([0-9A-Za-z-]*)\.zip)"
)


def series_folder(zone: str, series: Series) -> str:
    """Return the folder of a series in `zone` (lake or raw), without a closing slash.

    A month's candles are spelled 1mo, as in the archive: on some file systems 1M and 1m are one
    folder. What has no grid has no interval either.
    """
    return (
        f"{group_folder(zone, series.market, series.kind, series.interval)}/symbol={series.symbol}"
    )


def market_folder(zone: str, market: Market) -> str:
    """Return the folder of a market."""
    return f"{zone}/market={market}"


def group_folder(zone: str, market: Market, kind: Kind, interval: Interval) -> str:
    """Return the folder of a group: all symbols of one kind and interval."""
    grid = (
        f"/interval={'1mo' if interval is Interval.MO1 else interval}" if interval.is_grid else ""
    )
    return f"{market_folder(zone, market)}/kind={kind}{grid}"


def symbol_of(key: str) -> str | None:
    """Return the symbol whose folder has the key; None if it is in none."""
    found = re.search(r"/symbol=([^/]+)/", key)
    return found[1] if found else None


def partition(series: Series, month: str) -> str:
    """Return the key of a series' partition of a month, YYYY-MM."""
    return f"{series_folder('lake', series)}/{month}.parquet"


def month_of(key: str) -> str | None:
    """Return the month of a partition's key; None if it is no partition's."""
    found = _MONTH.fullmatch(key)
    return found[1] if found else None


def partition_of(key: str) -> tuple[Series, str] | None:
    """Return the series and the month that `partition` was given for this key, None where it gives
    no such key.
    """
    series, month = _series_in(key.rpartition("/")[0]), month_of(key)
    return (series, month) if series and month and partition(series, month) == key else None


@lru_cache(maxsize=10_000)
def _series_in(folder: str) -> Series | None:
    """Return the series of a folder of the lake; None if it is no series'."""
    found = _SERIES.fullmatch(folder)
    if not found or not is_symbol(found["symbol"]):
        return None
    grid = {"1mo": Interval.MO1, None: Interval.EVENTS}.get(found["interval"], found["interval"])
    try:
        return Series(
            Market(found["market"]),
            kind_named(found["kind"]),
            Interval(grid or ""),
            found["symbol"],
        )
    except ValueError:
        return None


def damaged(series: Series, month: str, content: str) -> str:
    """Return the key under which a partition is kept aside that was not as it should be; `content`
    as for `raw`.
    """
    return f"{series_folder('damaged', series)}/{month}-{content}.parquet"


def raw_folder(block: Block) -> str:
    """Return the folder of a block's raw objects."""
    return f"{series_folder('raw', block.series)}/{block.period}"


def raw(
    block: Block, span: Span, content: str, source: Source = Source.REST, etag: str = ""
) -> str:
    """Return the key of a raw object that answers for `span`; `content` is 16 hex digits of its
    SHA-256.

    An archive file is kept as it is, under its source and the ETag it was published with.
    """
    ending = (
        f"{source}.{re.sub('[^0-9A-Za-z-]', '', etag)}.zip" if source.is_archive else "json.zst"
    )
    return f"{raw_folder(block)}/{span.start_ms}-{span.end_ms}-{content}.{ending}"


def catalog_folder(market: Market) -> str:
    """Return the folder of a market's catalogs."""
    return f"catalog/market={market}"


def catalog(market: Market, day: str) -> str:
    """Return the key of a market's catalog of a day, YYYY-MM-DD."""
    return f"{catalog_folder(market)}/{day}.parquet"


def is_catalog(market: Market, key: str) -> bool:
    """Return True for the key of a market's catalog."""
    return bool(
        re.fullmatch(
            re.escape(catalog_folder(market)) + r"/[0-9]{4}-[0-9]{2}-[0-9]{2}\.parquet", key
        )
    )


def report(run: str, name: str) -> str:
    """Return the key of a file of a run's report."""
    return f"reports/{run}/{name}"


def reports() -> str:
    """Return the folder of the reports of all runs."""
    return "reports"


def run_of(key: str) -> str | None:
    """Return the run of a report's key; None if it is no report's."""
    found = re.fullmatch(r"reports/([^/]+)/[^/]+", key)
    return found[1] if found else None


def parse_raw(series: Series, key: str) -> tuple[Block, Span, str, Source, str] | None:
    """Return the arguments of `raw` for this key; None if it is no raw object of the series."""
    period, _, name = key.removeprefix(series_folder("raw", series) + "/").partition("/")
    found = _RAW_NAME.fullmatch(name)
    if not found:
        return None
    span = Span(int(found[1]), int(found[2]))
    return Block(series, period), span, found[3], Source(found[4] or Source.REST), found[5] or ""
