"""Which symbols a market has, when they began and ended: asked once an hour, kept in Redis for
every worker.

What was told last stands until something newer is in, however old it is: a symbol that is not
listed and a listing that nobody has loaded are two answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from redis import Redis

from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import ListingLost
from klinefleet.workers.domain.markets import FUNDING_CALLS_A_MINUTE, RULES, Market, Pool
from klinefleet.workers.domain.redis_keys import LIMITS, first_candle_key, pairs_key, symbols_key
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS
from klinefleet.workers.limits.redis_budget import RedisBudget

if TYPE_CHECKING:
    from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.binance.exchange_info import Listing

#: How long an exchangeInfo is fresh, seconds.
FRESH_S = 3600


class SymbolCache:
    """Symbols and their lives. `client` and `budget` are asked for only when the exchange must be
    asked.
    """

    def __init__(
        self,
        redis: Redis,
        client: Callable[[Market], RestClient],
        budget: Callable[[Pool], RedisBudget],
    ) -> None:
        self._redis = redis
        self._client = client
        self._budget = budget

    def refresh(self, market: Market) -> None:
        """Make sure that the market's symbols and weight limit are known and not older than an
        hour.

        FleetError where the exchange does not tell them; what it told before stays.
        """
        age_ms = self.symbols_age_ms(market)
        if age_ms is None or age_ms >= FRESH_S * 1000:
            self._load(market)
        for pool in (RULES[market].pool, Pool.FUNDING):
            self.apply_weight_limit(pool)

    def symbols_age_ms(self, market: Market) -> int | None:
        """Return how long ago the exchange told the market's symbols; None where they are not
        loaded.
        """
        with self._redis.pipeline() as pipe:
            pipe.hget(symbols_key(market), _TOLD_MS)
            pipe.time()
            told_ms, (seconds, micros) = pipe.execute()
        return None if told_ms is None else max(0, seconds * 1000 + micros // 1000 - int(told_ms))

    def are_loaded(self, market: Market) -> bool:
        """Return whether the market's symbols are known, of whatever age."""
        return self.symbols_age_ms(market) is not None

    def _load(self, market: Market) -> None:
        asked_ms = now_ms(self._redis)
        info = self._client(market).exchange_info()
        told = {listing.symbol: _packed(listing) for listing in info.listings}
        pairs = _pairs(info.listings)
        with self._redis.pipeline() as pipe:
            pipe.delete(symbols_key(market), pairs_key(market))
            pipe.hset(symbols_key(market), mapping={_TOLD_MS: str(asked_ms), **told})  # type: ignore[dict-item]
            if pairs:
                pipe.hset(pairs_key(market), mapping=pairs)  # type: ignore[arg-type]
            pipe.hset(LIMITS, str(market), info.limit)
            pipe.execute()

    def apply_weight_limit(self, pool: Pool) -> None:
        """Note in the budget of this process's address what any address may spend, as far as the
        exchange has told.
        """
        if limit := self.weight_limit(pool):
            self._budget(pool).set_limit(limit)

    def weight_limit(self, pool: Pool) -> int | None:
        """Return the weight that one address may spend of a pool in a minute, None before the
        exchange has told it.
        """
        if pool is Pool.FUNDING:
            return FUNDING_CALLS_A_MINUTE
        # Markets that share a pool are held to the smaller of what they say.
        sharing = [str(market) for market in Market if RULES[market].pool is pool]
        return min(
            (int(limit) for limit in self._redis.hmget(LIMITS, sharing) if limit), default=None
        )

    def listing(self, series: Series) -> Listing | None:
        """Return what is told of the series' symbol, or for index candles of its pair; None where
        REST has no such.

        Where the market's symbols are not loaded they are asked for: FleetError where the exchange
        does not tell them.
        """
        is_loaded, packed = self._read_listing(series)
        if not is_loaded:
            self._load(series.market)
            is_loaded, packed = self._read_listing(series)
        if not is_loaded:
            raise ListingLost(
                f"the symbols of {series.market} were lost from Redis as they were loaded"
            )
        return _unpacked(series.symbol, packed) if packed else None

    def _read_listing(self, series: Series) -> tuple[bool, bytes | None]:
        """Return whether the market's symbols are loaded, and what is told of one, of the same
        moment.
        """
        key = pairs_key if series.kind.is_of_pair else symbols_key
        with self._redis.pipeline() as pipe:
            pipe.hexists(symbols_key(series.market), _TOLD_MS)
            pipe.hget(key(series.market), series.symbol)
            is_loaded, packed = pipe.execute()
        return bool(is_loaded), packed

    def symbols(self, market: Market) -> list[str]:
        """Return the names of all symbols that are loaded, sorted."""
        names = cast("list[bytes]", self._redis.hkeys(symbols_key(market)))
        return sorted(name.decode() for name in names if name != _TOLD_MS.encode())

    def pairs(self, market: Market) -> list[str]:
        """Return the names of all pairs that are loaded, sorted."""
        return sorted(
            name.decode() for name in cast("list[bytes]", self._redis.hkeys(pairs_key(market)))
        )

    def is_trading_span_cached(self, series: Series) -> bool:
        """Return whether `trading_span` can be told without asking the exchange."""
        listing = self.listing(series)
        return bool(listing and listing.onboard_ms) or bool(
            self._redis.hexists(first_candle_key(series), series.symbol)
        )

    def trading_span(self, series: Series) -> Span:
        """Return the time in which the series can have candles, as far as the exchange tells; [0,
        2100) unclipped.

        Futures say when they began and end; of what does not, like spot, the first candle is asked
        for, once.
        """
        listing = self.listing(series)
        begins_ms, ends_ms = (listing.onboard_ms, listing.delivery_ms) if listing else (None, None)
        if begins_ms is None:
            begins_ms = self._first_ms(series)
        ended = ends_ms is not None and ends_ms < time.time_ns() // 1_000_000
        return Span(series.interval.floor(begins_ms), ends_ms if ended and ends_ms else NEVER_MS)

    def _first_ms(self, series: Series) -> int:
        known = cast("bytes | None", self._redis.hget(first_candle_key(series), series.symbol))
        if known is None:
            first_ms = self._client(series.market).first_open_ms(series)
            if first_ms is None:
                return NEVER_MS
            self._redis.hset(first_candle_key(series), series.symbol, first_ms)
            return first_ms
        return int(known)


#: Among a market's symbols, Redis ms when they were asked for; no symbol is spelled so.
_TOLD_MS = "told@ms"


def _pairs(listings: Iterable[Listing]) -> dict[str, str]:
    """Return the pairs as if they were symbols: each from its first contract on, without an end."""
    began: dict[str, list[int]] = {}
    for listing in listings:
        if listing.pair:
            began.setdefault(listing.pair, []).extend(
                [listing.onboard_ms] if listing.onboard_ms else []
            )
    return {
        pair: _packed(Listing(pair, "TRADING", min(onboard, default=None), None))
        for pair, onboard in began.items()
    }


def _packed(listing: Listing) -> str:
    return json.dumps([listing.status, listing.onboard_ms, listing.delivery_ms])


def _unpacked(symbol: str, packed: bytes) -> Listing:
    # A worker of a later version may have kept more.
    status, onboard_ms, delivery_ms, *_ = json.loads(packed)
    return Listing(symbol, status, onboard_ms, delivery_ms)
