"""The cached list of symbols: loaded once an hour, and kept until a newer one comes."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from redis import Redis

from klinefleet.workers.binance.exchange_info import ExchangeInfo, Listing
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.binance.symbol_cache import FRESH_S, SymbolCache
from klinefleet.workers.domain.errors import FleetError, ListingLost, Unreachable
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.limits.redis_budget import RedisBudget
from tests.unit.helpers.in_process_fleet import series_of

UM = Market.USD_M
MINUTES = series_of()


class Exchange:
    """Tells symbols without their dates, and how often it did."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols
        self.fault: FleetError | None = None
        self.told = 0

    def exchange_info(self) -> ExchangeInfo:
        self.told += 1
        if self.fault:
            raise self.fault
        return ExchangeInfo(
            2400, tuple(Listing(name, "TRADING", None, None, pair=name) for name in self.symbols)
        )


@pytest.fixture
def exchange() -> Exchange:
    return Exchange("BTCUSDT")


@pytest.fixture
def symbol_cache(redis: Redis, exchange: Exchange) -> SymbolCache:
    return SymbolCache(
        redis,
        lambda _: cast(RestClient, exchange),
        lambda pool: RedisBudget(redis, pool, "default"),
    )


def age(redis: Redis, ms: int) -> None:
    """Set back when the symbols were told, as if so much time had passed."""
    redis.hincrby("klines:listed:um", "told@ms", -ms)


def test_not_loaded_and_not_listed_are_two_answers(
    symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    assert not symbol_cache.are_loaded(UM)
    with pytest.raises(ListingLost):
        symbol_cache.listing(replace(MINUTES, symbol="NONE"))
    assert exchange.told == 0
    symbol_cache.refresh(UM)
    assert symbol_cache.are_loaded(UM)
    assert symbol_cache.listing(replace(MINUTES, symbol="NONE")) is None
    assert symbol_cache.listing(MINUTES)
    assert exchange.told == 1


@pytest.mark.parametrize("kind", [KLINES, INDEX_PRICE_KLINES])
def test_what_nobody_can_load_is_an_error_and_no_answer(
    symbol_cache: SymbolCache, exchange: Exchange, kind: Kind
) -> None:
    exchange.fault = Unreachable("refused")
    with pytest.raises(Unreachable):
        symbol_cache.refresh(UM)
    with pytest.raises(ListingLost):
        symbol_cache.listing(replace(MINUTES, kind=kind))
    assert not symbol_cache.find(replace(MINUTES, kind=kind)).is_loaded


def test_the_last_listing_stays_until_a_newer_one_is_in(
    redis: Redis, symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    symbol_cache.refresh(UM)
    age(redis, 100 * FRESH_S * 1000)
    exchange.fault = Unreachable("refused")
    with pytest.raises(Unreachable):
        symbol_cache.refresh(UM)
    assert symbol_cache.listing(MINUTES)
    assert redis.pttl("klines:listed:um") == redis.pttl("klines:listed:um:pairs") == -1
    exchange.fault, exchange.symbols = None, ("ETHUSDT",)
    symbol_cache.refresh(UM)
    assert symbol_cache.listing(MINUTES) is None
    assert (symbol_cache.symbols(UM), symbol_cache.pairs(UM)) == (["ETHUSDT"], ["ETHUSDT"])


def test_a_listing_tells_its_age_and_is_asked_for_anew_after_an_hour(
    redis: Redis, symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    assert symbol_cache.symbols_age_ms(UM) is None
    symbol_cache.refresh(UM)
    age(redis, (FRESH_S - 60) * 1000)
    symbol_cache.refresh(UM)
    told_ms = symbol_cache.symbols_age_ms(UM)
    assert told_ms
    assert (FRESH_S - 60) * 1000 <= told_ms < FRESH_S * 1000
    assert exchange.told == 1
    age(redis, 60_000)
    symbol_cache.refresh(UM)
    assert exchange.told == 2
    assert (symbol_cache.symbols_age_ms(UM) or 0) < 60_000


def test_an_empty_market_is_loaded_all_the_same(
    symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    exchange.symbols = ()
    symbol_cache.refresh(UM)
    assert symbol_cache.listing(MINUTES) is None
    assert (symbol_cache.are_loaded(UM), symbol_cache.symbols(UM), exchange.told) == (True, [], 1)
