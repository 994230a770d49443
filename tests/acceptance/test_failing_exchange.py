"""An exchange that fails in every way: kept rows are right, the others are fetched next time."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.expected import Wanted, lake_frame
from tests.harness import Fleet
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-03-01")
ANSWERS = (
    "400",
    "403",
    "408",
    "451",
    "500",
    "502",
    "503",
    "reset",
    "truncated",
    "not_json",
    "html_200",
    "half",
)
#: Every way to fail, together a tenth of all calls.
EVERY_WAY = dict.fromkeys(ANSWERS, 0.0075) | {"hang": 0.004, "429": 0.004, "418": 0.002}


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    fleet = fleet_of("--latency-ms", "20", KLINES_TIMEOUT_S="3")
    fleet.start_worker()
    return fleet


@pytest.mark.parametrize("market", ["spot", "um"])
def test_a_tenth_of_all_calls_failing_in_every_way_leaves_a_perfect_lake(
    fleet: Fleet, market: str
) -> None:
    wanted = Wanted(market, WANTED.symbols, WANTED.start, WANTED.end)
    # Futures answer a 429 without Retry-After, so the pool stays closed to the minute's end: left
    # to unit tests.
    rates = (
        EVERY_WAY
        if market == "spot"
        else {kind: rate for kind, rate in EVERY_WAY.items() if kind != "429"}
    )
    fleet.exchange.faults(rates, seed=7, retry_after_s=1, ban_s=2, hang_s=30)
    first = fleet.klines("download", "--json", *wanted.arguments)
    assert first.returncode in (0, 1), first.stderr
    struck = fleet.exchange.books()["faults"]
    assert sum(struck.values()) >= 10, f"too few faults struck to prove anything: {struck}"
    missing = wanted.klines - sum(fleet_rows(fleet, wanted))
    fleet.exchange.faults({})
    fleet.exchange.ask("DELETE", "calls")
    second = fleet.download(*wanted.arguments)
    assert second["rows_gained"] == missing
    assert bool(missing) is bool(first.returncode)
    wanted.assert_held(fleet)
    assert not fleet.exchange.overspent()
    wanted.assert_nothing_is_missing(fleet)


def test_windows_that_failed_for_good_are_named_and_alone_are_fetched_next_time(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of("--latency-ms", "20")
    fleet.start_worker()
    fleet.exchange.faults({"500": 0.6}, seed=3)
    first = fleet.klines("download", "--json", *WANTED.arguments)
    assert first.returncode == 1, first.stderr
    told = json.loads(first.stdout)
    assert told["state"] == "incomplete"
    assert told["failed"]
    assert all(reason.startswith("ServerFault") for reason in told["failed"].values())
    missing = WANTED.klines - sum(fleet_rows(fleet, WANTED))
    fleet.exchange.faults({})
    fleet.exchange.ask("DELETE", "calls")
    second = fleet.download(*WANTED.arguments)
    # A first candle that could not be asked for in the first run is asked for now.
    assert (
        second["klines"]
        == missing
        == sum(call["rows"] for call in fleet.exchange.calls() if call["start"] != "0")
    )
    WANTED.assert_held(fleet)
    WANTED.assert_nothing_is_missing(fleet)


def test_nobody_calls_during_a_ban_and_one_probe_reopens_the_pool(
    fleet_of: Callable[..., Fleet],
) -> None:
    slots, slow_ms = 10, 1_000
    fleet = fleet_of("--latency-ms", str(slow_ms), KLINES_SLOTS=str(slots))
    fleet.start_worker()
    command = fleet.start("download", "--json", *WANTED.arguments)
    until("klines arrive", lambda: fleet.exchange.books()["klines"] > 10_000)
    # Long enough that what was sent before it has arrived before it ends, on however busy a
    # machine.
    banned = {"address": "127.0.0.1", "pool": "spot", "seconds": 10}
    ends_ms = fleet.exchange.ask("POST", "ban", banned)["until_ms"]

    def since_the_ban() -> list[int]:
        return sorted(call["at_ms"] for call in fleet.exchange.calls() if call["at_ms"] >= ends_ms)

    until("the pool is open again", lambda: len(since_the_ban()) > 1)
    fleet.exchange.hold_back(20)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    # Each slot hears of the ban from the one call it had in hand; afterwards nobody asks, then one
    # alone.
    assert fleet.exchange.refused(418) <= slots
    probe_ms, next_ms = since_the_ban()[:2]
    assert next_ms - probe_ms >= slow_ms, "more than the probe was sent before its answer"
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)


def test_an_operator_reopens_a_pool_whose_ban_never_ends(fleet: Fleet) -> None:
    fleet.download(*WANTED.arguments[:-2], "--end", "2024-01-02")
    years = {"address": "127.0.0.1", "pool": "spot", "seconds": 258 * 365 * 86_400}
    fleet.exchange.ask("POST", "ban", years)
    command = fleet.start("download", "--json", *WANTED.arguments)
    until("the pool is closed", lambda: "closed by the exchange" in fleet.klines("workers").stdout)
    assert "`klines reopen`" in fleet.klines("workers").stdout
    refused = fleet.exchange.refused(418)
    fleet.exchange.ask("POST", "ban", years | {"seconds": 0})
    assert fleet.klines("reopen", "spot", "--egress", "nowhere").returncode == 2
    told = fleet.klines("reopen", "spot")
    assert "spot at default was closed for another" in told.stdout
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    assert fleet.exchange.refused(418) <= refused
    WANTED.assert_held(fleet)
    assert fleet.klines("reopen").stderr == "no pool is closed\n"


def test_an_answer_that_never_comes_does_not_hold_up_the_end_of_a_run(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of("--latency-ms", "20", KLINES_TIMEOUT_S="50")
    fleet.start_worker()
    fleet.exchange.faults({"hang": 0.15}, seed=5, hang_s=600, most=6)
    done = fleet.download(*WANTED.arguments)
    assert fleet.exchange.books()["faults"] == {"hang": 6}, "too few answers were held back"
    assert done["retries"] == 0, "a call was made again after its time was over, and not before"
    WANTED.assert_held(fleet)
    assert not fleet.exchange.overspent()


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("source", ["rest", "auto"])
def test_one_refusal_of_the_first_question_ends_no_command(
    fleet_of: Callable[..., Fleet], status: int, source: str
) -> None:
    fleet = fleet_of()
    fleet.start_worker()
    fleet.exchange.hide_symbols(status, answers=2)
    wanted = Wanted("spot", ("BTCUSDT",), "2024-01-01", "2024-01-02", source=source)
    done = fleet.klines("download", "--json", *wanted.arguments)
    fleet.exchange.hide_symbols(None)
    assert done.returncode == 0, done.stderr + fleet.log()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{'Firewalled' if status == 403 else 'ServerFault'}: spot /exchangeInf")
    assert line.endswith("asking again")
    wanted.assert_held(fleet)


def fleet_rows(fleet: Fleet, wanted: Wanted) -> list[int]:
    """Return how many rows the lake holds of each symbol."""
    return [
        lake_frame(fleet.store_url, wanted.market, symbol, "1m").height for symbol in wanted.symbols
    ]
