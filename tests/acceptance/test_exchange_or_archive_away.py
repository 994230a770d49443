"""An exchange or archive that is unreachable: held rows stay, and one line says so."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, iso
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.storage.open import open_store
from tests.expected import Wanted, lake_frame
from tests.harness import Fleet
from tests.servers import Exchange, RedisServer

#: Enough calls that `auto` asks the archive.
LARGE = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-03-01", source="auto")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The URL of a port of this machine where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


def lines_of(done: Any, word: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if word in line]


def archive_away(fleet: Fleet, url: str) -> Fleet:
    return replace(
        fleet, settings=dict.fromkeys(("KLINES_ARCHIVE_URL", "KLINES_ARCHIVE_LIST_URL"), url)
    )


def test_with_the_archive_host_down_rest_answers_and_one_line_says_so(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = archive_away(fleet, closed_port)
    away.start_worker()
    done = away.klines("download", *LARGE.arguments)
    assert done.returncode == 0, done.stderr + away.log()
    LARGE.assert_held(away)
    (line,) = lines_of(done, "archive:")
    assert f"Unreachable: the archive: {closed_port} refused the connection" in line
    assert line.endswith("REST instead")
    assert "Traceback" not in done.stdout + done.stderr
    assert fleet.exchange.files() == []


def test_an_archive_that_may_not_serve_this_address_costs_no_candle_and_one_line_says_so(
    fleet_of_its_own: Fleet,
) -> None:
    fleet = fleet_of_its_own
    fleet.exchange.archive_faults({}, status=451)
    fleet.start_worker()
    done = fleet.klines("download", *LARGE.arguments)
    assert done.returncode == 0, done.stderr + fleet.log()
    LARGE.assert_held(fleet)
    (line,) = lines_of(done, "archive:")
    assert "451" in line
    assert line.endswith("REST instead")


def test_with_the_archive_down_and_rest_forbidden_nothing_is_queued_and_one_line_names_the_archive(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = archive_away(fleet, closed_port)
    away.start_worker()
    done = away.klines("download", "--json", *replace(LARGE, source="archive").arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "the archive could not be asked for it: Unreachable" in line
    assert line.endswith("nothing was queued")
    assert fleet.exchange.calls() == []


def test_with_the_archive_down_after_all_and_rest_forbidden_the_run_names_the_archive(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = archive_away(fleet, closed_port)
    away.start_worker()
    done = fleet.klines("download", "--json", *replace(LARGE, source="archive").arguments)
    assert done.returncode == 1, (done.stdout, done.stderr)
    failed: dict[str, str] = json.loads(done.stdout)["failed"]
    assert failed
    assert all("archive" in reason for reason in failed.values()), failed
    assert fleet.exchange.calls() == []


@pytest.fixture
def fleet_of_its_own(tmp_path: Path) -> Iterator[Fleet]:
    exchange = Exchange(tmp_path, "--symbols", "24")
    fleet = Fleet(tmp_path, exchange, RedisServer(tmp_path / "redis"), str(tmp_path / "store"))
    yield fleet
    fleet.close()


def kept(fleet: Fleet) -> dict[str, bytes]:
    """Return every file of the store."""
    files = (path for path in Path(fleet.store_url).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def exchange_away(fleet: Fleet, url: str) -> Fleet:
    return replace(
        fleet, settings=dict.fromkeys(("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL"), url)
    )


def away_from(fleet: Fleet, how: str, closed_port: str) -> Fleet:
    """Have REST be down, or not serve this country."""
    if how == "down":
        return exchange_away(fleet, closed_port)
    fleet.exchange.hide_symbols(451)
    fleet.exchange.faults({"451": 1.0})
    return fleet


both_ways = pytest.mark.parametrize("how", ["down", "451"])


@both_ways
@pytest.mark.parametrize("symbol", ["BTCUSDT", "SRMUSDT"])
def test_without_rest_the_archive_alone_works_in_full(
    fleet_of_its_own: Fleet, closed_port: str, how: str, symbol: str
) -> None:
    fleet = away_from(fleet_of_its_own, how, closed_port)
    fleet.start_worker()
    wanted = Wanted("um", (symbol,), "2022-09-01", "2022-11-01", source="archive")
    done = fleet.klines("download", "--json", *wanted.arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted.assert_held(fleet)
    assert fleet.exchange.calls() == []
    assert done.stderr == ""


@both_ways
def test_without_rest_auto_goes_on_with_the_archive_and_one_line_says_so(
    fleet_of_its_own: Fleet, closed_port: str, how: str
) -> None:
    fleet = away_from(fleet_of_its_own, how, closed_port)
    fleet.start_worker()
    # The second is so little that REST would answer it at once.
    for wanted in (LARGE, replace(LARGE, end="2024-03-02")):
        done = fleet.klines("download", *wanted.arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        wanted.assert_held(fleet)
        (line,) = lines_of(done, "REST:")
        assert line.endswith("the archive alone instead")
    assert fleet.exchange.calls() == []


def held_rows(fleet: Fleet) -> int:
    return lake_frame(fleet.store_url, "um", "BTCUSDT", "1m").height


@both_ways
def test_without_rest_what_no_file_has_is_named_as_missing(
    fleet_of_its_own: Fleet, closed_port: str, how: str
) -> None:
    fleet = away_from(fleet_of_its_own, how, closed_port)
    fleet.start_worker()
    now = time.time_ns() // 1_000_000
    start, end = iso(now - now % DAY_MS - 10 * DAY_MS), iso(now - now % HOUR_MS)
    arguments = Wanted("um", ("BTCUSDT",), start, end, source="auto").arguments
    done = fleet.klines("download", "--json", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert 8 * 1440 <= held_rows(fleet) <= 10 * 1440
    assert list(told["report"]) == ["REST"]
    (name,) = told["failed"]
    assert name.endswith(f"..{end}")
    if how == "451":
        fleet.exchange.hide_symbols(None)
        fleet.exchange.faults({})
        fleet.exchange.ask("DELETE", "archive")
        fleet.download(*arguments)
        Wanted("um", ("BTCUSDT",), start, end).assert_held(fleet)
        assert fleet.exchange.files() == [], "what was held was fetched again"


def test_a_rest_that_goes_away_in_the_middle_is_replaced_by_files(
    fleet_of_its_own: Fleet,
) -> None:
    fleet = fleet_of_its_own
    fleet.start_worker()
    fleet.download(*Wanted("um", ("ETHUSDT",), "2024-01-01", "2024-01-02").arguments)
    fleet.exchange.faults({"451": 1.0})
    small = replace(LARGE, end="2024-01-03")
    done = fleet.klines("download", "--json", *small.arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    small.assert_held(fleet)
    told = json.loads(done.stdout)
    assert "REST" in told["report"]
    assert told["failed"] == {}


@both_ways
def test_without_rest_there_is_a_catalog_of_the_archives_lists(
    fleet_of_its_own: Fleet, closed_port: str, how: str
) -> None:
    fleet = away_from(fleet_of_its_own, how, closed_port)
    made = fleet.klines("catalog", "update", "--market", "cm")
    assert made.returncode == 0, made.stderr
    assert "its symbols are from the archive alone" in made.stderr
    lines = fleet.klines("catalog", "list", "--market", "cm", "--json").stdout.splitlines()
    assert {"BTCUSD_PERP", "ETHUSD_PERP"} <= {json.loads(line)["symbol"] for line in lines}
    fleet.start_worker()
    every = ("--market", "cm", "--all", "--interval", "1d", "--start", "2022-01-01")
    done = fleet.klines("download", *every, "--end", "2022-02-01", "--source", "archive", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    Wanted("cm", ("BTCUSD_PERP", "ETHUSD_PERP"), "2022-01-01", "2022-02-01", "1d").assert_held(
        fleet
    )


def test_with_the_exchange_and_the_archive_down_there_is_no_catalog_and_one_line_says_why(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    away = all_away(fleet_of_its_own, closed_port)
    told = f"Unreachable: um /exchangeInfo: {closed_port} refused the connection; nothing was kept"
    for command in (["list", "--market", "um"], ["update", "--market", "um"]):
        done = away.klines("catalog", *command)
        assert done.returncode != 0
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1] == f"klines: {told}"
    assert kept(away) == {}


def all_away(fleet: Fleet, url: str) -> Fleet:
    names = ("SPOT", "UM", "CM", "ARCHIVE", "ARCHIVE_LIST")
    return replace(fleet, settings={f"KLINES_{name}_URL": url for name in names})


def test_with_the_exchange_and_the_archive_down_the_catalog_that_is_held_stays_as_it_is(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    assert fleet.klines("catalog", "update", "--market", "um").returncode == 0
    before = kept(fleet)
    assert len(before) == 1
    away = all_away(fleet, closed_port)
    assert away.klines("catalog", "update", "--market", "um").returncode != 0
    assert kept(fleet) == before
    # It is fresh, so it is told without asking anybody.
    told = away.klines("catalog", "list", "--market", "um")
    assert (told.returncode, "BTCUSDT" in told.stdout) == (0, True)
    age(fleet, 2 * DAY_MS)
    before = kept(fleet)
    assert away.klines("catalog", "list", "--market", "um").returncode != 0
    assert kept(fleet) == before
    assert "BTCUSDT" in fleet.klines("catalog", "list", "--market", "um").stdout


def age(fleet: Fleet, ms: int) -> None:
    """Have the catalog of USD-M be as old as that."""
    catalogs = Catalogs(open_store(fleet.store_url))
    held = catalogs.newest(Market.USD_M)
    assert held
    for path in kept(fleet):
        Path(path).unlink()
    client = fleet.redis.client()
    held.made_ms = now_ms(client) - ms
    client.close()
    catalogs.store(held)
