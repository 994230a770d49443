"""Builds and parses every object key.

lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet
lake/market=um/kind=klines/interval=1h/symbol=BTCUSDT/2024.parquet
raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/<answer>.json.zst
raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/<answer>.monthly.<etag>.zip
kept/market=um/… as in raw/, with KLINES_KEEP_RAW
damaged/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01-<content>.parquet
catalog/market=um/2026-11-21.parquet
reports/<run>/…
klinefleet.json

An answer is <start ms>-<end ms>-<asked ms>-<content>.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from klinefleet.workers.domain.intervals import Interval, is_period
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source, source_named
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import is_symbol
from klinefleet.workers.storage.objects import StoredObject

#: The store's identity.
IDENTITY = "klinefleet.json"

_SERIES = re.compile(
    r"(?:lake|raw)/market=(?P<market>\w+)/kind=(?P<kind>\w+)(?:/interval=(?P<interval>\w+))?/symbol=(?P<symbol>[^/]+)"
)
_PERIOD = re.compile(
    r".*/((?:19[7-9]\d|[2-9]\d{3})(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?)\.parquet"
)
_RAW_NAME = re.compile(
    r"(\d+)-(\d+)-(\d+)-([0-9a-f]{16})\.(?:json\.zst|(monthly|daily)\.([0-9A-Za-z-]*)\.zip)"
)


#: The folders of a store.
FOLDERS = ("lake", "raw", "reports", "catalog", "damaged", "kept")


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


def partition(of: Partition) -> str:
    """Return the key of a partition."""
    return f"{series_folder('lake', of.series)}/{of.period}.parquet"


def period_of(key: str) -> str | None:
    """Return the period of a partition's key; None if it is no partition's."""
    found = _PERIOD.fullmatch(key)
    return found[1] if found and is_period(found[1]) else None


def partition_of(key: str) -> Partition | None:
    """Return the partition that `partition` was given for this key, None where it gives no such
    key. In a lake of format 1 it is a month, whatever the series.
    """
    series, period = _series_in(key.rpartition("/")[0]), period_of(key)
    if not series or not period:
        return None
    found = Partition(series, period)
    is_possible = found.is_of_this_format or len(period) == len("2024-01")
    return found if is_possible and partition(found) == key else None


def partitions_in(listed: Iterable[StoredObject]) -> dict[StoredObject, Partition]:
    """Return the partitions among some objects, in their order.

    Left out are those in the time of a longer one. A migration that was interrupted leaves them:
    the months of a year that was published, or the first days of a month that is still there.
    """
    named = {entry: found for entry in listed if (found := partition_of(entry.key))}
    there = {entry.key for entry in named}
    return {
        entry: found
        for entry, found in named.items()
        if there.isdisjoint(_longer(entry.key, found.period))
    }


def _longer(key: str, period: str) -> Iterator[str]:
    """Yield the keys of the year and the month that a partition would lie in."""
    folder = key[: -len(f"{period}.parquet")]
    for length in (len("2024"), len("2024-01")):
        if length < len(period):
            yield f"{folder}{period[:length]}.parquet"


@lru_cache(maxsize=10_000)
def _series_in(folder: str) -> Series | None:
    """Return the series of a folder of the lake or the raw zone; None if it is no series'."""
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


def damaged(of: Partition, content: str) -> str:
    """Return the key under which a partition is kept aside that was not as it should be; `content`
    as for `raw`.
    """
    return f"{series_folder('damaged', of.series)}/{of.period}-{content}.parquet"


def raw_folder(partition: Partition) -> str:
    """Return the folder of a partition's raw objects."""
    return f"{series_folder('raw', partition.series)}/{partition.period}"


def raw(
    partition: Partition,
    span: Span,
    asked_ms: int,
    content: str,
    source: Source = Source.REST,
    etag: str = "",
) -> str:
    """Return the key of a raw object that answers for `span` and was asked for at `asked_ms`, by
    the exchange's clock; `content` is 16 hex digits of its SHA-256.

    An archive file is kept as it is, under its source and the ETag it was published with.
    """
    ending = (
        f"{source}.{re.sub('[^0-9A-Za-z-]', '', etag)}.zip" if source.is_archive else "json.zst"
    )
    name = f"{span.start_ms}-{span.end_ms}-{asked_ms}-{content}.{ending}"
    return f"{raw_folder(partition)}/{name}"


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


def is_raw(key: str) -> bool:
    """Return True for the key of a raw object that this version can use."""
    series = _series_in(key.rsplit("/", 2)[0])
    return series is not None and parse_raw(series, key) is not None


def kept(raw_key: str) -> str:
    """Return the key under which a raw object is kept after its compaction."""
    return f"kept/{raw_key.removeprefix('raw/')}"


def parse_raw(series: Series, key: str) -> tuple[Partition, Span, int, str, Source, str] | None:
    """Return the arguments of `raw` for this key; None if it is no raw object of the series."""
    period, _, name = key.removeprefix(series_folder("raw", series) + "/").partition("/")
    found = _RAW_NAME.fullmatch(name)
    if not found or not is_period(period) or not Partition(series, period).is_of_this_format:
        return None
    return (
        Partition(series, period),
        Span(int(found[1]), int(found[2])),
        int(found[3]),
        found[4],
        source_named(found[5] or Source.REST.name),
        found[6] or "",
    )
