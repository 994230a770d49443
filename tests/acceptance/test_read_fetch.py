"""`klines read --fetch` and a notebook's reader: just what is missing is fetched, once."""

from __future__ import annotations

import io
import time

import polars as pl
import pytest

from klinefleet.tasks.notebook import reader
from klinefleet.workers.domain.errors import RangeNotHeld, UnknownSymbol
from tests.expected import Wanted, ms_of
from tests.harness import Fleet

DAYS = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-10", "2024-02-10")


def read_arguments(wanted: Wanted) -> tuple[str, ...]:
    *series, _, _ = wanted.arguments
    return ("read", *series)


def asked_for(fleet: Fleet) -> list[tuple[str, int, int]]:
    """The pages that the exchange was asked for, as (symbol, first open time, end)."""
    return sorted(
        (call["symbol"], int(call["start"]), int(call["end"]))
        for call in fleet.exchange.calls()
        if call["end"]
    )


def test_what_is_missing_is_fetched_and_nothing_else_and_the_second_time_nothing(
    fleet: Fleet,
) -> None:
    held = Wanted("um", ("BTCUSDT",), "2024-01-10", "2024-02-03")
    fleet.download(*held.arguments)
    fleet.forget_calls()
    first = fleet.klines(*read_arguments(DAYS), "--fetch", "--to", "-")
    assert first.returncode == 0, first.stderr + fleet.log()
    truth = pl.concat(DAYS.truth(symbol) for symbol in DAYS.symbols)
    assert pl.read_csv(io.StringIO(first.stdout))["close"].to_list() == truth["close"].to_list()
    asked = asked_for(fleet)
    assert min(start for symbol, start, _ in asked if symbol == "BTCUSDT") >= ms_of("2024-02-03")
    told = first.stderr.splitlines()
    assert "BTCUSDT 2024-01-10..2024-02-01: lake (rest)" in told
    assert any(line.startswith("ETHUSDT 2024-01-10..2024-02-01: fetched") for line in told)
    fleet.forget_calls()
    second = fleet.klines(*read_arguments(DAYS), "--fetch", "--to", "-")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert (asked_for(fleet), fleet.exchange.files()) == ([], [])
    assert all(": lake (" in line for line in second.stderr.splitlines())


def test_the_command_that_an_error_names_fetches_what_was_missing(fleet: Fleet) -> None:
    wanted = Wanted("spot", ("BNBUSDT",), "2023-05-30T12:00", "2023-06-02", "5m")
    refused = fleet.klines(*read_arguments(wanted))
    assert refused.returncode == 2, refused.stderr
    fleet.download(*Wanted("spot", ("BNBUSDT",), "2023-06-01", "2023-06-01T00:05", "5m").arguments)
    refused = fleet.klines(*read_arguments(wanted))
    assert refused.returncode == 1, refused.stderr
    command = refused.stderr.split("`")[1].split()
    assert command[:2] == ["klines", "download"]
    assert fleet.klines(*command[1:]).returncode == 0
    done = fleet.klines(*read_arguments(wanted), "--to", "-")
    assert len(done.stdout.splitlines()) == 1 + wanted.truth("BNBUSDT").height


def test_time_before_the_listing_and_an_open_candle_are_not_missing(fleet: Fleet) -> None:
    """A symbol's range is clipped to its life, and ends with the last closed candle."""
    early = Wanted("um", ("ZKUSDT",), "2024-06-01", "2024-06-25", "1h")
    done = fleet.klines(*read_arguments(early), "--fetch", "--to", "-")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + early.truth("ZKUSDT").height
    start = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    last = fleet.klines(
        "read",
        "--market",
        "um",
        "--symbols",
        "BTCUSDT",
        "--interval",
        "1h",
        "--start",
        start,
        "--fetch",
    )
    assert last.returncode == 0, last.stderr


def test_a_notebook_has_the_fleet_fetch_what_it_lacks(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fleet.env.items():
        monkeypatch.setenv(name, value)
    wanted = Wanted("cm", ("BTCUSD_PERP",), "2024-05-01", "2024-05-03")
    lake = reader()
    what = ("cm", "BTCUSD_PERP", "1m", wanted.start, wanted.end)
    with pytest.raises((RangeNotHeld, UnknownSymbol)):
        lake.read(*what)
    rows = lake.read(*what, fetch=True)
    assert rows.equals(wanted.truth("BTCUSD_PERP"))
    assert {part.held for part in lake.report.parts} == {"fetched"}
    assert lake.read(*what).equals(rows)
    with pytest.raises(UnknownSymbol, match="no symbol NOSUCHUSDT"):
        lake.read("um", "NOSUCHUSDT", "1m", "2024-01-01", "2024-01-02", fetch=True)


def test_a_private_worker_fetches_where_no_fleet_is(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SOLUSDT",), "2024-03-01", "2024-03-02", "15m")
    done = fleet.klines(*read_arguments(wanted), "--fetch", "--local", "--to", "-")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + wanted.truth("SOLUSDT").height
