"""When a symbol traded is told by all who know it: nothing is cut off by one field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.expected import Wanted, ms_of
from tests.harness import Fleet

#: SOLUSDT of USD-M is listed on 2020-09-14T07:00.
LISTED = "2020-09-14T07:00"


@pytest.fixture(autouse=True)
def _truthful(fleet: Fleet) -> Iterator[None]:
    """Begin with an empty lake and an exchange that was never asked; leave it truthful."""
    fleet.empty()
    forget(fleet)
    yield
    fleet.exchange.misstate()
    forget(fleet)


def forget(fleet: Fleet) -> None:
    """Have Redis know nothing of what the exchange said."""
    with fleet.redis.client() as client:
        for pattern in ("klines:listed:*", "klines:first:*", "klines:newest:*", "klines:files:*"):
            for key in client.scan_iter(pattern):
                client.delete(key)


def coverage(fleet: Fleet, *options: str) -> list[dict[str, Any]]:
    done = fleet.klines("coverage", "--json", *options)
    assert done.returncode in (0, 1), done.stderr
    holes: list[dict[str, Any]] = json.loads(done.stdout)["series"][0]["holes"]
    return holes


@pytest.mark.parametrize("source", ["auto", "rest", "archive"])
@pytest.mark.parametrize("market", ["um", "cm"])
def test_candles_from_before_the_stated_listing_are_fetched(
    fleet: Fleet, market: str, source: str
) -> None:
    symbol, start, end = {
        "um": ("SOLUSDT", "2020-09-01", "2020-09-20"),
        "cm": ("ETHUSD_PERP", "2020-08-10", "2020-08-25"),
    }[market]
    fleet.exchange.misstate(**{symbol: {"onboardDate": ms_of("2020-11-01")}})
    wanted = Wanted(market, (symbol,), start, end, source=source)
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert told["failed"] == {}
    assert "did not trade" not in str(told["notes"])
    wanted.assert_nothing_is_missing(fleet)


def test_one_empty_answer_to_the_question_for_the_first_candle_is_no_life_without_candles(
    fleet: Fleet,
) -> None:
    fleet.exchange.faults({"empty": 1.0}, most=1)
    wanted = Wanted("spot", ("SOLUSDT",), "2020-08-01", "2020-08-12")
    told = fleet.download(*wanted.arguments)
    assert fleet.exchange.ask("GET", "books")["faults"]["empty"] == 1
    wanted.assert_held(fleet)
    assert told["notes"] == {"SOLUSDT": "traded only in 2020-08-11T06:00..2020-08-12"}


@pytest.mark.parametrize("source", ["auto", "rest"])
@pytest.mark.parametrize(
    "untrue",
    [
        {"status": "SETTLING", "deliveryDate": ms_of("2024-02-01")},
        {"status": "TRADING", "deliveryDate": ms_of("2024-02-01")},
        {"status": "SOMETHING_NEW"},
        {"status": "TRADING_HALT"},
        {"status": "CLOSE"},
        None,
    ],
    ids=["settling", "delivered", "undocumented", "halt", "close", "not listed"],
)
def test_neither_a_status_nor_a_date_ends_a_symbol_that_has_candles(
    fleet: Fleet, untrue: dict[str, Any] | None, source: str
) -> None:
    fleet.exchange.misstate(ETHUSDT=untrue)
    wanted = Wanted("um", ("ETHUSDT",), "2024-01-30", "2024-02-03", source=source)
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert (told["notes"], told["failed"]) == ({}, {})


def test_a_date_of_delivery_that_is_too_early_does_not_end_a_symbol_before_its_last_candle(
    fleet: Fleet,
) -> None:
    """OMGUSDT has candles until 2025-01-31T09:00."""
    fleet.exchange.misstate(OMGUSDT={"deliveryDate": ms_of("2024-06-01")})
    wanted = Wanted("um", ("OMGUSDT",), "2025-01-30", "2025-02-03")
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert told["notes"]["OMGUSDT"].startswith("traded only in 2025-01-30..2025-0")
    assert told["failed"] == {}


def test_a_symbol_that_ended_amid_a_day_lacks_nothing_afterwards(fleet: Fleet) -> None:
    assert fleet.klines("catalog", "update", "--market", "um").returncode == 0
    wanted = Wanted("um", ("OMGUSDT",), "2025-01-20", "2025-03-01", source="auto")
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert told["rows_absent"] == 0
    holes = coverage(fleet, "--symbols", "OMGUSDT", "--end", "2025-03-01")
    assert {hole["reason"] for hole in holes} == {"after the end of trading"}
    done = fleet.klines("coverage", "--market", "um", "--end", "2025-03-01")
    assert done.returncode == 0, done.stdout


def test_a_note_never_denies_rows_that_are_held(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SOLUSDT",), "2020-09-13", "2020-09-20")
    fleet.download(*wanted.arguments)
    forget(fleet)
    # Now nobody can say that it traded then, but for the lake.
    fleet.exchange.misstate(SOLUSDT={"onboardDate": ms_of("2024-01-01")})
    fleet.exchange.faults({"empty": 1.0}, most=2)
    longer = Wanted("um", ("SOLUSDT",), "2020-09-10", "2020-09-20")
    told = fleet.download(*longer.arguments)
    longer.assert_held(fleet)
    assert told["notes"] == {"SOLUSDT": f"traded only in {LISTED}..2020-09-20"}


def test_a_symbol_listed_after_the_list_of_symbols_was_loaded_is_not_unknown(
    fleet: Fleet,
) -> None:
    fleet.exchange.misstate(ZKUSDT=None)
    fleet.download(*Wanted("um", ("BTCUSDT",), "2024-07-01", "2024-07-02").arguments)
    fleet.exchange.misstate()
    wanted = Wanted("um", ("ZKUSDT",), "2024-06-01", "2024-06-19")
    fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
