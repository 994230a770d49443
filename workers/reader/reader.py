"""The Reader: rows of the lake as a lazy frame, a frame, a panel or single candles.

from klinefleet import Reader

lake = Reader("./data")                    # or s3://bucket/prefix; default: KLINES_STORE_URL
year = lake.read("um", "BTCUSDT", "1m", "2024-01-01", "2025-01-01")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
from polars.io.plugins import register_io_source

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.parsing import Moment, parse_kind, parse_market
from klinefleet.workers.domain.schema import Candle
from klinefleet.workers.domain.stores import parse_store_url
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache, footer_cache_path
from klinefleet.workers.reader.arrow_cache import ArrowCache, can_map
from klinefleet.workers.reader.lookup import Fetcher, Lookup, Provenance
from klinefleet.workers.reader.partition_reader import PartitionReader
from klinefleet.workers.reader.plan_executor import PlanExecutor
from klinefleet.workers.reader.query import SYMBOL, Query, ReadPlan, checked_columns
from klinefleet.workers.reader.resample import MADE_UP
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import Clock, WallClock
from klinefleet.workers.support.settings import Settings

Fill = Literal["forward"]


@dataclass(frozen=True, slots=True)
class ReadReport:
    """Where the rows of a call come from, span by span; as text, one line for each."""

    parts: tuple[Provenance, ...]

    def __str__(self) -> str:
        return "\n".join(str(part) for part in self.parts)


class Reader:
    """Reads one lake: lazily (`scan`), as a whole (`read`), as a panel or candle by candle.

    Rows have the columns of the lake in its order (`workers.domain.schema.schema_of`): times are
    Datetime(ms, UTC), prices and volumes Float64, counts Int64. If a list of symbols is given,
    `symbol` (String) comes first. The rows of each symbol follow one another in the order of the
    list, sorted by time. Each candle of the exchange is one row; its gaps are not filled.

    A partition that compaction replaces during a call is read as it was before or as it is after,
    never half of it. A reader must not be shared by threads; create one for each.

    Errors: RequestError (UnknownSymbol included), RangeNotHeld, StoreFault, PartitionDamaged; with
    `fetch=True` also TaskFailed.
    """

    def __init__(
        self,
        store_url: str | None = None,
        *,
        cache: ArrowCache | bool = True,
        fetcher: Fetcher | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Open a lake for reading; no connection is made yet.

        store_url: a folder or s3://bucket/prefix; the default is the setting KLINES_STORE_URL.
        cache: whether `read` caches a bucket's partitions on this machine, memory-mapped; or an
            ArrowCache with its own folder and size.
        fetcher: has missing time fetched for `fetch=True`; see `tasks.notebook.reader`.
        clock: where the current time comes from; no candle after it is expected.

        SettingsError if a setting is invalid.

            lake = Reader("s3://bucket/prefix", cache=ArrowCache(max_bytes=2 * 2**30))
        """
        given = Settings.load().store_url if store_url is None else store_url
        files = open_store(given)
        store = parse_store_url("the store's URL", given)
        if isinstance(cache, bool):
            # A folder is on this machine already, so it needs no cache.
            arrow_cache = ArrowCache() if cache and files.is_remote and can_map() else None
        else:
            arrow_cache = cache
        partitions = PartitionReader(files, store, arrow_cache)
        coverage = Coverage(files, FooterCache(store, footer_cache_path()))
        self._lookup = Lookup(files, partitions, coverage, Catalogs(files), fetcher)
        self._executor = PlanExecutor(partitions, self._lookup.trading_span)
        self._clock = clock or WallClock()
        self._last_plan: ReadPlan | None = None

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
        """Return the rows as a LazyFrame that reads only what its query needs.

        What the lake holds is looked up now; rows are read when the query runs.

        market: spot, um (USD-M futures) or cm (COIN-M futures).
        symbols: one symbol, or a list of them.
        interval: as the exchange spells it: 1m (the default), 1h, 1M; none for fundingRate.
        start, end: [start, end) in UTC: text, date, datetime or ms; by default, all that is held.
        kind: klines, or another of `klines download --help`.
        columns: the columns to return, in this order; by default all.
        partial: return what is held, even if some of the range is missing.
        fetch: have the fleet fetch what is missing, and wait for it.

        RequestError if an argument is invalid; RangeNotHeld names the missing spans; StoreFault,
        PartitionDamaged and TaskFailed as in `Reader`. Polars passes on those that are raised while
        the query runs.

            bars = lake.scan("um", ["BTCUSDT", "ETHUSDT"], "1m", "2024-01-01")
            busy = bars.filter(pl.col("volume") > 100).collect()
        """
        plan = self._plan(
            market, symbols, interval, start, end, kind=kind, partial=partial, fetch=fetch
        )
        names = checked_columns(plan.schema.names() if columns is None else columns, plan.schema)
        return register_io_source(
            self._executor.batch_source(plan, names),
            schema={name: plan.schema[name] for name in names},
            explain_name="klinefleet",
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
        """Return the rows as a DataFrame, resampled and filled on request.

        market, symbols, interval, start, end, kind, columns, partial, fetch: as in `scan`.
        resample: a coarser interval: 5m, 1h, 1w, 1M, or any number of s, m, h or d (7m), counted
            from the epoch. A candle is made only if the range holds all of its time.
        fill: "forward" adds the candles that the exchange lacks within what is held: the previous
            close as all prices, no volume. The Boolean column `is_made_up` marks them.

        RequestError if an argument is invalid; RangeNotHeld names the missing spans; StoreFault,
        PartitionDamaged and TaskFailed as in `Reader`.

            hours = lake.read("um", "BTCUSDT", "1m", "2024-01-01", resample="1h", fill="forward")
        """
        plan = self._plan(
            market,
            symbols,
            interval,
            start,
            end,
            kind=kind,
            partial=partial,
            fetch=fetch,
            resample=resample,
            fill=fill,
        )
        schema = pl.Schema({**plan.schema, **({MADE_UP: pl.Boolean()} if fill else {})})
        names = checked_columns(schema.names() if columns is None else columns, schema)
        return self._executor.rows(plan, plan.series_plans, names)

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
        """Return one value of several symbols side by side, a column for each symbol.

        The time is the first column. A value is null where the symbol has no row.

        value: the column to return, such as close or volume.
        market, symbols, interval, start, end, kind, partial, fetch: as in `scan`.
        resample, fill: as in `read`.

        RequestError if an argument is invalid; RangeNotHeld names the missing spans; StoreFault,
        PartitionDamaged and TaskFailed as in `Reader`.

            closes = lake.panel("um", ["BTCUSDT", "ETHUSDT"], "1h", "2024-01-01", "2024-02-01")
        """
        symbols = [symbols] if isinstance(symbols, str) else list(symbols)
        time = parse_kind(parse_market(market), kind).time_column
        rows = self.read(
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
        return rows.pivot(SYMBOL, on_columns=names, index=time, values=value).sort(time)

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
        """Yield the candles one by one, by time, and at the same time in the order of the symbols.

        One month is in memory at a time; with `resample` or `fill`, all of them are. Mark, index
        and premium prices have volume 0.

        kind: any but fundingRate, whose rows are events.
        market, symbols, interval, start, end, partial, fetch: as in `scan`.
        resample, fill: as in `read`.

        RequestError if an argument is invalid; RangeNotHeld names the missing spans; StoreFault,
        PartitionDamaged and TaskFailed as in `Reader`.

            for candle in lake.iter_candles("um", ["BTCUSDT", "ETHUSDT"], "1m", "2024-01-01"):
                print(candle.symbol, candle.timestamp, candle.close)
        """
        if not parse_kind(None, kind).has_interval:
            raise RequestError(f"kind {kind} has events, not candles; nothing was read")
        # Rows of a list name their symbol.
        symbol_list = [symbols] if isinstance(symbols, str) else symbols
        plan = self._plan(
            market,
            symbol_list,
            interval,
            start,
            end,
            kind=kind,
            partial=partial,
            fetch=fetch,
            resample=resample,
            fill=fill,
        )
        return self._executor.candles(plan)

    @property
    def report(self) -> ReadReport:
        """Where the rows of the last call come from.

        Each part has its symbol, span, `held` (cache, lake or fetched) and source (monthly, daily
        or rest).

            lake.read("um", "BTCUSDT", "1d", "2024-01-01", "2024-02-01")
            print(lake.report)  # BTCUSDT 2024-01-01..2024-02-01: lake (monthly)
        """
        series_plans = self._last_plan.series_plans if self._last_plan else ()
        return ReadReport(
            tuple(part for plan in series_plans for part in self._lookup.provenance(plan))
        )

    def _plan(
        self,
        market: str,
        symbols: str | Sequence[str],
        interval: str | None,
        start: Moment | None,
        end: Moment | None,
        *,
        kind: str,
        partial: bool,
        fetch: bool,
        resample: str | None = None,
        fill: str | None = None,
    ) -> ReadPlan:
        """Check the arguments and look up what is held, after a fetch if `fetch`."""
        query = Query.parse(
            market,
            symbols,
            interval,
            start,
            end,
            kind=kind,
            now_ms=self._clock.now_ms(),
            resample=resample,
            fill=fill,
        )
        look_up = self._lookup.fetch if fetch else self._lookup.find
        series_plans = look_up(query.series, query.requested, partial=partial)
        self._last_plan = ReadPlan(query, tuple(series_plans))
        return self._last_plan
