"""Nonsense ends with exit 2 and one line that names it; nothing is queued."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Exchange, Fleet, RedisServer, until
from workers.queues import PLAN

REQUEST = {"--market": "spot", "--symbols": "BTCUSDT", "--start": "2024-01-01", "--end": "2024-01-02"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An exchange and a Redis, and no worker."""
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(folder, Exchange(folder), RedisServer(folder / "redis"), str(folder / "store"))
    yield fleet
    fleet.close()


@pytest.fixture
def fleet(shared: Fleet) -> Fleet:
    shared.settings.clear()
    return shared


def said(fleet: Fleet, *command: str) -> str:
    """Return the one line that a refused command says."""
    done = fleet.klines(*command)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    client = fleet.redis.client()
    assert client.zcard("klines:runs") == client.llen(PLAN) == 0
    client.close()
    return lines[0]


def download(fleet: Fleet, *more: str, **changes: str | None) -> str:
    options = REQUEST | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    return said(fleet, "download", *given, *more)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"market": "nasdaq"}, "no market 'nasdaq'; there are spot, um, cm"),
        ({"symbols": "BTCUSTD"}, "no symbol BTCUSTD; did you mean BTCUSDT"),
        ({"symbols": "BTC/USDT"}, "'BTC/USDT'"),
        ({"symbols": "../../etc"}, "'../../etc'"),
        ({"symbols": " , "}, "no symbol was named"),
        ({"symbols": None}, "--symbols, --symbols-file or --all"),
        ({"interval": "7m"}, "no interval '7m'"),
        ({"market": "um", "interval": "1s"}, "market um has no interval 1s"),
        ({"start": "yesterday"}, "start 'yesterday' is no date"),
        ({"end": "2024-02-30"}, "end '2024-02-30' is no date"),
        ({"start": "2024-01-02"}, "start 2024-01-02 is not before end 2024-01-02"),
        ({"start": "2124-01-01", "end": None}, "start 2124-01-01 lies in the future"),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_named_in_one_line(
    fleet: Fleet, changes: dict[str, str | None], names: str
) -> None:
    assert names in download(fleet, **changes)


@pytest.mark.parametrize(
    ("content", "names"),
    [(None, "cannot be read"), ("", "is empty"), ("base,quote\nBTC,USDT\n", "no column symbol or binance_symbol")],
)
def test_a_symbols_file_without_symbols_is_named(fleet: Fleet, tmp_path: Path, content: str | None, names: str) -> None:
    file = tmp_path / "symbols.csv"
    if content is not None:
        file.write_text(content)
    line = download(fleet, symbols=None, symbols_file=str(file))
    assert names in line
    assert str(file) in line


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("KLINES_SLOTS", "0", "from 1 to 1000"),
        ("KLINES_SLOTS", "many", "from 1 to 1000"),
        ("KLINES_WEIGHT_SHARE", "1.4", "above 0 and at most 1"),
        ("KLINES_TIMEOUT_S", "90", "from 1 to 50"),
        ("KLINES_SPOT_URL", "api.binance.com", "http://"),
        ("KLINES_STORE_URL", "ftp://x", "s3://"),
        ("KLINES_REDIS_URL", "http://x", "redis://"),
        ("KLINES_KEEP_RAW", "perhaps", "true or false"),
        ("KLINES_SOURCE_ADDRESS", "here", "IP address"),
    ],
)
@pytest.mark.parametrize("command", ["download", "worker"])
def test_a_wrong_setting_stops_the_start_with_its_name_value_and_range(
    fleet: Fleet, command: str, name: str, value: str, range_: str
) -> None:
    fleet.settings[name] = value
    line = download(fleet) if command == "download" else said(fleet, command)
    assert all(part in line for part in (name, repr(value), range_)), line


def test_a_store_that_cannot_be_written_is_named(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fleet.settings["KLINES_STORE_URL"] = str(tmp_path / "file" / "below")
    assert f"store {tmp_path / 'file' / 'below'} cannot be written" in download(fleet)


def greet_as_mail(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"220 mail.example ready\r\n")


def test_a_redis_that_is_unreachable_or_none_is_named(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=greet_as_mail, args=[server], daemon=True).start()
        fleet.settings["KLINES_REDIS_URL"] = f"redis://:secret@127.0.0.1:{port}"
        line = download(fleet)
        assert f"no Redis answers at redis://***@127.0.0.1:{port}" in line
        assert "secret" not in line
    fleet.settings["KLINES_REDIS_URL"] = f"redis://127.0.0.1:{port}"
    assert f"no Redis answers at redis://127.0.0.1:{port}" in download(fleet)


def test_without_a_worker_the_command_says_how_to_start_one(fleet: Fleet) -> None:
    line = download(fleet)
    assert "no worker serves plan, rest.spot, compact" in line
    assert "`klines worker`" in line
    assert "--detach" in line


def test_flower_refuses_to_be_seen_from_afar_without_a_password(fleet: Fleet) -> None:
    assert "FLOWER_BASIC_AUTH" in said(fleet, "flower", "--address", "0.0.0.0")


def test_an_unknown_queue_is_named(fleet: Fleet) -> None:
    assert "no queue 'rest.options'" in said(fleet, "worker", "--queues", "plan,rest.options")


def test_a_dry_run_spends_nothing_on_klines(fleet: Fleet) -> None:
    done = fleet.klines("download", "--dry-run", *[part for pair in REQUEST.items() for part in pair])
    assert done.returncode == 0
    assert "1,440 klines of 1 symbols: 2 requests in 1 windows, weight 4" in done.stdout
    assert fleet.exchange.calls() == []


def test_detached_without_a_worker_it_is_queued_and_done_once_one_comes(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of()
    done = fleet.klines("download", "--detach", *[part for pair in REQUEST.items() for part in pair])
    assert done.returncode == 0
    run = done.stdout.strip()
    assert "running" in fleet.klines("status", run).stdout
    fleet.start_worker()
    until("the run ends", lambda: "complete" in fleet.klines("status", run).stdout, 30)
