"""When a symbol began and ended, by all who know it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import (
    Refused,
)
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from tests.unit.helpers.catalogs import (
    D1,
    S1,
    Maker,
    listing,
    publish,
    updated,
)


def test_a_symbol_that_only_the_archive_knows_lives_as_long_as_its_files(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(
        one, "SRMUSDT", "2022-01", "2022-02", "2022-01-11", "2022-02-01", "2022-02-28", "2022-03-05"
    )
    found = updated(one)["SRMUSDT"]
    assert found.trading_span == Span(utc_ms(2022, 1, 11), utc_ms(2022, 3, 6))
    assert found.archive_ms == utc_ms(2022, 1, 11)
    assert (found.status, found.in_rest, found.is_guessed) == ("", False, True)
    assert (found.base, found.quote, found.pair) == ("SRM", "USDT", "SRMUSDT")


@pytest.mark.parametrize(
    ("periods", "life"),
    [
        (["2022-01", "2022-03"], Span(utc_ms(2022, 1), utc_ms(2022, 4))),
        (["2022-01-30", "2022-02-02"], Span(utc_ms(2022, 1, 30), utc_ms(2022, 2, 3))),
        (["2021-12", "2022-01-30", "2022-02-02"], Span(utc_ms(2021, 12), utc_ms(2022, 2, 3))),
        (["2022-01", "2022-01-30", "2022-02-02"], Span(utc_ms(2022, 1, 30), utc_ms(2022, 2, 3))),
        (["2022-02", "2022-01-30"], Span(utc_ms(2022, 1, 30), utc_ms(2022, 3))),
    ],
    ids=["months", "days", "months first", "days within", "days first"],
)
def test_the_trading_span_comes_from_whatever_files_there_are(
    maker: Maker, periods: list[str], life: Span
) -> None:
    one, _ = maker()
    publish(one, "OLDUSDT", *periods)
    assert updated(one)["OLDUSDT"].trading_span == life


def test_seconds_that_began_years_later_do_not_set_the_first_day(maker: Maker) -> None:
    one, _ = maker()
    publish(one, "OLDUSDT", "2021-02-01", interval=S1, market=Market.SPOT)
    publish(one, "OLDUSDT", "2017-08-17", "2023-01-01", interval=D1, market=Market.SPOT)
    found = updated(one, Market.SPOT)["OLDUSDT"]
    assert found.trading_span == Span(utc_ms(2017, 8, 17), utc_ms(2023, 1, 2))
    assert found.intervals == ("1d", "1s")


def test_a_symbol_that_settled_ends_with_its_files_and_without_files_at_its_delivery(
    maker: Maker,
) -> None:
    ended = utc_ms(2022, 5, 1)
    one, _ = maker(*(listing(name, "SETTLING", delivery_ms=ended) for name in ("AUSDT", "BUSDT")))
    publish(one, "AUSDT", "2022-04-30", "2022-05-01")
    found = updated(one)
    assert found["AUSDT"].last_ms == utc_ms(2022, 5, 2)
    assert found["BUSDT"].last_ms == ended


@pytest.mark.parametrize("status", ["TRADING", "SETTLING", "CLOSE", "BREAK"])
def test_no_status_and_no_delivery_date_ends_a_symbol_that_has_candles(
    maker: Maker, status: str
) -> None:
    delivered_ms = utc_ms(2024, 12, 27)
    one, exchange = maker(listing("BTCUSDT_241227", status, delivery_ms=delivered_ms))
    publish(one, "BTCUSDT_241227", "2024-11", "2024-12-26")
    exchange.newest["BTCUSDT_241227"] = now_ms(one.services.redis) - 60_000
    found = updated(one)["BTCUSDT_241227"]
    assert (found.delivery_ms, found.last_ms) == (delivered_ms, None)


@pytest.mark.parametrize("status", ["HALT", "TRADING_CANCEL_ONLY", "END_OF_DAY", "OF_TOMORROW", ""])
def test_a_status_that_is_no_end_or_that_nobody_documented_ends_nothing(
    maker: Maker, status: str
) -> None:
    one, exchange = maker(listing("BTCUSDT", status))
    publish(one, "BTCUSDT", "2021-02")
    assert updated(one)["BTCUSDT"].last_ms is None
    assert "newest BTCUSDT" not in exchange.asked


def test_candles_that_rest_has_after_the_last_file_and_the_delivery_are_no_end(
    maker: Maker,
) -> None:
    one, exchange = maker(listing("AUSDT", "SETTLING", delivery_ms=utc_ms(2022, 5, 1)))
    publish(one, "AUSDT", "2022-04")
    exchange.newest["AUSDT"] = utc_ms(2022, 5, 9)
    assert updated(one)["AUSDT"].last_ms == utc_ms(2022, 5, 9) + 60_000
    # An end so old is not asked for again, unless the status changes.
    exchange.newest["AUSDT"] = utc_ms(2022, 6)
    one.services.redis.flushdb()
    assert updated(one)["AUSDT"].last_ms == utc_ms(2022, 5, 9) + 60_000
    exchange.listings = (listing("AUSDT", "CLOSE", delivery_ms=utc_ms(2022, 5, 1)),)
    one.services.redis.flushdb()
    assert updated(one)["AUSDT"].last_ms == utc_ms(2022, 6) + 60_000


def test_a_symbol_that_one_exchange_info_lacks_has_no_end_while_rest_has_its_candles(
    maker: Maker,
) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    now = now_ms(one.services.redis)
    yesterday = f"{datetime.fromtimestamp(now / 1000, UTC) - timedelta(days=1):%Y-%m-%d}"
    for symbol in ("HEREUSDT", "GONEUSDT"):
        publish(one, symbol, "2022-01", yesterday)
    exchange.newest["HEREUSDT"] = now
    found = updated(one)
    assert (found["HEREUSDT"].last_ms, found["HEREUSDT"].in_rest) == (None, True)
    assert (found["GONEUSDT"].last_ms, found["GONEUSDT"].in_rest) == (now - now % DAY_MS, False)


@pytest.mark.parametrize("market", list(Market))
def test_a_candle_or_file_from_before_the_stated_listing_begins_the_life(
    maker: Maker, market: Market
) -> None:
    stated = None if market is Market.SPOT else utc_ms(2021)
    one, exchange = maker(
        *(listing(name, onboard_ms=stated) for name in ("AUSDT", "BUSDT", "CUSDT")),
        first={"AUSDT": utc_ms(2019, 3), "BUSDT": utc_ms(2021, 1, 9), "CUSDT": utc_ms(2020, 6, 9)},
    )
    publish(one, "BUSDT", "2020-05", "2020-05-08", market=market)
    publish(one, "CUSDT", "2020-06", "2020-06-11", market=market)
    begins = {name: entry.trading_span.start_ms for name, entry in updated(one, market).items()}
    assert begins == {
        "AUSDT": utc_ms(2019, 3),
        "BUSDT": utc_ms(2020, 5, 8),
        # A month's file shows a candle of that month, which may be REST's first.
        "CUSDT": utc_ms(2020, 6, 9),
    }
    updated(one, market)
    assert len(exchange.asked) == len(begins), "asked again for what never changes"


def spot(symbol: str, status: str = "TRADING") -> Listing:
    return listing(symbol, status, onboard_ms=None, pair="")


def test_the_first_candle_of_a_spot_symbol_is_asked_for_once_and_never_again(maker: Maker) -> None:
    one, exchange = maker(
        spot("BTCUSDT"), first={"BTCUSDT": utc_ms(2017, 8, 17), "ETHUSDT": utc_ms(2018)}
    )
    assert updated(one, Market.SPOT)["BTCUSDT"].first_ms == utc_ms(2017, 8, 17)
    exchange.listings = (spot("BTCUSDT"), spot("ETHUSDT"))
    found = updated(one, Market.SPOT)
    assert exchange.asked == ["BTCUSDT 1m", "ETHUSDT 1m"]
    assert [found[name].first_ms for name in found] == [utc_ms(2017, 8, 17), utc_ms(2018)]
    assert found["BTCUSDT"].pair == "BTCUSDT"


def test_a_spot_symbol_without_a_candle_yet_is_asked_again(maker: Maker) -> None:
    one, exchange = maker(spot("NEWUSDT"), first={"NEWUSDT": None})
    assert updated(one, Market.SPOT)["NEWUSDT"].first_ms is None
    exchange.first["NEWUSDT"] = utc_ms(2024)
    assert updated(one, Market.SPOT)["NEWUSDT"].first_ms == utc_ms(2024)


def test_where_a_forgotten_symbols_files_begin_is_not_its_first_candle_once_rest_knows_it(
    maker: Maker,
) -> None:
    one, exchange = maker(first={"BACKUSDT": utc_ms(2019)})
    publish(one, "BACKUSDT", "2020-01", market=Market.SPOT)
    assert updated(one, Market.SPOT)["BACKUSDT"].first_ms == utc_ms(2020)
    exchange.listings = (spot("BACKUSDT"),)
    found = updated(one, Market.SPOT)["BACKUSDT"]
    assert (found.first_ms, found.archive_ms) == (utc_ms(2019), utc_ms(2020))


def test_the_first_file_of_a_symbol_that_one_exchange_info_lacked_is_not_its_first_candle(
    maker: Maker,
) -> None:
    one, exchange = maker(first={"BTCUSDT": utc_ms(2019)})
    now = now_ms(one.services.redis)
    yesterday = f"{datetime.fromtimestamp(now / 1000, UTC) - timedelta(days=1):%Y-%m-%d}"
    publish(one, "BTCUSDT", "2020-01", yesterday)
    exchange.newest["BTCUSDT"] = now
    assert (updated(one)["BTCUSDT"].first_ms, updated(one)["BTCUSDT"].in_rest) == (
        utc_ms(2020),
        True,
    )
    exchange.listings = (listing("BTCUSDT"),)
    assert updated(one)["BTCUSDT"].first_ms == utc_ms(2019)


def test_a_listing_date_does_not_stand_for_a_first_candle_that_rest_did_not_name(
    maker: Maker,
) -> None:
    one, exchange = maker(listing("BTCUSDT"), first={"BTCUSDT": Refused("no", code=-1)})
    found = updated(one)["BTCUSDT"]
    assert (found.first_ms, found.trading_span.start_ms) == (None, utc_ms(2021))
    exchange.first["BTCUSDT"] = utc_ms(2019)
    assert updated(one)["BTCUSDT"].first_ms == utc_ms(2019)


def test_a_first_candle_that_is_refused_costs_its_own_date_alone(maker: Maker) -> None:
    one, exchange = maker(
        spot("BTCUSDT"), first={"BTCUSDT": utc_ms(2017), "BADUSDT": Refused("no", code=-1121)}
    )
    updated(one, Market.SPOT)
    exchange.listings = (spot("BTCUSDT"), spot("BADUSDT"))
    found = updated(one, Market.SPOT)
    assert (found["BTCUSDT"].first_ms, found["BADUSDT"].first_ms) == (utc_ms(2017), None)
