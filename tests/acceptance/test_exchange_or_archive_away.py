"""An exchange or archive that is unreachable: held rows stay, and one line says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.storage.open import open_store
from tests.expected import Wanted
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


def test_with_the_archive_host_down_rest_answers_and_one_line_says_so(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = replace(
        fleet, settings={"KLINES_ARCHIVE_URL": closed_port, "KLINES_ARCHIVE_LIST_URL": closed_port}
    )
    away.start_worker()
    done = away.klines("download", *LARGE.arguments)
    assert done.returncode == 0, done.stderr + away.log()
    LARGE.assert_held(away)
    (line,) = lines_of(done, "archive:")
    assert closed_port.rpartition(":")[2] in line or "refused" in line
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


def test_with_the_archive_down_and_no_rest_the_run_ends_incomplete_and_names_the_archive(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = replace(
        fleet, settings={"KLINES_ARCHIVE_URL": closed_port, "KLINES_ARCHIVE_LIST_URL": closed_port}
    )
    away.start_worker()
    done = away.klines("download", "--json", *replace(LARGE, source="archive").arguments)
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


def assert_one_line(fleet: Fleet, *arguments: str, words: tuple[str, ...]) -> None:
    """A failure that no word of the user made: not 0, and one line."""
    done = fleet.klines(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")
    assert [word for word in words if word not in line] == [], line


def test_with_the_exchange_down_there_is_no_catalog_and_one_line_says_why(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    away = exchange_away(fleet_of_its_own, closed_port)
    for command in (["list", "--market", "um"], ["update", "--market", "um"]):
        assert_one_line(away, "catalog", *command, words=("um", "exchangeInfo"))
    assert kept(away) == {}


def test_with_the_exchange_down_the_catalog_that_is_held_stays_as_it_is(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    assert fleet.klines("catalog", "update", "--market", "um").returncode == 0
    before = kept(fleet)
    assert len(before) == 1
    away = exchange_away(fleet, closed_port)
    assert_one_line(away, "catalog", "update", "--market", "um", words=("um", "exchangeInfo"))
    assert kept(fleet) == before
    # It is fresh, so it is told without asking anybody.
    told = away.klines("catalog", "list", "--market", "um")
    assert (told.returncode, "BTCUSDT" in told.stdout) == (0, True)
    age(fleet, 2 * DAY_MS)
    before = kept(fleet)
    assert_one_line(away, "catalog", "list", "--market", "um", words=("um", "exchangeInfo"))
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
