"""The archive's files: their names and the time that each covers.

Layout of data.binance.vision (binance-public-data README): `data/spot|futures/um|futures/cm /
monthly|daily / kind / symbol [/ interval] / symbol-interval-period.zip`, beside each a `.CHECKSUM`.
A month's interval is spelled 1mo; 3d, 1w, 1mo and funding rates have monthly files only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source, known_source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, iso, month_start, utc_ms

_MARKETS = {Market.SPOT: "spot", Market.USD_M: "futures/um", Market.COIN_M: "futures/cm"}
_MONTHLY_ONLY = frozenset({Interval.D3, Interval.W1, Interval.MO1})

#: No line of candles or of events is longer, nor is a header.
_LINE_BYTES, _HEADER_BYTES = 256, 1 << 16

_KEY = re.compile(
    r"data/(?P<market>spot|futures/um|futures/cm)/(?P<source>monthly|daily)/(?P<kind>[A-Za-z]+)/(?P<symbol>[^/]+)/"
    r"(?:(?P<interval>[0-9a-z]+)/)?(?P=symbol)-(?P<spelled>[0-9A-Za-z]+)-(?P<period>[0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)\.zip"
)


@dataclass(frozen=True, slots=True, order=True)
class ArchiveFile:
    """One file of the archive: a series' month ("2024-01") or day ("2024-01-05")."""

    series: Series
    source: Source
    period: str

    @property
    def stem(self) -> str:
        """Its name without the ending, as of the CSV inside."""
        return f"{self.series.symbol}-{_spelled(self.series)}-{self.period}"

    @property
    def key(self) -> str:
        return f"{folder(self.series, self.source)}{self.stem}.zip"

    @property
    def span(self) -> Span:
        """The whole day or month."""
        year, month, day = int(self.period[:4]), int(self.period[5:7]), int(self.period[8:] or 1)
        start_ms = utc_ms(year, month, day)
        is_day = len(self.period) > len("2024-01")
        return Span(start_ms, start_ms + DAY_MS if is_day else Interval.MO1.advance(start_ms, 1))

    @property
    def max_csv_bytes(self) -> int:
        """The most bytes that its CSV may have: as many rows as its time has, each of them twice.

        Its zip has fewer.
        """
        interval = self.series.interval
        step_ms = interval.step_ms if interval.is_grid else MINUTE_MS
        rows = math.ceil((self.span.end_ms - self.span.start_ms) / step_ms)
        return _HEADER_BYTES + 2 * _LINE_BYTES * rows

    @property
    def _is_possible(self) -> bool:
        """Whether the archive could have such a file: not every kind has intervals and days."""
        is_grid = self.series.interval.is_grid is self.series.kind.has_interval
        has_source = self.source == Source.MONTHLY or has_daily(self.series)
        return (
            is_grid
            and has_source
            and self == ArchiveFile.of(self.series, self.source, self.span.start_ms)
        )

    @classmethod
    def of(cls, series: Series, source: Source, ms: int) -> ArchiveFile:
        """Return the file that covers the moment `ms`, UTC."""
        if source == Source.DAILY:
            return cls(series, source, iso(ms - ms % DAY_MS))
        return cls(series, source, iso(month_start(ms))[: len("2024-01")])

    @classmethod
    def parse(cls, key: str) -> ArchiveFile | None:
        """Return the file of this key; None for CHECKSUMs, other names and unknown kinds."""
        found = _KEY.fullmatch(key)
        if not found:
            return None
        markets = {path: market for market, path in _MARKETS.items()}
        spelled = "1M" if found["interval"] == "1mo" else found["interval"] or Interval.EVENTS
        try:
            series = Series.parse(
                f"{markets[found['market']]}/{found['kind']}/{spelled}/{found['symbol']}"
            )
            file = cls(series, known_source(found["source"]), found["period"])
            return file if file.key == key and file._is_possible else None
        except (ValueError, RequestError):
            return None


def folder(series: Series, source: Source) -> str:
    """Return the folder of a series' files, with its closing slash."""
    grid = f"{_spelled(series)}/" if series.kind.has_interval else ""
    return f"{symbols_folder(series.market, series.kind, source)}{series.symbol}/{grid}"


def symbols_folder(market: Market, kind: Kind, source: Source) -> str:
    """Return the folder with a folder for each symbol, with its closing slash."""
    return f"data/{_MARKETS[market]}/{source}/{kind}/"


def has_daily(series: Series) -> bool:
    """Return True if the archive has daily files of such series."""
    return series.kind.has_daily_files and series.interval not in _MONTHLY_ONLY


def _spelled(series: Series) -> str:
    if not series.kind.has_interval:
        return str(series.kind)
    return "1mo" if series.interval is Interval.MO1 else str(series.interval)
