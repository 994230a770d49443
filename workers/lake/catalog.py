"""The catalog: every symbol that a market has or had, as Parquet in the lake, one dated file a
market and day.
"""

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

#: A catalog of this age is used as it is; an older one is made anew first.
FRESH_MS = DAY_MS
#: What was read of a catalog is believed so long.
_LOOK_MS = 600_000
#: Dated files that are kept of a market: a week, to see what changed.
KEPT = 7

TRADING = "TRADING"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One symbol. Times in ms UTC, None where nobody tells; intervals are those the archive has
    files of.
    """

    symbol: str
    status: str
    """As exchangeInfo spells it; empty of a symbol that only the archive knows."""
    base: str
    quote: str
    pair: str
    contract_type: str
    onboard_ms: int | None
    delivery_ms: int | None
    archive_ms: int | None
    """Where the archive's files begin: the first day, or the first month where it has no days."""
    first_ms: int | None
    """Open time of the first candle; of a symbol that only the archive knows, where its files
    begin.
    """
    last_ms: int | None
    """The end of the last candle's day, None while it trades."""
    intervals: tuple[str, ...]
    in_archive: bool
    in_rest: bool
    is_guessed: bool = False
    """Whether base and quote were read off the name, as exchangeInfo has forgotten the symbol."""

    @property
    def life(self) -> Span:
        """The time in which it can have candles, as far as is known."""
        begins_ms = self.first_ms if self.first_ms is not None else self.onboard_ms or 0
        return Span(begins_ms, self.last_ms or NEVER_MS)


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
#: What a catalog of a version before these columns says by saying nothing.
_DEFAULTS = {
    field.name: field.default for field in fields(CatalogEntry) if field.default is not MISSING
}
_MOMENTS = [name for name, dtype in _SCHEMA.items() if dtype == MOMENT]
_MADE_KEY, _ARCHIVE_KEY, _MARKET_KEY = (
    "klinefleet.made_ms",
    "klinefleet.has_archive",
    "klinefleet.market",
)


class Catalog:
    """All symbols of one market, as they were known at `made_ms`."""

    def __init__(
        self,
        market: Market,
        made_ms: int,
        entries: Iterable[CatalogEntry],
        has_archive: bool = True,
    ) -> None:
        self.market = market
        self.made_ms = made_ms
        self.has_archive = has_archive
        """Whether the archive was asked; without it delisted symbols and intervals are missing."""
        self._entries = {
            entry.symbol: entry for entry in sorted(entries, key=lambda entry: entry.symbol)
        }

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, symbol: str) -> CatalogEntry | None:
        """Return one symbol, None where nobody knows it."""
        return self._entries.get(symbol)

    def entries(self, quote: str | None = None, status: str = "all") -> list[CatalogEntry]:
        """Return the symbols of a quote asset, or those that trade (status "trading"), sorted by
        name.
        """
        return [
            entry
            for entry in self._entries.values()
            if (quote is None or entry.quote == quote)
            and (status == "all" or entry.status == TRADING)
        ]

    def life(self, series: Series) -> Span | None:
        """Return the time in which a series can have rows, as far as is known; None where nobody
        tells its begin.

        The first candle is one of klines; other kinds are as old as the listing, an index as old as
        its pair.
        """
        if series.kind.is_of_pair:
            of_pair = [entry for entry in self._entries.values() if entry.pair == series.symbol]
            began = [
                ms
                for entry in of_pair
                for ms in [entry.onboard_ms or entry.first_ms]
                if ms is not None
            ]
            return Span(series.interval.floor(min(began)), NEVER_MS) if began else None
        entry = self.get(series.symbol)
        if entry is None:
            return None
        of_klines, onboard = entry.first_ms, entry.onboard_ms
        begins_ms = (
            of_klines
            if onboard is None or (series.kind.is_dated_by_catalog and of_klines is not None)
            else onboard
        )
        return (
            None if begins_ms is None else Span(series.interval.floor(begins_ms), entry.life.end_ms)
        )

    def frame(self) -> pl.DataFrame:
        """Return it as a table: moments as moments, otherwise the fields of `Entry`."""
        rows = [[getattr(entry, name) for name in _FIELDS] for entry in self._entries.values()]
        wire = {name: pl.Int64() if dtype == MOMENT else dtype for name, dtype in _SCHEMA.items()}
        return pl.DataFrame(rows, schema=wire, orient="row").cast(_SCHEMA)

    def to_parquet(self) -> bytes:
        """Return it as one file."""
        told = {
            _MADE_KEY: str(self.made_ms),
            _ARCHIVE_KEY: str(int(self.has_archive)),
            _MARKET_KEY: str(self.market),
        }
        buffer = io.BytesIO()
        self.frame().write_parquet(buffer, compression="zstd", metadata=told)
        return buffer.getvalue()

    @classmethod
    def of_parquet(cls, body: bytes) -> Catalog:
        """Return the catalog that `to_parquet` wrote; PartitionDamaged where it is none."""
        try:
            told = pl.read_parquet_metadata(io.BytesIO(body))
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
            is_whole = bool(int(told[_ARCHIVE_KEY]))
            return cls(Market(told[_MARKET_KEY]), int(told[_MADE_KEY]), entries, is_whole)
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            KeyError,
            ValueError,
            TypeError,
        ) as error:
            raise PartitionDamaged(
                f"a catalog does not decode: {error!r}; it was left as it is"
            ) from error


class Catalogs:
    """The catalogs in the lake; a newer one stands beside the older ones, of which a week is kept."""

    def __init__(self, files: ObjectStore, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or WallClock()
        self._seen: dict[Market, tuple[int, Catalog | None]] = {}
        self._lock = threading.Lock()

    def fresh(self, market: Market) -> Catalog | None:
        """Return the newest catalog if it is at most a day old; looked up once in ten minutes."""
        with self._lock:
            now_ms = self._clock.now_ms()
            looked_ms, catalog = self._seen.get(market, (None, None))
            if looked_ms is None or not looked_ms <= now_ms < looked_ms + _LOOK_MS:
                try:
                    catalog = self.newest(market)
                except FleetError as error:
                    logger.warning("the catalog of %s cannot be used: %s", market, error)
                    catalog = None
                self._seen[market] = now_ms, catalog
        return catalog if catalog and now_ms - catalog.made_ms < FRESH_MS else None

    def newest(self, market: Market) -> Catalog | None:
        """Return the newest catalog of a market that can be read, None where there is none."""
        for key in reversed(self._listed(market)):
            body = self._files.read(key)
            try:
                return Catalog.of_parquet(body) if body else None
            except PartitionDamaged as error:
                logger.warning("%s: %s; an older one is used", key, error.reason)
        return None

    def store(self, catalog: Catalog) -> str:
        """Keep a catalog under its day, in place of an earlier one of that day, and return its key."""
        day = f"{datetime.fromtimestamp(catalog.made_ms / 1000, UTC):%Y-%m-%d}"
        key = keys.catalog(catalog.market, day)
        self._files.put(key, catalog.to_parquet())
        with self._lock:
            # Whoever was still reading the older one has noted it by now.
            self._seen.pop(catalog.market, None)
        self._files.delete(self._listed(catalog.market)[:-KEPT])
        return key

    def _listed(self, market: Market) -> list[str]:
        """Return the keys of a market's catalogs, oldest first; what else lies there is not ours."""
        listed = (entry.key for entry in self._files.list(keys.catalog_folder(market)))
        return sorted(key for key in listed if keys.is_catalog(market, key))
