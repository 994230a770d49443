"""Cached symbol lists expire after an hour: runs that last longer still fetch everything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import polars as pl
import pytest

from klinefleet.tasks.notebook import reader
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, iso
from tests.expected import Wanted
from tests.harness import AMPLE, Fleet
from tests.invariants import assert_complete_means_held, assert_nothing_left
from tests.processes import until

#: The last full hour, and so long before it that the archive has no file of any of the time until
#: then.
NOW_MS = time.time_ns() // 1_000_000
HOUR = iso(NOW_MS - NOW_MS % HOUR_MS)
TODAY = (iso(NOW_MS - NOW_MS % HOUR_MS - 6 * HOUR_MS), HOUR)
#: Time of which the archive has files, and the last hours, of which it has none.
WEEK = (iso(NOW_MS - NOW_MS % DAY_MS - 7 * DAY_MS), HOUR)
LONG = (iso(NOW_MS - NOW_MS % DAY_MS - 480 * DAY_MS), HOUR)
MANY = tuple(f"SIM{number:03d}USDT" for number in range(1, 25))
SLOW_MS, SOON_MS = 400, 5


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of(*AMPLE, "--symbols", "40")


def lapse(fleet: Fleet) -> None:
    """Have Redis know no symbol of any market, as an hour after it was told."""
    with fleet.redis.client() as client:
        keys = [key for pattern in ("klines:listed:*",) for key in client.scan_iter(pattern)]
        assert keys, "no listing was remembered"
        client.delete(*keys)


def count_as_living(fleet: Fleet, pid: int) -> None:
    """Keep a stopped process among the live workers, however long a command takes to start."""
    with fleet.redis.client() as client:
        beats = client.zrange("klines:workers", 0, -1, withscores=True)
        (own,) = [name for name, _ in beats if name.decode().endswith(f"|{pid}")]
        client.zadd("klines:workers", {own: max(ends for _, ends in beats) + HOUR_MS})


def assert_fetched(fleet: Fleet, wanted: Wanted, run: str) -> None:
    """The run is complete, and all that it was asked for is held."""
    summary = fleet.ended(run)
    assert summary["state"] == "complete", summary
    for symbol in wanted.symbols:
        assert symbol not in summary["notes"], (
            f"{symbol}: {summary['notes'][symbol]}; {summary['requests']} requests"
        )
    wanted.assert_held(fleet)
    assert_complete_means_held(fleet, wanted.arguments, summary)
    with fleet.redis.client() as client:
        assert_nothing_left(client)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("um", ("BTCUSDT", "ETHUSDT"), *TODAY),
        Wanted("spot", ("BTCUSDT",), *TODAY),
        Wanted("cm", ("BTCUSD",), *TODAY, kind="indexPriceKlines"),
        Wanted("um", ("BTCUSDT", "ETHUSDT"), *WEEK, source="auto"),
    ],
    ids=["um", "spot", "pair", "archive-and-rest"],
)
def test_a_run_whose_listing_lapsed_while_it_waited_for_a_worker_fetches_everything(
    fleet: Fleet, wanted: Wanted
) -> None:
    run = fleet.detach(*wanted.arguments)
    lapse(fleet)
    fleet.start_worker()
    assert_fetched(fleet, wanted, run)


def test_an_archive_run_that_knows_no_listing_still_names_the_time_that_has_no_file(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("BTCUSDT",), *WEEK, source="archive")
    run = fleet.detach(*wanted.arguments)
    fleet.start_worker()
    summary = fleet.ended(run)
    assert summary["state"] == "incomplete", (
        f"{summary['state']}, though the last hours have no file: {summary}"
    )
    assert any("BTCUSDT" in name for name in summary["failed"]), summary["failed"]


def test_a_listing_that_lapses_under_way_leaves_no_later_symbol_out(fleet: Fleet) -> None:
    """More windows than are issued at once: the last symbols are planned after the list expired.

    288 windows of seven or eight pages, 200 at once: the last symbol is planned when 77 windows are
    done, after more than 500 calls.
    """
    wanted = Wanted("um", MANY, *LONG, "15m")
    fleet.start_worker()
    fleet.exchange.hold_back(SLOW_MS)
    run = fleet.detach(*wanted.arguments)
    until("rows arrive", lambda: fleet.exchange.books()["klines"] > 5_000)
    lapse(fleet)
    assert len(fleet.exchange.calls()) < 150, (
        "so many answers are in that every symbol may have been planned before"
    )
    fleet.exchange.hold_back(SOON_MS)
    assert_fetched(fleet, wanted, run)


def test_a_reader_that_is_open_for_longer_than_the_listing_lasts_reads_everything(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fleet.env.items():
        monkeypatch.setenv(name, value)
    fleet.start_worker()
    wanted = Wanted("um", ("BTCUSDT", "ETHUSDT"), *TODAY)
    first, second = wanted.symbols
    lake = reader()
    assert lake.read("um", first, "1m", *TODAY, fetch=True).equals(wanted.truth(first))
    lapse(fleet)
    rows = lake.read("um", second, "1m", *TODAY, fetch=True)
    assert rows.height == wanted.truth(second).height, (
        f"{rows.height} rows of {wanted.truth(second).height}"
    )
    wanted.assert_held(fleet)


def test_a_reading_whose_listing_lapses_before_it_is_planned_reads_everything(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    wanted = Wanted("um", ("BTCUSDT",), *TODAY)
    *what, _, _ = wanted.arguments
    planner = fleet.lanes_of(worker)["plan"]
    os.kill(planner, signal.SIGSTOP)
    count_as_living(fleet, planner)
    try:
        command = fleet.start("read", *what, "--fetch", "--to", "rows.parquet")
        until("its run waits for a planner", lambda: "running" in fleet.klines("status").stdout)
        lapse(fleet)
    finally:
        os.kill(planner, signal.SIGCONT)
    done = command.result()
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(fleet.folder / "rows.parquet").height == wanted.truth("BTCUSDT").height
    wanted.assert_held(fleet)


def test_no_run_is_complete_with_nothing_while_the_exchange_does_not_tell_its_symbols(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("BTCUSDT", "ETHUSDT"), *TODAY)
    run = fleet.detach(*wanted.arguments)
    lapse(fleet)
    fleet.exchange.hide_symbols()
    fleet.exchange.ask("DELETE", "books")
    fleet.start_worker()
    until(
        "the symbols are asked for in vain, or the run ends",
        lambda: fleet.exchange.books()["calls"] > 2 or fleet.status(run)["state"] != "running",
    )
    summary = fleet.status(run)
    assert summary["state"] != "complete", (
        f"complete with {summary['klines']} rows: {summary['notes']}"
    )
    fleet.exchange.hide_symbols(None)
    if fleet.ended(run)["state"] == "incomplete":
        assert fleet.ended(run)["failed"]
        fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
