"""What people take out of the lake: lazy or whole, long or wide, coarser, filled up, or candle by
candle.

from klinefleet import Reader

lake = Reader("./data")                    # or s3://bucket/prefix, or nothing: KLINES_STORE_URL
year = lake.read("um", "BTCUSDT", "1m", "2024-01-01", "2025-01-01")
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl
from polars.io.plugins import register_io_source

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.parsing import Moment, parse_kind, parse_market
from klinefleet.workers.domain.schema import Candle
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footer_cache import FooterCache, footer_cache_path
from klinefleet.workers.reader.arrow_cache import ArrowCache, can_map
from klinefleet.workers.reader.lookup import Fetcher, Lookup, Part, Provenance
from klinefleet.workers.reader.partition_reader import PartitionReader
from klinefleet.workers.reader.query import SYMBOL, Query, ReadPlan, RowQuery, checked_columns
from klinefleet.workers.reader.resample import MADE_UP
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import Clock, WallClock
from klinefleet.workers.support.settings import Settings
from klinefleet.workers.support.threads import run_in_order

#: Batches of partitions that are read at once or wait to be taken.
_AT_ONCE = 4
_CANDLE = ("open_time", "open", "high", "low", "close", "volume")
Fill = Literal["forward"]


@dataclass(frozen=True, slots=True)
class ReadReport:
    """Where the rows of a reading come from, part by part; as text one line each."""

    parts: tuple[Provenance, ...]

    def __str__(self) -> str:
        return "\n".join(str(part) for part in self.parts)


class Reader:
    """Reads one lake. Errors: RequestError (UnknownSymbol among them), RangeNotHeld, StoreFault,
    PartitionDamaged.

    Every method takes a market (spot, um, cm), a symbol or a list of them, an interval (1m, 1h, 1M
    … as the exchange spells them; nothing for kind fundingRate), and the time [start, end), UTC:
    text, date, datetime or ms. Where start or end is not given, what is held begins or ends there.
    Of time that is not held RangeNotHeld names the spans; `partial=True` reads what is there,
    `fetch=True` has the fleet fetch the rest and waits (see `tasks.notebook`).

    Rows have the columns of the lake in its order (`workers.domain.schema.schema_of`): times are
    Datetime(ms, UTC), prices and volumes Float64, counts Int64, and where a list of symbols is
    given `symbol` (String) comes first. They are sorted by time, symbol after symbol in the order
    of the list, one row a candle; nothing is filled up. What compaction replaces meanwhile is read
    as it was before or as it is after, never half of it. Of a query on a `scan`, Polars passes
    these errors on as they are.

    Partitions of a bucket are kept by `read` in a cache on this machine, and mapped (`cache=False`:
    in none; or an `ArrowCache` with a folder and a bound of its own). A reader is not for several
    threads at once; make one for each.
    """

    def __init__(
        self,
        store_url: str | None = None,
        *,
        cache: ArrowCache | bool = True,
        fetcher: Fetcher | None = None,
        clock: Clock | None = None,
    ) -> None:
        store = (Settings.load().store_url if store_url is None else store_url).rstrip("/")
        files = open_store(store)
        if isinstance(cache, bool):
            # A folder is on this machine already.
            kept = ArrowCache() if cache and files.is_remote and can_map() else None
        else:
            kept = cache
        self._months = PartitionReader(files, store, kept)
        coverage = Coverage(files, FooterCache(store, footer_cache_path()))
        self._lookup = Lookup(files, self._months, coverage, Catalogs(files), fetcher)
        self._clock = clock or WallClock()
        self._last: ReadPlan | None = None

    def scan(
        self,
        market: str,
        symbols: str | Sequence[str],
        interval: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        kind: str = "klines",
        columns: Sequence[str] | None = None,
        partial: bool = False,
        fetch: bool = False,
    ) -> pl.LazyFrame:
        """Return the rows, unread: only the columns, rows and partitions that the query needs are.

        What is held is looked up now and read when the query runs. The interval is 1m where none is
        given.

            lake.scan("um", ["BTCUSDT", "ETHUSDT"], "1m", "2024-01-01").filter(pl.col("volume") >
            100).collect()
        """
        query = Query.parse(
            market, symbols, interval, start, end, kind=kind, now_ms=self._clock.now_ms()
        )
        plan = self._plan(query, partial=partial, fetch=fetch)
        names = checked_columns(plan.schema.names() if columns is None else columns, plan.schema)
        schema = {name: plan.schema[name] for name in names}
        return register_io_source(
            self._source(plan, names), schema=schema, explain_name="klinefleet"
        )

    def read(
        self,
        market: str,
        symbols: str | Sequence[str],
        interval: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        kind: str = "klines",
        columns: Sequence[str] | None = None,
        partial: bool = False,
        fetch: bool = False,
        resample: str | None = None,
        fill: Fill | None = None,
    ) -> pl.DataFrame:
        """Return the rows.

        `resample` makes coarser candles: 5m, 1h, 1w, 1M, or any number of s, m, h or d (7m; counted
        from the epoch). Only candles that the range holds wholly are made. `fill="forward"` makes
        up the candles that the exchange does not have within what is held, with the close before
        them and no volume; `is_made_up` tells them.

            lake.read("spot", "BTCUSDT", "1m", "2024-01-01", "2024-02-01", resample="1h",
            fill="forward")
        """
        now_ms = self._clock.now_ms()
        query = Query.parse(
            market,
            symbols,
            interval,
            start,
            end,
            kind=kind,
            resample=resample,
            fill=fill,
            now_ms=now_ms,
        )
        plan = self._plan(query, partial=partial, fetch=fetch)
        schema = pl.Schema({**plan.schema, **({MADE_UP: pl.Boolean()} if fill else {})})
        names = checked_columns(schema.names() if columns is None else columns, schema)
        return self._rows(plan, plan.parts, names)

    def panel(
        self,
        market: str,
        symbols: Sequence[str],
        interval: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        value: str = "close",
        kind: str = "klines",
        partial: bool = False,
        fetch: bool = False,
        resample: str | None = None,
        fill: Fill | None = None,
    ) -> pl.DataFrame:
        """Return one column of several symbols side by side: the time, then a column for each
        symbol; null: no row.

        lake.panel("um", ["BTCUSDT", "ETHUSDT"], "1h", "2024-01-01", "2024-02-01")
        """
        symbols = [symbols] if isinstance(symbols, str) else list(symbols)
        time = parse_kind(parse_market(market), kind).time_column
        long = self.read(
            market,
            symbols,
            interval,
            start,
            end,
            columns=[SYMBOL, time, value],
            kind=kind,
            partial=partial,
            fetch=fetch,
            resample=resample,
            fill=fill,
        )
        names = [checked_symbol(symbol) for symbol in symbols]
        return long.pivot(SYMBOL, on_columns=names, index=time, values=value).sort(time)

    def iter_candles(
        self,
        market: str,
        symbols: str | Sequence[str],
        interval: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        kind: str = "klines",
        partial: bool = False,
        fetch: bool = False,
        resample: str | None = None,
        fill: Fill | None = None,
    ) -> Iterator[Candle]:
        """Yield candle after candle in the order of their times, of one time in the order of the
        symbols.

        One month is in memory at a time, but where candles are made coarser or made up: then all of
        them. Prices without volumes (mark, index, premium) have a volume of 0.

            for candle in lake.iter_candles("um", ["BTCUSDT", "ETHUSDT"], "1m", "2024-01-01"): ...
        """
        several = [symbols] if isinstance(symbols, str) else symbols
        if not parse_kind(None, kind).has_interval:
            raise RequestError(f"kind {kind} has events, not candles; nothing was read")
        now_ms = self._clock.now_ms()
        query = Query.parse(
            market,
            several,
            interval,
            start,
            end,
            kind=kind,
            resample=resample,
            fill=fill,
            now_ms=now_ms,
        )
        return self._candles(self._plan(query, partial=partial, fetch=fetch))

    @property
    def report(self) -> ReadReport:
        """Where the rows of the last reading come from: cache, lake or fetched, and who told them."""
        parts = self._last.parts if self._last else ()
        return ReadReport(
            tuple(provenance for part in parts for provenance in self._lookup.provenance(part))
        )

    def _plan(self, query: Query, *, partial: bool, fetch: bool) -> ReadPlan:
        """Look up what is held of a query, or have the fleet fetch what is not."""
        look = self._lookup.fetch if fetch else self._lookup.find
        self._last = ReadPlan(query, tuple(look(query.series, query.wanted, partial=partial)))
        return self._last

    def _source(
        self, plan: ReadPlan, names: list[str]
    ) -> Callable[
        [list[str] | None, pl.Expr | None, int | None, int | None], Iterator[pl.DataFrame]
    ]:
        """Return what Polars calls to have the rows, with the columns and the filter that the query
        needs.
        """

        def frames(
            columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            wanted = names if columns is None else columns
            # Of a query that takes all rows it is known which columns it looks at.
            alone = (
                [name for name in wanted if name != SYMBOL]
                if predicate is None and most is None
                else []
            )
            jobs = (
                functools.partial(
                    self._months.query, batch, RowQuery(symbol, wanted, predicate, most), alone
                )
                for part in plan.parts
                for symbol in [part.series.symbol if plan.query.is_list else None]
                for batch in part.months.batches()
            )
            # Where only the first rows are wanted, nothing is read in advance.
            for frame in run_in_order(jobs, _AT_ONCE if most is None else 1):
                yield frame if most is None else frame.head(most)
                most = None if most is None else most - frame.height
                if most is not None and most <= 0:
                    return

        return frames

    def _rows(self, plan: ReadPlan, parts: Sequence[Part], names: Sequence[str]) -> pl.DataFrame:
        """Return these columns of the rows, shaped."""
        shape = plan.query.shape
        # To shape rows takes all of their columns.
        columns = (
            plan.query.kind.names if shape.is_shaped else [name for name in names if name != SYMBOL]
        )
        batches = [(part, batch) for part in parts for batch in part.months.batches()]
        jobs = (functools.partial(self._months.rows, batch, columns) for _, batch in batches)
        read = zip(batches, run_in_order(jobs, _AT_ONCE), strict=True)
        frames = []
        for symbol, several in itertools.groupby(read, lambda found: found[0][0].series.symbol):
            found = list(several)
            part, rows = found[0][0][0], pl.concat([frame for _, frame in found], rechunk=False)
            if shape.is_shaped:
                rows = shape.made(rows, part.held, self._lookup.trading_span(part.series))
            frames.append(
                rows.select(pl.lit(symbol).alias(SYMBOL), pl.all()) if plan.query.is_list else rows
            )
        return pl.concat(frames, rechunk=False).select(names)

    def _candles(self, plan: ReadPlan) -> Iterator[Candle]:
        columns = [SYMBOL, *(name for name in _CANDLE if name in plan.schema)]
        order = {part.series.symbol: place for place, part in enumerate(plan.parts)}
        for parts in [plan.parts] if plan.query.shape.is_shaped else _by_month(plan.parts):
            rows = self._rows(plan, parts, columns)
            place = pl.col(SYMBOL).replace_strict(order, return_dtype=pl.Int64)
            for symbol, opened, *prices in rows.sort(
                "open_time", place, maintain_order=True
            ).iter_rows():
                yield Candle(symbol, opened, *prices, *([] if "volume" in columns else [0.0]))


def _by_month(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield the parts month by month, so that no more than a month of each is in memory."""
    begins = min(part.months.span.start_ms for part in parts)
    ends = max(part.months.span.end_ms for part in parts)
    for _, month in months_of(Span(begins, ends)):
        yield [replace(part, months=part.months.within(month)) for part in parts]
