"""The cached list of symbols: loaded once an hour, and kept until a newer one comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from redis import Redis

from klinefleet.workers.binance.exchange_info import ExchangeInfo, Listing
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.binance.symbol_cache import FRESH_S, SymbolCache
from klinefleet.workers.domain.errors import FleetError, ListingLost, Unreachable
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.limits.redis_budget import RedisBudget
from tests.unit.helpers.in_process_fleet import series_of

UM = Market.USD_M
MINUTES = series_of()
FIRST = {
    MINUTES: utc_ms(2020),
    replace(MINUTES, kind=INDEX_PRICE_KLINES): utc_ms(2019),
    replace(MINUTES, kind=MARK_PRICE_KLINES): utc_ms(2019, 6),
    replace(MINUTES, kind=FUNDING_RATE, interval=Interval.EVENTS): utc_ms(2020),
}


class Exchange:
    """Tells symbols without their dates, and first candles; notes what it was asked."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols
        self.fault: FleetError | None = None
        self.asked: list[Series] = []
        self.told = 0

    def exchange_info(self) -> ExchangeInfo:
        self.told += 1
        if self.fault:
            raise self.fault
        return ExchangeInfo(
            2400, tuple(Listing(name, "TRADING", None, None, pair=name) for name in self.symbols)
        )

    def first_open_ms(self, series: Series) -> int | None:
        self.asked.append(series)
        return FIRST[series]


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
    assert symbol_cache.listing(replace(MINUTES, symbol="NONE")) is None
    assert exchange.told == 1, "said not to be listed by nobody"
    assert symbol_cache.are_loaded(UM)
    assert symbol_cache.listing(MINUTES)
    assert exchange.told == 1


@pytest.mark.parametrize("kind", [KLINES, INDEX_PRICE_KLINES])
def test_what_nobody_can_load_is_an_error_and_no_answer(
    symbol_cache: SymbolCache, exchange: Exchange, kind: Kind
) -> None:
    exchange.fault = Unreachable("refused")
    for ask in (
        symbol_cache.listing,
        symbol_cache.trading_span,
        symbol_cache.is_trading_span_cached,
    ):
        with pytest.raises(Unreachable):
            ask(replace(MINUTES, kind=kind))


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


def test_a_listing_that_goes_just_as_it_is_asked_about_hides_no_symbol(
    redis: Redis, exchange: Exchange
) -> None:
    """The list may expire between two commands: one command reads age and entry."""

    class Going(Redis):
        """Redis loses the listing before some questions."""

        def pipeline(self, *args: Any, **kwargs: Any) -> Any:
            if exchange.told in lost_at:
                redis.delete("klines:listed:um")
            return super().pipeline(*args, **kwargs)

    lost_at = [0]

    going = Going(connection_pool=redis.connection_pool)
    symbol_cache = SymbolCache(
        going,
        lambda _: cast(RestClient, exchange),
        lambda pool: RedisBudget(redis, pool, "default"),
    )
    assert symbol_cache.listing(MINUTES)
    lost_at = [1, 2]
    with pytest.raises(ListingLost):
        symbol_cache.listing(MINUTES)


def test_an_empty_market_is_loaded_all_the_same(
    symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    exchange.symbols = ()
    assert symbol_cache.listing(MINUTES) is None
    assert (symbol_cache.are_loaded(UM), symbol_cache.symbols(UM), exchange.told) == (True, [], 1)


def test_the_first_candle_of_one_kind_is_never_taken_for_that_of_another(
    symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    for _ in range(2):
        assert {series: symbol_cache.trading_span(series).start_ms for series in FIRST} == FIRST
        assert all(symbol_cache.is_trading_span_cached(series) for series in FIRST)
    assert exchange.asked == list(FIRST)


def test_what_an_earlier_version_kept_of_klines_is_not_asked_for_again(
    redis: Redis, symbol_cache: SymbolCache, exchange: Exchange
) -> None:
    redis.hset("klines:first:um:1m", "BTCUSDT", utc_ms(2021))
    assert symbol_cache.trading_span(MINUTES).start_ms == utc_ms(2021)
    assert exchange.asked == []
