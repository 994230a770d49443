"""exchangeInfo: the markets' symbols, loaded once an hour, in Redis for all workers.

The last load stays until a newer one replaces it, however old it is. So "not listed" and "not
loaded" are different answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from redis import Redis

from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import ListingLost
from klinefleet.workers.domain.markets import FUNDING_CALLS_A_MINUTE, RULES, Market, Pool
from klinefleet.workers.domain.redis_keys import LIMITS, pairs_key, symbols_key
from klinefleet.workers.domain.series import Series
from klinefleet.workers.limits.redis_budget import RedisBudget

if TYPE_CHECKING:
    from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.binance.exchange_info import Listing

#: Seconds for which an exchangeInfo is fresh.
FRESH_S = 3600


@dataclass(frozen=True, slots=True)
class FoundListing:
    """One symbol in the last exchangeInfo."""

    is_loaded: bool
    """Whether the market's symbols were ever loaded."""
    listing: Listing | None
    """None where it is not among them."""


class SymbolCache:
    """The symbols of exchangeInfo. `client` and `budget` are used to ask the exchange only."""

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
        """Load the market's symbols and weight limit unless they are younger than an hour.

        FleetError where the exchange does not return them; the last load stays.
        """
        age_ms = self.symbols_age_ms(market)
        if age_ms is None or age_ms >= FRESH_S * 1000:
            self._load(market)
        for pool in (RULES[market].pool, Pool.FUNDING):
            self.apply_weight_limit(pool)

    def symbols_age_ms(self, market: Market) -> int | None:
        """Return the age of the market's symbols in ms; None if they were never loaded."""
        with self._redis.pipeline() as pipe:
            pipe.hget(symbols_key(market), _LOADED_MS)
            pipe.time()
            loaded_ms, (seconds, micros) = pipe.execute()
        age_ms = seconds * 1000 + micros // 1000 - int(loaded_ms or 0)
        return None if loaded_ms is None else max(0, age_ms)

    def are_loaded(self, market: Market) -> bool:
        """Return True if the market's symbols were ever loaded."""
        return self.symbols_age_ms(market) is not None

    def _load(self, market: Market) -> None:
        loaded_ms = now_ms(self._redis)
        info = self._client(market).exchange_info()
        symbols = {listing.symbol: _packed(listing) for listing in info.listings}
        pairs = _pairs(info.listings)
        with self._redis.pipeline() as pipe:
            pipe.delete(symbols_key(market), pairs_key(market))
            pipe.hset(symbols_key(market), mapping={_LOADED_MS: str(loaded_ms), **symbols})  # type: ignore[dict-item]
            if pairs:
                pipe.hset(pairs_key(market), mapping=pairs)  # type: ignore[arg-type]
            pipe.hset(LIMITS, str(market), info.limit)
            pipe.execute()

    def apply_weight_limit(self, pool: Pool) -> None:
        """Set the exchange's limit in this address's budget, if it is known."""
        if limit := self.weight_limit(pool):
            self._budget(pool).set_limit(limit)

    def weight_limit(self, pool: Pool) -> int | None:
        """Return the weight a minute that one address may spend of a pool; None if not loaded."""
        if pool is Pool.FUNDING:
            return FUNDING_CALLS_A_MINUTE
        # The smaller limit holds for markets that share a pool.
        sharing = [str(market) for market in Market if RULES[market].pool is pool]
        return min(
            (int(limit) for limit in self._redis.hmget(LIMITS, sharing) if limit), default=None
        )

    def listing(self, series: Series) -> Listing | None:
        """Return the listing of the series' symbol or pair; None where exchangeInfo lacks it.

        ListingLost where the market's symbols were never loaded.
        """
        found = self.find(series)
        if not found.is_loaded:
            raise ListingLost(f"the symbols of {series.market} are not in Redis")
        return found.listing

    def find(self, series: Series) -> FoundListing:
        """Return what is known of the series' symbol or pair; nobody is asked."""
        key = pairs_key if series.kind.is_of_pair else symbols_key
        with self._redis.pipeline() as pipe:
            pipe.hexists(symbols_key(series.market), _LOADED_MS)
            pipe.hget(key(series.market), series.symbol)
            is_loaded, packed = pipe.execute()
        listing = _unpacked(series.symbol, packed) if packed else None
        return FoundListing(bool(is_loaded), listing)

    def symbols(self, market: Market) -> list[str]:
        """Return the names of the market's loaded symbols, sorted."""
        names = cast("list[bytes]", self._redis.hkeys(symbols_key(market)))
        return sorted(name.decode() for name in names if name != _LOADED_MS.encode())

    def pairs(self, market: Market) -> list[str]:
        """Return the names of the market's loaded pairs, sorted."""
        names = cast("list[bytes]", self._redis.hkeys(pairs_key(market)))
        return sorted(name.decode() for name in names)


#: The field, among a market's symbols, of the Redis ms at which they were loaded. No symbol is
#: spelled so.
_LOADED_MS = "told@ms"


def _pairs(listings: Iterable[Listing]) -> dict[str, str]:
    """Return a listing for each pair: it begins with its first contract, and has no end."""
    began: dict[str, list[int]] = {}
    for listing in listings:
        if listing.pair:
            dates = [listing.onboard_ms] if listing.onboard_ms else []
            began.setdefault(listing.pair, []).extend(dates)
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
