"""Options of `klines download`: files of symbols, estimates, every interval, odd symbols, now."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.expected import Wanted, lake_frame, ms_of, truth_frame
from tests.harness import Fleet
from tests.processes import until

#: A spot symbol's newest month is fetched while its listing date is asked for: 45 pages and that
#: one call.
MOST_IN_VAIN = 46


@pytest.fixture(autouse=True)
def _no_calls_yet(fleet: Fleet) -> None:
    fleet.exchange.ask("DELETE", "calls")


def test_a_dry_run_asks_for_no_kline_and_tells_what_the_run_then_costs(fleet: Fleet) -> None:
    wanted = Wanted("um", ("BNBUSDT", "SOLUSDT"), "2024-01-01", "2024-02-15")
    done = fleet.klines("download", "--dry-run", "--json", *wanted.arguments)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert fleet.exchange.calls() == []
    text = fleet.klines("download", "--dry-run", *wanted.arguments).stdout
    assert f"{told['klines']:,} rows" in text
    assert f"{told['requests']:,} requests, weight {told['weight']:,}" in text
    assert "--source rest was given" in text
    assert not Path(
        fleet.store_url, "lake/market=um/kind=klines/interval=1m/symbol=BNBUSDT"
    ).exists()
    cost = fleet.download(*wanted.arguments)
    assert {name: told[name] for name in ("klines", "requests", "weight")} == {
        name: cost[name] for name in ("klines", "requests", "weight")
    }
    assert told["klines"] == wanted.klines
    wanted.assert_held(fleet)


def test_the_first_symbols_of_a_file_are_fetched_and_no_other(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "symbols.csv"
    file.write_text(
        "rank,binance_symbol\n1,ethusdt\n2,SOLUSDT\n2,ethusdt\n3,BNBUSDT\n", encoding="utf-8-sig"
    )
    range_ = ("--interval", "1m", "--start", "2024-03-01", "--end", "2024-03-02")
    told = fleet.download("--market", "spot", "--symbols-file", str(file), "--top", "2", *range_)
    assert told["symbols"] == 2
    assert {call["symbol"] for call in fleet.exchange.calls()} == {"ETHUSDT", "SOLUSDT"}
    Wanted("spot", ("ETHUSDT", "SOLUSDT"), "2024-03-01", "2024-03-02").assert_held(fleet)


def test_the_summary_as_json_is_one_value_that_agrees_with_the_lake_and_the_books(
    fleet: Fleet,
) -> None:
    wanted = Wanted("cm", ("ETHUSD_PERP",), "2023-05-01", "2023-06-01")
    done = fleet.klines("download", "--json", *wanted.arguments)
    told = json.loads(done.stdout)
    calls = fleet.exchange.calls()
    assert told["state"] == "complete"
    assert (
        told["klines"]
        == told["rows_gained"]
        == wanted.klines
        == sum(call["rows"] for call in calls)
    )
    assert told["requests"] == len(calls)
    assert told["failed"] == {}
    assert (
        json.loads(fleet.klines("status", told["run"], "--json").stdout)["klines"] == told["klines"]
    )
    wanted.assert_held(fleet)


def test_a_chinese_symbol_is_one_like_any_other(fleet: Fleet) -> None:
    for market in ("spot", "um"):
        wanted = Wanted(market, ("币安人生USDT",), "2026-01-01", "2026-02-01")
        fleet.download(*wanted.arguments)
        wanted.assert_held(fleet)
        wanted.assert_nothing_is_missing(fleet)
        fleet.exchange.ask("DELETE", "calls")


@pytest.mark.parametrize(
    ("market", "symbol"), [("spot", "ETHUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")]
)
def test_coarse_intervals_over_years_are_whole(fleet: Fleet, market: str, symbol: str) -> None:
    for interval in ("1d", "1w", "1M"):
        wanted = Wanted(market, (symbol,), "2019-01-01", "2024-07-01", interval)
        fleet.download(*wanted.arguments)
        wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)


def test_every_other_interval_over_the_listing_and_outages_is_whole(fleet: Fleet) -> None:
    for interval in ("3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "3d"):
        wanted = Wanted("spot", ("BTCUSDT",), "2017-07-01", "2018-02-20", interval)
        fleet.download(*wanted.arguments)
        wanted.assert_held(fleet)


def test_seconds_of_a_day_are_whole(fleet: Fleet) -> None:
    wanted = Wanted("spot", ("SOLUSDT",), "2024-01-31T12:00", "2024-02-01T12:00", "1s")
    fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)


def test_a_range_that_starts_and_ends_off_the_candles_holds_those_that_open_in_it(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("ETHUSDT",), "2022-03-31T23:47:30", "2022-04-01T00:12:10")
    fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    ("market", "symbol", "start", "end"),
    [
        # Spot tells no listing date: the first candle is asked for.
        ("spot", "NOTUSDT", "2024-05-01", "2024-06-01"),
        ("um", "ZKUSDT", "2024-06-01", "2024-07-01"),
        # Delisted in the middle.
        ("spot", "BCCUSDT", "2018-11-01", "2018-12-01"),
        ("um", "OMGUSDT", "2025-01-15", "2025-02-15"),
    ],
)
def test_a_symbol_that_began_or_ended_in_the_range_is_whole_and_says_so(
    fleet: Fleet, market: str, symbol: str, start: str, end: str
) -> None:
    wanted = Wanted(market, (symbol,), start, end)
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)
    if symbol != "BCCUSDT":
        # What ended on spot is not told by the exchange; its candles just end.
        assert "traded only" in told["notes"][symbol]


@pytest.mark.parametrize(("market", "end"), [("spot", "2017-08-18"), ("um", "2019-09-09")])
def test_everything_since_before_there_was_an_exchange_costs_only_what_there_is(
    fleet: Fleet, market: str, end: str
) -> None:
    wanted = Wanted(market, ("BTCUSDT",), "1970-01-01", end)
    fleet.download(*wanted.arguments)
    assert len(fleet.exchange.calls()) <= MOST_IN_VAIN
    held = lake_frame(fleet.store_url, market, "BTCUSDT", "1m")
    assert held.filter(held["open_time"].dt.timestamp("ms") < ms_of(end)).equals(
        wanted.truth("BTCUSDT")
    )
    wanted.assert_nothing_is_missing(fleet)


def test_a_symbol_that_never_traded_in_the_range_costs_a_month_of_calls_at_most(
    fleet: Fleet,
) -> None:
    for market, symbol in (("spot", "NOTUSDT"), ("um", "ZKUSDT")):
        told = fleet.download(*Wanted(market, (symbol,), "2021-01-01", "2023-01-01").arguments)
        assert told["klines"] == 0
        assert "did not trade" in told["notes"][symbol]
    assert len(fleet.exchange.calls()) <= MOST_IN_VAIN


def test_the_open_candle_is_never_held_and_a_repeat_fetches_only_what_closed_since(
    fleet: Fleet,
) -> None:
    start = datetime.now(UTC).replace(microsecond=0, tzinfo=None) - timedelta(hours=1)
    request = (
        "--market",
        "spot",
        "--symbols",
        "BNBUSDT",
        "--interval",
        "1s",
        "--start",
        start.isoformat(),
    )
    before_ms = int(time.time() * 1000)
    fleet.download(*request)
    first = lake_frame(fleet.store_url, "spot", "BNBUSDT", "1s")
    until_ms = first["close_time"].dt.timestamp("ms").max()
    assert isinstance(until_ms, int)
    asked_ms = max(call["at_ms"] for call in fleet.exchange.calls())
    assert before_ms - 15_000 < until_ms < asked_ms
    fleet.exchange.ask("DELETE", "calls")
    until("a second closes", lambda: time.time() * 1000 > until_ms + 13_000)
    told = fleet.download(*request)
    assert min(int(call["start"]) for call in fleet.exchange.calls()) == until_ms + 1
    held = lake_frame(fleet.store_url, "spot", "BNBUSDT", "1s")
    end_ms = held["open_time"].dt.timestamp("ms").max()
    assert isinstance(end_ms, int)
    assert told["rows_gained"] == (end_ms - until_ms) // 1_000 + 1 > 0
    assert held.equals(truth_frame("spot", "BNBUSDT", "1s", ms_of(start.isoformat()), end_ms + 1))


@pytest.mark.parametrize(
    ("market", "symbol"), [("spot", "BNBUSDT"), ("um", "BNBUSDT"), ("cm", "BTCUSD_PERP")]
)
def test_minutes_up_to_now_hold_only_closed_candles(fleet: Fleet, market: str, symbol: str) -> None:
    start, before_ms = (
        (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%d"),
        time.time() * 1000,
    )
    fleet.download("--market", market, "--symbols", symbol, "--interval", "1m", "--start", start)
    held = lake_frame(fleet.store_url, market, symbol, "1m").filter(
        lake_frame(fleet.store_url, market, symbol, "1m")["open_time"].dt.timestamp("ms")
        >= ms_of(start)
    )
    last_ms = held["open_time"].dt.timestamp("ms").max()
    assert isinstance(last_ms, int)
    assert before_ms - 140_000 < last_ms + 60_000 < time.time() * 1000
    assert held.equals(truth_frame(market, symbol, "1m", ms_of(start), last_ms + 1))
