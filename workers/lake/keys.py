"""Every object key is built and parsed here, and says what is inside.

lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet
raw/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01/<start ms>-<end ms>-<content>.json.zst
"""

from __future__ import annotations

import re

from workers.model import Block, Interval, Series, Span

_RAW_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{16})\.json\.zst")


def series_folder(zone: str, series: Series) -> str:
    """Return the folder of a series in `zone` (lake or raw), without a closing slash.

    A month's candles are spelled 1mo, as in the archive: on some file systems 1M and 1m are one folder. What has no
    grid has no interval either.
    """
    interval = "1mo" if series.interval is Interval.MO1 else series.interval
    grid = f"/interval={interval}" if series.interval.is_grid else ""
    return f"{zone}/market={series.market}/kind={series.kind}{grid}/symbol={series.symbol}"


def partition(series: Series, month: str) -> str:
    """Return the key of one month of a series; `month` is YYYY-MM."""
    return f"{series_folder('lake', series)}/{month}.parquet"


def month_of(key: str) -> str | None:
    """Return the month of a partition's key, None where the key is none."""
    found = re.fullmatch(r".*/(\d{4}-\d{2})\.parquet", key)
    return found[1] if found else None


def raw_folder(block: Block) -> str:
    """Return the folder of a block's raw objects."""
    return f"{series_folder('raw', block.series)}/{block.period}"


def raw(block: Block, span: Span, content: str) -> str:
    """Return the key of a raw object that holds the candles of `span`; `content` is 16 hex digits of its SHA-256."""
    return f"{raw_folder(block)}/{span.start_ms}-{span.end_ms}-{content}.json.zst"


def parse_raw(series: Series, key: str) -> tuple[Block, Span, str] | None:
    """Return what `raw` was given for this series' key, None where the key is no raw object's."""
    period, _, name = key.removeprefix(series_folder("raw", series) + "/").partition("/")
    found = _RAW_NAME.fullmatch(name)
    if not found:
        return None
    return Block(series, period), Span(int(found[1]), int(found[2])), found[3]
