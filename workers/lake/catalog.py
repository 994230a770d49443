"""The catalog: every symbol that a market has or had, as one Parquet file a market and day."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime

import polars as pl

from klinefleet.workers.domain.errors import FleetError, PartitionDamaged
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, NEVER_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.support.clock import Clock, WallClock

logger = logging.getLogger(__name__)

#: A younger catalog is used as it is; an older one is made again first.
FRESH_MS = DAY_MS
#: How long a catalog that was read is reused.
_REUSED_MS = 600_000
#: Catalogs that are kept of a market: a week, to see what changed.
KEPT = 7

TRADING = "TRADING"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One symbol. Times in ms UTC, None where unknown."""

    symbol: str
    status: str
    """As exchangeInfo has it; empty if only the archive has the symbol."""
    base: str
    quote: str
    pair: str
    contract_type: str
    onboard_ms: int | None
    delivery_ms: int | None
    archive_ms: int | None
    """Start of the archive's first file: of a day, or of a month where it has no daily files."""
    first_ms: int | None
    """The earliest kline that REST or the archive shows: its open time, or its file's start."""
    last_ms: int | None
    """The end of the last kline, or of its file, that any of them shows; None while it trades."""
    intervals: tuple[str, ...]
    """The intervals of the archive's files."""
    in_archive: bool
    in_rest: bool
    is_guessed: bool = False
    """Whether base and quote were guessed from the name, as exchangeInfo lacks the symbol."""

    @property
    def trading_span(self) -> Span:
        """The time in which it can have klines, ms UTC."""
        return Span(self.begin_ms or 0, self.last_ms or NEVER_MS)

    @property
    def is_trading(self) -> bool:
        """Whether exchangeInfo says so; of a symbol that it lacks, whether it has no end."""
        return self.status == TRADING or (not self.status and self.last_ms is None)

    @property
    def begin_ms(self) -> int | None:
        """When its trading began at the earliest, ms UTC; None where nobody knows."""
        known = (ms for ms in (self.first_ms, self.onboard_ms) if ms is not None)
        return min(known, default=None)


_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "status": pl.String(),
        "base": pl.String(),
        "quote": pl.String(),
        "pair": pl.String(),
        "contract_type": pl.String(),
        "onboard": MOMENT,
        "delivery": MOMENT,
        "archive": MOMENT,
        "first": MOMENT,
        "last": MOMENT,
        "intervals": pl.List(pl.String()),
        "in_archive": pl.Boolean(),
        "in_rest": pl.Boolean(),
        "is_guessed": pl.Boolean(),
    }
)
_FIELDS = [field.name for field in fields(CatalogEntry)]
#: The values of columns that a catalog of an earlier version lacks.
_DEFAULTS = {
    field.name: field.default for field in fields(CatalogEntry) if field.default is not MISSING
}
_MOMENTS = [name for name, dtype in _SCHEMA.items() if dtype == MOMENT]
_MADE_KEY, _ARCHIVE_KEY, _REST_KEY, _MARKET_KEY = (
    "klinefleet.made_ms",
    "klinefleet.has_archive",
    "klinefleet.has_rest",
    "klinefleet.market",
)


