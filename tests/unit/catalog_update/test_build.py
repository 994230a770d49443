"""A catalog that is made: of whom it asks what, and what becomes of it where nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import Reject
from redis import RedisError

import klinefleet.tasks.catalog
import klinefleet.tasks.catalog_update.archive_scan
from klinefleet.tasks.catalog_update.build import fresh_catalog, update_catalog
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import (
    Refused,
    Restricted,
    TaskFailed,
    Unreachable,
)
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, utc_ms
from klinefleet.workers.lake.catalog import FRESH_MS
from klinefleet.workers.support.retry import CATALOG
from tests.unit.helpers.catalogs import (
    MO1,
    UM,
    Maker,
    catalog,
    entry,
    listing,
    names,
    publish,
    updated,
)
from tests.unit.helpers.in_process_fleet import InProcessFleet


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
    age_listings(one)
    exchange.faults = [Unreachable("no route")] * CATALOG.tries
    one.archive.fault = Unreachable("no route either")
    with pytest.raises(Unreachable, match=r"no route$"):
        update_catalog(one.services, UM)
    assert exchange.faults == []
    assert names(one.services.catalogs) == ["BTCUSDT"]


def age_listings(one: InProcessFleet) -> None:
    """Have the symbols be asked for anew."""
    one.services.redis.delete("klines:listed:um")


def test_without_rest_a_catalog_is_made_of_the_archives_lists(maker: Maker) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    now = now_ms(one.services.redis)
    yesterday = f"{datetime.fromtimestamp(now / 1000, UTC) - timedelta(days=1):%Y-%m-%d}"
    publish(one, "BTCUSDT", "2020-01", "2020-02-03", yesterday)
    publish(one, "SRMUSDT", "2022-01", "2022-02-03")
    exchange.faults = [Restricted("451")] * 9
    lines: list[str] = []
    made = update_catalog(one.services, UM, lines.append)
    assert "Restricted: 451; its symbols are from the archive alone" in lines[0]
    assert (made.has_archive, made.has_rest) == (True, False)
    assert [one.symbol for one in made.entries(status="trading")] == ["BTCUSDT"]
    spans = {one.symbol: one.trading_span for one in made.entries()}
    assert spans == {
        "BTCUSDT": Span(utc_ms(2020), NEVER_MS),
        "SRMUSDT": Span(utc_ms(2022), utc_ms(2022, 2, 4)),
    }
    exchange.faults = []
    whole = fresh_catalog(one.services, UM)
    assert (whole.has_rest, (whole.get("BTCUSDT") or entry("X")).in_rest) == (True, True)


def test_without_rest_nothing_that_it_said_before_is_lost(maker: Maker) -> None:
    settled = listing("OLDUSDT", "SETTLING", delivery_ms=utc_ms(2022, 5, 1))
    one, exchange = maker(listing("BTCUSDT"), settled)
    publish(one, "OLDUSDT", "2022-04")
    publish(one, "SRMUSDT", "2022-01")
    whole = update_catalog(one.services, UM)
    age_listings(one)
    exchange.faults = [Unreachable("no route")] * CATALOG.tries
    poorer = update_catalog(one.services, UM)
    assert poorer.entries() == whole.entries()
    assert (whole.has_rest, poorer.has_rest) == (True, False)


def test_a_fault_that_passes_is_asked_through_and_a_refusal_is_not(maker: Maker) -> None:
    one, exchange = maker(listing("BTCUSDT"))
    exchange.faults = [Unreachable("once"), Unreachable("twice")]
    assert list(updated(one)) == ["BTCUSDT"]
    age_listings(one)
    one.archive.fault = Unreachable("no route")
    exchange.faults = [Refused("no", code=-1), Unreachable("not reached")]
    with pytest.raises(Refused):
        update_catalog(one.services, UM)
    assert len(exchange.faults) == 1


def spot(symbol: str, status: str = "TRADING") -> Listing:
    return listing(symbol, status, onboard_ms=None, pair="")


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
    one.archive.fault = Unreachable("no route")
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
