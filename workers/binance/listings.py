"""Which symbols a market has, when they began and ended: asked once an hour, kept in Redis for every worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from redis import Redis

from workers.binance.markets import FUNDING_CALLS_A_MINUTE, RULES, Pool
from workers.limits import RedisBudget
from workers.model import NEVER_MS, Kind, Market, Series, Span

if TYPE_CHECKING:
    from workers.binance.rest import RestClient

#: The status of what trades, whether or not it is halted for the moment.
ALIVE = ("TRADING", "PENDING_TRADING", "HALT", "TRADING_HALT", "")

#: How long an exchangeInfo is believed, seconds.
FRESH_S = 3600


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol as exchangeInfo tells it; times in ms UTC, None where the exchange says nothing."""

    symbol: str
    status: str
    onboard_ms: int | None
    delivery_ms: int | None
    base: str = ""
    quote: str = ""
    pair: str = ""
    contract_type: str = ""


class Listings:
    """Symbols and their lives. `client` and `budget` are asked for only when the exchange must be asked."""

    def __init__(
        self, redis: Redis, client: Callable[[Market], RestClient], budget: Callable[[Pool], RedisBudget]
    ) -> None:
        self._redis = redis
        self._client = client
        self._budget = budget

    def refresh(self, market: Market) -> None:
        """Make sure that the market's symbols and weight limit are known and not older than an hour."""
        if not self._redis.exists(_key(market)):
            info = self._client(market).exchange_info()
            told = {listing.symbol: _packed(listing) for listing in info.listings}
            pairs = _pairs(info.listings)
            with self._redis.pipeline() as pipe:
                pipe.delete(_key(market), _pairs_key(market))
                if pairs:
                    pipe.hset(_pairs_key(market), mapping=pairs)  # type: ignore[arg-type]
                    pipe.expire(_pairs_key(market), FRESH_S)
                pipe.hset(_key(market), mapping=told or {"": "[]"})  # type: ignore[arg-type]
                pipe.expire(_key(market), FRESH_S)
                pipe.hset(_LIMITS, str(market), info.limit)
                pipe.execute()
        for pool in (RULES[market].pool, Pool.FUNDING):
            self.note_limit(pool)

    def note_limit(self, pool: Pool) -> None:
        """Note in the budget of this process's address what any address may spend, as far as the exchange has told."""
        if limit := self.limit(pool):
            self._budget(pool).set_limit(limit)

    def limit(self, pool: Pool) -> int | None:
        """Return the weight that one address may spend of a pool in a minute, None before the exchange has told it."""
        if pool is Pool.FUNDING:
            return FUNDING_CALLS_A_MINUTE
        # Markets that share a pool are held to the smaller of what they say.
        sharing = [str(market) for market in Market if RULES[market].pool is pool]
        return min((int(limit) for limit in self._redis.hmget(_LIMITS, sharing) if limit), default=None)

    def get(self, market: Market, symbol: str) -> Listing | None:
        """Return one symbol, None where the market has no such one."""
        packed = cast("bytes | None", self._redis.hget(_key(market), symbol))
        return _unpacked(symbol, packed) if packed else None

    def of(self, series: Series) -> Listing | None:
        """Return what is told of the series' symbol, or for index candles of its pair; None where REST has no such."""
        if series.kind is not Kind.INDEX:
            return self.get(series.market, series.symbol)
        packed = cast("bytes | None", self._redis.hget(_pairs_key(series.market), series.symbol))
        return _unpacked(series.symbol, packed) if packed else None

    def symbols(self, market: Market) -> list[str]:
        """Return the names of all symbols, sorted."""
        return sorted(name.decode() for name in cast("list[bytes]", self._redis.hkeys(_key(market))) if name)

    def pairs(self, market: Market) -> list[str]:
        """Return the names of all pairs, sorted."""
        return sorted(name.decode() for name in cast("list[bytes]", self._redis.hkeys(_pairs_key(market))))

    def knows_life(self, series: Series) -> bool:
        """Return whether `life` can be told without asking the exchange."""
        listing = self.of(series)
        return bool(listing and listing.onboard_ms) or bool(self._redis.hexists(_first(series), series.symbol))

    def life(self, series: Series) -> Span:
        """Return the time in which the series can have candles, as far as the exchange tells; [0, 2100) unclipped.

        Futures say when they began and end; of a spot symbol the first candle is asked for, once.
        """
        listing = self.of(series)
        begins_ms, ends_ms = (listing.onboard_ms, listing.delivery_ms) if listing else (None, None)
        if begins_ms is None:
            begins_ms = self._first_ms(series)
        ended = ends_ms is not None and ends_ms < time.time_ns() // 1_000_000
        return Span(series.interval.floor(begins_ms), ends_ms if ended and ends_ms else NEVER_MS)

    def _first_ms(self, series: Series) -> int:
        known = cast("bytes | None", self._redis.hget(_first(series), series.symbol))
        if known is None:
            first_ms = self._client(series.market).first_open_ms(series.symbol, series.interval)
            if first_ms is None:
                return NEVER_MS
            self._redis.hset(_first(series), series.symbol, first_ms)
            return first_ms
        return int(known)


_LIMITS = "klines:limits"


def _key(market: Market) -> str:
    return f"klines:listings:{market}"


def _pairs_key(market: Market) -> str:
    return f"klines:pairs:{market}"


def _pairs(listings: Iterable[Listing]) -> dict[str, str]:
    """Return the pairs as if they were symbols: each from its first contract on, without an end."""
    began: dict[str, list[int]] = {}
    for listing in listings:
        if listing.pair:
            began.setdefault(listing.pair, []).extend([listing.onboard_ms] if listing.onboard_ms else [])
    return {
        pair: _packed(Listing(pair, "TRADING", min(onboard, default=None), None)) for pair, onboard in began.items()
    }


def _first(series: Series) -> str:
    return f"klines:first:{series.market}:{series.interval}"


def _packed(listing: Listing) -> str:
    return json.dumps([listing.status, listing.onboard_ms, listing.delivery_ms])


def _unpacked(symbol: str, packed: bytes) -> Listing:
    status, onboard_ms, delivery_ms = json.loads(packed)
    return Listing(symbol, status, onboard_ms, delivery_ms)