class Catalog:
    """All symbols of one market, as they were known at `made_ms`."""

    def __init__(
        self,
        market: Market,
        made_ms: int,
        entries: Iterable[CatalogEntry],
        *,
        has_archive: bool = True,
        has_rest: bool = True,
    ) -> None:
        self.market = market
        self.made_ms = made_ms
        self.has_archive = has_archive
        """Whether the archive was listed; if not, its part is from an earlier catalog."""
        self.has_rest = has_rest
        """Whether REST was asked for symbols and their first and newest candles; if not, its part
        is from an earlier catalog. Versions that asked for them on spot alone left it out."""
        self._entries = {
            entry.symbol: entry for entry in sorted(entries, key=lambda entry: entry.symbol)
        }

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, symbol: str) -> CatalogEntry | None:
        """Return one symbol; None if the market never had it."""
        return self._entries.get(symbol)

    def entries(self, quote: str | None = None, status: str = "all") -> list[CatalogEntry]:
        """Return the symbols, sorted, of one quote asset and of status "trading" if given."""
        return [
            entry
            for entry in self._entries.values()
            if (quote is None or entry.quote == quote) and (status == "all" or entry.is_trading)
        ]

    def trading_span(self, series: Series) -> Span | None:
        """Return the time in which a series can have rows, ms UTC; None if its start is unknown.

        The dates are those of klines. An index begins with the first contract of its pair.
        """
        if series.kind.is_of_pair:
            contracts = [entry for entry in self._entries.values() if entry.pair == series.symbol]
            known = [entry.begin_ms for entry in contracts if entry.begin_ms is not None]
            return Span(series.interval.floor(min(known)), NEVER_MS) if known else None
        entry = self.get(series.symbol)
        if entry is None or entry.begin_ms is None:
            return None
        return Span(series.interval.floor(entry.begin_ms), entry.trading_span.end_ms)

    def frame(self) -> pl.DataFrame:
        """Return a row for each symbol: `CatalogEntry` with its times as Datetime(ms, UTC)."""
        rows = [[getattr(entry, name) for name in _FIELDS] for entry in self._entries.values()]
        wire = {name: pl.Int64() if dtype == MOMENT else dtype for name, dtype in _SCHEMA.items()}
        return pl.DataFrame(rows, schema=wire, orient="row").cast(_SCHEMA)

    def to_parquet(self) -> bytes:
        """Return it as the bytes of a Parquet file."""
        metadata = {
            _MADE_KEY: str(self.made_ms),
            _ARCHIVE_KEY: str(int(self.has_archive)),
            _REST_KEY: str(int(self.has_rest)),
            _MARKET_KEY: str(self.market),
        }
        buffer = io.BytesIO()
        self.frame().write_parquet(buffer, compression="zstd", metadata=metadata)
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, body: bytes) -> Catalog:
        """Return the catalog of `to_parquet`'s bytes; PartitionDamaged where they are none."""
        try:
            metadata = pl.read_parquet_metadata(io.BytesIO(body))
            frame = pl.read_parquet(body)
            lacking = {
                name: value for name, value in _DEFAULTS.items() if name not in frame.columns
            }
            frame = frame.with_columns(
                pl.lit(value, _SCHEMA[name]).alias(name) for name, value in lacking.items()
            )
            numbers = frame.with_columns(pl.col(name).dt.timestamp("ms") for name in _MOMENTS)
            rows = (
                dict(zip(_FIELDS, row, strict=True))
                for row in numbers.select(_SCHEMA.names()).rows()
            )
            entries = [
                CatalogEntry(**{**row, "intervals": tuple(row["intervals"])}) for row in rows
            ]
            market = Market(metadata[_MARKET_KEY])
            return cls(
                market,
                int(metadata[_MADE_KEY]),
                entries,
                has_archive=bool(int(metadata[_ARCHIVE_KEY])),
                has_rest=bool(int(metadata.get(_REST_KEY, market is Market.SPOT))),
            )
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            KeyError,
            ValueError,
            TypeError,
        ) as error:
            logger.debug("a catalog does not decode: %r", error)
            raise PartitionDamaged("a catalog does not decode; it was left as it is") from error


class Catalogs:
    """The lake's catalogs: a file a market and day; those of a week are kept."""

    def __init__(self, files: ObjectStore, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or WallClock()
        self._cached: dict[Market, tuple[int, Catalog | None]] = {}
        self._lock = threading.Lock()

    def fresh(self, market: Market) -> Catalog | None:
        """Return the newest catalog if it is at most a day old; read once in ten minutes."""
        with self._lock:
            now_ms = self._clock.now_ms()
            read_ms, catalog = self._cached.get(market, (None, None))
            if read_ms is None or not read_ms <= now_ms < read_ms + _REUSED_MS:
                try:
                    catalog = self.newest(market)
                except FleetError as error:
                    logger.warning("the catalog of %s cannot be used: %s", market, error)
                    catalog = None
                self._cached[market] = now_ms, catalog
        return catalog if catalog and now_ms - catalog.made_ms < FRESH_MS else None

    def newest(self, market: Market) -> Catalog | None:
        """Return a market's newest catalog that decodes; None where there is none."""
        for key in reversed(self._listed(market)):
            body = self._files.read(key)
            try:
                return Catalog.from_parquet(body) if body else None
            except PartitionDamaged as error:
                logger.warning("%s: %s; an older one is used", key, error.reason)
        return None

    def store(self, catalog: Catalog) -> str:
        """Store a catalog under its day, replace an earlier one of that day; return its key."""
        day = f"{datetime.fromtimestamp(catalog.made_ms / 1000, UTC):%Y-%m-%d}"
        key = keys.catalog(catalog.market, day)
        self._files.put(key, catalog.to_parquet())
        with self._lock:
            # A thread that was still reading the older one has put it here by now.
            self._cached.pop(catalog.market, None)
        self._files.delete(self._listed(catalog.market)[:-KEPT])
        return key

    def _listed(self, market: Market) -> list[str]:
        """Return the keys of a market's catalogs, oldest first, without other objects."""
        listed = (entry.key for entry in self._files.list(keys.catalog_folder(market)))
        return sorted(key for key in listed if keys.is_catalog(market, key))
