"""The first and last rows that REST and the archive have of a series, in Redis for all workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis import Redis

from klinefleet.workers.binance.archive_index import ArchiveIndexCache
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import Refused
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.redis_keys import edge_file_key, first_candle_key, newest_row_key
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, MINUTE_MS

if TYPE_CHECKING:
    from klinefleet.workers.binance.rest import RestClient

#: A symbol with a younger row by REST has not ended, whatever its status.
ALIVE_MS = DAY_MS
#: Daily files come a day late. A symbol without one for so long has no new ones.
NO_FILES_MS = 7 * DAY_MS
#: How long an answer is reused, and how long one about an end that is older than a week.
_REUSED_MS, _LONG_REUSED_MS = HOUR_MS, 7 * DAY_MS
#: How long the answer is reused that there is no such symbol: it may be listed any minute.
_UNKNOWN_MS = MINUTE_MS


@dataclass(frozen=True, slots=True)
class NewestRow:
    """What REST answers to the question for a series' newest row."""

    is_listed: bool
    """Whether REST has the symbol at all."""
    end_ms: int | None
    """The end of the newest minute with a row, ms UTC; None where there is none."""


class SourceDates:
    """First and last rows, asked for once. FleetError where a source does not answer."""

    def __init__(
        self,
        redis: Redis,
        client: Callable[[Market], RestClient],
        archive_indexes: ArchiveIndexCache,
    ) -> None:
        self._redis = redis
        self._client = client
        self._archive_indexes = archive_indexes

    def first_row_ms(self, series: Series, known_ms: int | None = None) -> int | None:
        """Return when REST's first row opens, ms UTC; None after two answers without any.

        `known_ms`: from then on the series is known to trade; the answer may be exact to the day
        only, and is never too late.
        """
        if (first_ms := self.known_first_row_ms(series)) is not None:
            return first_ms
        client = self._client(series.market)
        first_ms = client.first_open_ms(series, known_ms)
        if first_ms is None:
            first_ms = client.first_open_ms(series, known_ms)
        if first_ms is not None:
            self._redis.hset(first_candle_key(series), series.symbol, first_ms)
        return first_ms

    def known_first_row_ms(self, series: Series) -> int | None:
        """Return REST's first row if it was asked for before, ms UTC."""
        known = cast("bytes | None", self._redis.hget(first_candle_key(series), series.symbol))
        return None if known is None else int(known)

    def newest_row(self, series: Series) -> NewestRow:
        """Return REST's newest row, which may be open still.

        The answer is at most an hour old; a week, if the row was older than a week.
        """
        told = self._remembered(
            newest_row_key(series),
            series.symbol,
            lambda told: self._reuse_ms(told[1]) if told[0] else _UNKNOWN_MS,
            lambda: self._ask_newest(series),
        )
        return NewestRow(*told)

    def is_in_rest(self, series: Series) -> bool | None:
        """Return what REST answered last, however long ago; None if it was not asked."""
        known = self._read(newest_row_key(series), series.symbol)
        return None if known is None else bool(known[1][0])

    def _ask_newest(self, series: Series) -> tuple[bool, int | None]:
        client = self._client(series.market)
        try:
            newest_ms = client.newest_open_ms(series)
            if newest_ms is None:
                newest_ms = client.newest_open_ms(series)
        except Refused as error:
            if not error.is_unknown_symbol:
                raise
            return False, None
        return True, None if newest_ms is None else newest_ms + MINUTE_MS

    def first_file(self, series: Series) -> Span | None:
        """Return the time of the archive's first file, a day's or a month's; None without files."""

        def ask() -> list[int]:
            file = self._archive_indexes.get(series).first_file()
            return [file.start_ms, file.end_ms] if file else []

        def reuse_ms(told: list[int]) -> int:
            return _LONG_REUSED_MS if told else _REUSED_MS

        told = self._remembered(edge_file_key(series, "first"), series.symbol, reuse_ms, ask)
        return Span(*told) if told else None

    def last_file_end_ms(self, series: Series) -> int | None:
        """Return the end of the archive's last file, ms UTC; None without files."""
        return cast(
            "int | None",
            self._remembered(
                edge_file_key(series, "last"),
                series.symbol,
                self._reuse_ms,
                lambda: self._archive_indexes.get(series).last_end_ms(),
            ),
        )

    def _reuse_ms(self, end_ms: int | None) -> int:
        is_old = end_ms is not None and now_ms(self._redis) - end_ms > _LONG_REUSED_MS
        return _LONG_REUSED_MS if is_old else _REUSED_MS

    def _remembered(
        self,
        key: str,
        symbol: str,
        reuse_ms: Callable[[Any], int],
        ask: Callable[[], Any],
    ) -> Any:
        """Return what was asked for before, if it may be reused; else ask and remember it."""
        clock_ms, known = now_ms(self._redis), self._read(key, symbol)
        if known and clock_ms - known[0] < reuse_ms(known[1]):
            return known[1]
        told = ask()
        with self._redis.pipeline() as pipe:
            pipe.hset(key, symbol, json.dumps([clock_ms, told]))
            pipe.pexpire(key, _LONG_REUSED_MS)
            pipe.execute()
        return told

    def _read(self, key: str, symbol: str) -> tuple[int, Any] | None:
        """Return when something was asked for, and the answer; None where it never was."""
        kept = cast("bytes | None", self._redis.hget(key, symbol))
        # A worker of a later version may have kept more.
        return tuple(json.loads(kept)[:2]) if kept else None
