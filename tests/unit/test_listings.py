"""When a series began, where exchangeInfo does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from redis import Redis

from tests.unit.crew import Crew, series_of
from workers.binance.listings import Listings
from workers.binance.rest import RestClient
from workers.limits import RedisBudget
from workers.model import Interval, Kind, Series, utc_ms

MINUTES = series_of()
FIRST = {
    MINUTES: utc_ms(2020),
    replace(MINUTES, kind=Kind.INDEX): utc_ms(2019),
    replace(MINUTES, kind=Kind.MARK): utc_ms(2019, 6),
    replace(MINUTES, kind=Kind.FUNDING, interval=Interval.EVENTS): utc_ms(2020),
}


class Asked:
    """Tells first candles, and notes of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Series] = []

    def first_open_ms(self, series: Series) -> int | None:
        self.asked.append(series)
        return FIRST[series]


def test_the_first_candle_of_one_kind_is_never_taken_for_that_of_another(redis: Redis, one: Crew) -> None:
    client = Asked()
    listings = Listings(redis, lambda _: cast(RestClient, client), lambda _: cast(RedisBudget, None))
    redis.delete("klines:listings:um", "klines:pairs:um")
    for _ in range(2):
        assert {series: listings.life(series).start_ms for series in FIRST} == FIRST
        assert all(listings.knows_life(series) for series in FIRST)
    assert client.asked == list(FIRST)


def test_what_an_earlier_version_kept_of_klines_is_not_asked_for_again(redis: Redis, one: Crew) -> None:
    redis.delete("klines:listings:um")
    redis.hset("klines:first:um:1m", "BTCUSDT", utc_ms(2021))
    listings = Listings(redis, lambda _: cast(RestClient, None), lambda _: cast(RedisBudget, None))
    assert listings.life(MINUTES).start_ms == utc_ms(2021)
