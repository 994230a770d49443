"""A catalog that is made: of whom it asks what, and what becomes of it where nobody answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery.exceptions import Reject
from redis import Redis, RedisError

import klinefleet.tasks.catalog
import klinefleet.tasks.catalog_update.archive_scan
from klinefleet.tasks.catalog_update.build import fresh_catalog, update_catalog
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError, Refused, TaskFailed, Unreachable
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.catalog import FRESH_MS
from klinefleet.workers.support.retry import CATALOG, RetryPolicy
from tests.unit.helpers.catalogs import (
    D1,
    MO1,
    S1,
    UM,
    Exchange,
    Maker,
    catalog,
    entry,
    listing,
    names,
    publish,
    updated,
)
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet


@pytest.fixture
def maker(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setattr(
        klinefleet.tasks.catalog_update.archive_scan, "CATALOG", RetryPolicy(CATALOG.tries, 0.0)
    )

    def make(
        *listings: Listing, first: dict[str, int | FleetError | None] | None = None
    ) -> tuple[InProcessFleet, Exchange]:
        one, exchange = in_process_fleet(redis, tmp_path, {}), Exchange(*listings, first=first)
        one.services.__dict__["client"] = lambda _: exchange
        return one, exchange

    return make


def test_a_symbol_that_trades_has_its_files_beginning_and_no_end(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(one, "BTCUSDT", "2021-02", "2021-01-15", "2021-03-01")
    publish(one, "BTCUSDT", "2021-02", interval=MO1)
    found = updated(one)["BTCUSDT"]
    assert (found.onboard_ms, found.first_ms, found.archive_ms) == (
        utc_ms(2021),
        utc_ms(2021),
        utc_ms(2021, 1, 15),
    )
    assert found.last_ms is None
    assert found.intervals == ("1M", "1m")
    assert (found.in_archive, found.in_rest, found.is_guessed) == (True, True, False)


def test_a_symbol_without_files_is_not_lost(maker: Maker) -> None:
    one, _ = maker(listing("NEWUSDT"))
    found = updated(one)["NEWUSDT"]
    assert (found.intervals, found.in_archive, found.archive_ms) == ((), False, None)
    assert found.trading_span.start_ms == utc_ms(2021)


def test_a_symbol_that_only_the_archive_knows_lives_as_long_as_its_files(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(
        one, "SRMUSDT", "2022-01", "2022-02", "2022-01-11", "2022-02-01", "2022-02-28", "2022-03-05"
    )
    found = updated(one)["SRMUSDT"]
    assert found.trading_span == Span(utc_ms(2022, 1, 11), utc_ms(2022, 3, 6))
    assert (found.status, found.in_rest, found.is_guessed) == ("", False, True)
    assert (found.base, found.quote, found.pair) == ("SRM", "USDT", "SRMUSDT")


@pytest.mark.parametrize(
    ("periods", "life"),
    [
        (["2022-01", "2022-03"], Span(utc_ms(2022, 1), utc_ms(2022, 4))),
        (["2022-01-30", "2022-02-02"], Span(utc_ms(2022, 1, 30), utc_ms(2022, 2, 3))),
        (["2021-12", "2022-01-30", "2022-02-02"], Span(utc_ms(2022, 1, 30), utc_ms(2022, 2, 3))),
    ],
    ids=["months", "days", "both"],
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


def test_the_delivery_date_of_a_contract_that_trades_is_not_its_end(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT_241227", delivery_ms=utc_ms(2024, 12, 27)))
    found = updated(one)["BTCUSDT_241227"]
    assert (found.delivery_ms, found.last_ms) == (utc_ms(2024, 12, 27), None)


def test_odd_folders_and_names_of_the_archive_are_no_symbols(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(one, "BTC USDT", "2022-01")
    publish(one, "btcusdt", "2022-01")
    publish(one, "ADABKRW", "2020-8")
    publish(one, "币安人生USDT", "2022-01")
    found = updated(one)
    assert set(found) == {"BTCUSDT", "ADABKRW", "币安人生USDT"}
    assert found["ADABKRW"].trading_span.start_ms == 0
    assert (found["ADABKRW"].base, found["ADABKRW"].quote) == ("ADA", "BKRW")


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("ICPUSDTSETTLED", "ICP", "USDT"),
        ("LUNABUSD", "LUNA", "BUSD"),
        ("ETHUSD_200925", "ETH", "USD"),
        ("BNXUSD_PERP", "BNX", "USD"),
        ("XRPBTC", "XRP", "BTC"),
        ("OLDNEWCOIN", "OLD", "NEWCOIN"),
        ("BTC", "BTC", ""),
        ("NOQUOTE", "NOQUOTE", ""),
    ],
)
def test_base_and_quote_of_a_forgotten_name_are_guessed_by_the_longest_quote(
    maker: Maker, symbol: str, base: str, quote: str
) -> None:
    one, _ = maker(listing("BTCNEWCOIN", base="BTC", quote="NEWCOIN"))
    publish(one, symbol, "2022-01")
    found = updated(one)[symbol]
    assert (found.base, found.quote, found.is_guessed) == (base, quote, True)


def test_a_catalog_made_without_the_archive_says_so(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    one.archive.fault = Unreachable("no route")
    lines: list[str] = []
    made = update_catalog(one.services, UM, lines.append)
    assert not made.has_archive
    assert [symbol.symbol for symbol in made.entries()] == ["BTCUSDT"]
    assert "Unreachable: no route; its archive part is from the last catalog" in lines[0]


def test_an_archive_that_does_not_answer_costs_no_symbol_that_was_known(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(one, "SRMUSDT", "2022-01")
    whole = update_catalog(one.services, UM)
    one.archive.fault = Unreachable("no route")
    poorer = update_catalog(one.services, UM)
    assert poorer.entries() == whole.entries()
    assert (whole.has_archive, poorer.has_archive) == (True, False)


def test_a_damaged_catalog_is_passed_over_and_replaced(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    one.services.catalogs.store(catalog(entry("OLDUSDT"), made_ms=0))
    one.services.store.put("catalog/market=um/2090-06-15.parquet", b"cut off")
    one.services.store.put("catalog/market=um/notes.txt", b"not ours")
    held = one.services.catalogs.newest(UM)
    assert held is not None
    assert held.get("OLDUSDT")
    assert [symbol.symbol for symbol in update_catalog(one.services, UM).entries()] == ["BTCUSDT"]
    assert one.services.store.read("catalog/market=um/notes.txt") == b"not ours"


def test_a_catalog_made_without_the_archive_is_made_anew_as_soon_as_it_is_wanted(
    maker: Maker,
) -> None:
    one, _ = maker(listing("BTCUSDT"))
    publish(one, "SRMUSDT", "2022-01")
    one.archive.fault = Unreachable("no route")
    assert len(fresh_catalog(one.services, UM)) == 1
    one.archive.fault = None
    assert len(fresh_catalog(one.services, UM)) == 2


@pytest.mark.parametrize(("age_ms", "is_made_anew"), [(FRESH_MS - 60_000, False), (FRESH_MS, True)])
def test_a_catalog_is_believed_for_a_day_and_no_longer(
    maker: Maker, age_ms: int, is_made_anew: bool
) -> None:
    one, _ = maker(listing("BTCUSDT"))
    one.services.catalogs.store(
        catalog(entry("OLDUSDT"), made_ms=now_ms(one.services.redis) - age_ms)
    )
    found = [symbol.symbol for symbol in fresh_catalog(one.services, UM).entries()]
    assert found == (["BTCUSDT"] if is_made_anew else ["OLDUSDT"])


def test_an_exchange_that_does_not_answer_leaves_the_catalog_that_there_is(maker: Maker) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    updated(one)
    exchange.faults = [Unreachable("no route")] * CATALOG.tries
    with pytest.raises(Unreachable):
        update_catalog(one.services, UM)
    assert exchange.faults == []
    assert names(one.services.catalogs) == ["BTCUSDT"]


def test_a_fault_that_passes_is_asked_through_and_a_refusal_is_not(maker: Maker) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    exchange.faults = [Unreachable("once"), Unreachable("twice")]
    assert list(updated(one)) == ["BTCUSDT"]
    exchange.faults = [Refused("no", code=-1), Unreachable("not reached")]
    with pytest.raises(Refused):
        update_catalog(one.services, UM)
    assert len(exchange.faults) == 1


def test_futures_list_their_first_day_and_no_candle_is_requested(maker: Maker) -> None:
    one, exchange = maker(listing("BTCUSDT"), listing("ODDUSDT", onboard_ms=None))
    found = updated(one)
    assert (found["BTCUSDT"].first_ms, found["ODDUSDT"].first_ms) == (utc_ms(2021), None)
    assert exchange.asked == []


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


def test_a_first_candle_that_is_refused_leaves_the_catalog_that_there_is(maker: Maker) -> None:
    one, exchange = maker(
        spot("BTCUSDT"), first={"BTCUSDT": utc_ms(2017), "BADUSDT": Refused("no", code=-1121)}
    )
    updated(one, Market.SPOT)
    exchange.listings = (spot("BTCUSDT"), spot("BADUSDT"))
    with pytest.raises(Refused):
        update_catalog(one.services, Market.SPOT)
    assert names(one.services.catalogs, Market.SPOT) == ["BTCUSDT"]


def test_more_symbols_than_are_asked_at_once_keep_their_own_answers(maker: Maker) -> None:
    many = [f"C{n:03}USDT" for n in range(250)]
    lines: list[str] = []
    one, _ = maker(*map(spot, many), first={name: utc_ms(2020) + n for n, name in enumerate(many)})
    made = update_catalog(one.services, Market.SPOT, lines.append)
    assert [symbol.first_ms for symbol in made.entries()] == [utc_ms(2020) + n for n in range(250)]
    assert "first candles of spot: 200 of 250 symbols" in lines


class Task:
    """What Celery hands the task as `self`."""

    def __init__(self, one: InProcessFleet) -> None:
        self.app = type("App", (), {"services": one.services})


def run_task(one: InProcessFleet) -> None:
    klinefleet.tasks.catalog.catalog.run.__func__(Task(one), "um")


def test_of_two_workers_only_one_makes_the_catalog(maker: Maker) -> None:
    one, _ = maker(listing("BTCUSDT"))
    with one.services.leases.hold("catalog|um"):
        run_task(one)
    assert one.services.catalogs.newest(UM) is None
    run_task(one)
    assert names(one.services.catalogs) == ["BTCUSDT"]


def test_a_task_that_fails_ends_and_says_why(
    maker: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    exchange.faults = [Refused("not you", code=-1)]
    with pytest.raises(TaskFailed, match="Refused: not you"):
        run_task(one)
    assert "catalog um: Refused: not you; the catalog in the lake was not changed" in caplog.text


def test_a_task_without_redis_goes_back_to_its_queue(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = maker(listing("BTCUSDT"))
    one.services.stop.set()

    def gone(*_: object) -> None:
        raise RedisError("gone")

    monkeypatch.setattr(klinefleet.tasks.catalog, "update_catalog", gone)
    with pytest.raises(Reject) as rejected:
        run_task(one)
    assert rejected.value.requeue
