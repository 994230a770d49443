"""Requests that make no sense: exit 2, one line that names what was wrong, and nothing queued."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness import Exchange, Fleet, RedisServer

GOOD = {"market": "um", "symbols": "BTCUSDT", "interval": "1m", "start": "2024-01-01", "end": "2024-02-01"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("bad-input")
    fleet = Fleet(folder, Exchange(folder), RedisServer(folder / "redis"), str(folder / "store"))
    fleet.start_worker()
    yield fleet
    fleet.close()


def options(**changes: str | None) -> list[str]:
    """Return a good download's options with some changed, None leaves one out."""
    return [part for name, value in (GOOD | changes).items() if value is not None for part in (f"--{name}", value)]


def assert_refused(fleet: Fleet, *arguments: str, words: tuple[str, ...]) -> None:
    """The command ends with 2 and one line on stderr that names the thing; no run was made."""
    before = runs(fleet)
    done = fleet.klines(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("klines: ")
    for word in words:
        assert word in lines[0], f"{word!r} is not named: {lines[0]}"
    assert runs(fleet) == before, "something was queued"


def runs(fleet: Fleet) -> list[bytes]:
    """Return the runs there ever were."""
    client = fleet.redis.client()
    try:
        found: list[bytes] = client.zrange("klines:runs", 0, -1)
        return found
    finally:
        client.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"market": "stocks"}, ("stocks", "spot", "um", "cm")),
        ({"symbols": "BTCUSDTT"}, ("BTCUSDTT", "did you mean BTCUSDT")),
        ({"symbols": "ETHUSDT,BTCUSD_PERP,XXX"}, ("BTCUSD_PERP", "1 more")),
        ({"market": "cm"}, ("cm", "BTCUSDT")),
        ({"symbols": "BTC/USDT"}, ("BTC/USDT",)),
        ({"symbols": "../../etc"}, ("../../etc",)),
        ({"symbols": ".."}, ("..",)),
        ({"symbols": "BTC USDT"}, ("BTC USDT",)),
        ({"symbols": "BTC\nUSDT"}, ("BTC",)),
        ({"symbols": ","}, ("no symbol",)),
        ({"symbols": None}, ("--symbols",)),
        ({"interval": "7m"}, ("7m", "1m", "1M")),
        ({"interval": "1s"}, ("um", "1s")),
        ({"market": "cm", "symbols": "BTCUSD_PERP", "interval": "1s"}, ("cm", "1s")),
        ({"start": "last week"}, ("start", "last week")),
        ({"start": "2024-13-01"}, ("start", "2024-13-01")),
        ({"end": "2024-02-30"}, ("end", "2024-02-30")),
        ({"end": "2024-01-01"}, ("2024-01-01", "not before")),
        ({"end": "2023-01-01"}, ("2024-01-01", "2023-01-01", "not before")),
        ({"start": "2099-01-01", "end": None}, ("2099-01-01", "future")),
        ({"start": "2024-01-01T00:00:10", "end": "2024-01-01T00:00:50"}, ("no 1m candle",)),
        ({"start": "0001-01-01"}, ("start", "0001-01-01")),
        ({"start": "1950-01-01"}, ("start", "1950-01-01")),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_request_that_makes_no_sense_is_refused(
    fleet: Fleet, changes: dict[str, str | None], words: tuple[str, ...]
) -> None:
    assert_refused(fleet, "download", *options(**changes), words=words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("symbols.csv", "No such file")),
        ("", ("symbols.csv", "empty")),
        ("\n\n", ("symbols.csv", "empty")),
        ("name,weight\nBTCUSDT,1\n", ("symbols.csv", "no column", "symbol")),
        ("symbol,weight\n,1\n", ("no symbol",)),
        ("symbol\n../x\n", ("../x",)),
        ("symbol,weight\nBTCUSDT,1\n4\n", ("market um has no symbol 4",)),
        (b"\xff\xfe\x00\x81", ("symbols.csv",)),
    ],
    ids=["missing", "empty", "blank", "no column", "no symbol", "climbing", "unknown", "no text"],
)
def test_a_symbols_file_that_is_none_is_refused(
    fleet: Fleet, text: str | bytes | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "symbols.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(fleet, "download", *options(symbols=None), "--symbols-file", str(file), words=words)


def test_the_installed_command_says_what_its_fork_says_in_these_tests(fleet: Fleet) -> None:
    for arguments in (("download", *options(market="stocks")), ("status",), ("--help",)):
        installed, fork = fleet.start(*arguments).result(), fleet.klines(*arguments)
        assert (installed.returncode, installed.stdout, installed.stderr) == (fork.returncode, fork.stdout, fork.stderr)


def test_ways_to_name_symbols_that_contradict_each_other_are_refused(fleet: Fleet) -> None:
    assert_refused(fleet, "download", *options(), "--all", words=("--all",))
    assert_refused(fleet, "download", *options(), "--top", "3", words=("--top",))
    assert_refused(fleet, "download", *options(), "--local", "--detach", words=("--local", "--detach"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KLINES_SLOTS", "0"),
        ("KLINES_SLOTS", "many"),
        ("KLINES_WEIGHT_SHARE", "1.4"),
        ("KLINES_WEIGHT_SHARE", "0"),
        ("KLINES_WEIGHT_SHARE", "nan"),
        ("KLINES_TIMEOUT_S", "600"),
        ("KLINES_EGRESS", "a b"),
        ("KLINES_SOURCE_ADDRESS", "home"),
        ("KLINES_KEEP_RAW", "perhaps"),
        ("KLINES_UM_URL", "fapi.binance.com"),
        ("KLINES_REDIS_URL", "localhost:6379"),
        ("KLINES_STORE_URL", "ftp://host/x"),
        ("KLINES_STORE_URL", "s3://"),
    ],
)
def test_a_setting_out_of_range_is_named(fleet: Fleet, name: str, value: str) -> None:
    wrong = replace(fleet, settings={name: value})
    command = ["worker"] if name == "KLINES_SLOTS" else ["download", *options()]
    assert_refused(wrong, *command, words=(name, value))


def test_a_store_that_cannot_be_written_is_named(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    wrong = replace(fleet, store_url=str(tmp_path / "file" / "store"))
    assert_refused(wrong, "download", *options(), words=(str(tmp_path / "file"),))
    assert_refused(wrong, "download", *options(), "--local", words=(str(tmp_path / "file"),))


def test_an_exchange_that_does_not_answer_is_named(fleet: Fleet, tmp_path: Path) -> None:
    with socket.socket() as unused, RedisServer(tmp_path / "redis") as redis:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        wrong = replace(fleet, redis=redis, settings={"KLINES_CM_URL": url})
        of_cm = options(market="cm", symbols="BTCUSD_PERP")
        assert_refused(wrong, "download", "--detach", *of_cm, words=("exchange", "cm"))


def test_no_redis_is_named(fleet: Fleet) -> None:
    away = replace(fleet, settings={"KLINES_REDIS_URL": "redis://:secret@127.0.0.1:1/0"})
    for command in (["download", *options()], ["status"], ["cancel", "x"], ["worker"], ["flower"]):
        assert_refused(away, *command, words=("Redis", "127.0.0.1:1"))
    assert "secret" not in away.klines("status").stderr


def test_a_server_that_is_no_redis_is_named(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        wrong = replace(fleet, settings={"KLINES_REDIS_URL": f"redis://{address}/0"})
        assert_refused(wrong, "download", *options(), words=("Redis", address))
        server.shutdown(socket.SHUT_RDWR)


def test_unknown_runs_and_queues_are_named(fleet: Fleet) -> None:
    assert_refused(fleet, "status", "nonsense", words=("nonsense",))
    assert_refused(fleet, "cancel", "nonsense", words=("nonsense",))
    assert_refused(fleet, "worker", "--queues", "rest.moon", words=("rest.moon", "rest.spot"))


def test_flower_beyond_this_machine_needs_a_password(fleet: Fleet) -> None:
    assert_refused(fleet, "flower", "--address", "0.0.0.0", words=("0.0.0.0", "FLOWER_BASIC_AUTH"))
    half = replace(fleet, settings={"FLOWER_BASIC_AUTH": "sesame"})
    assert_refused(half, "flower", "--address", "0.0.0.0", words=("FLOWER_BASIC_AUTH", "user:password"))
    assert "sesame" not in half.klines("flower").stderr


def test_a_state_file_that_flower_cannot_write_is_named(fleet: Fleet) -> None:
    assert_refused(fleet, "flower", "--state", "nowhere/flower.state", words=("nowhere/flower.state",))


def test_without_a_worker_a_run_is_refused_unless_it_is_to_wait_for_one(fleet: Fleet, tmp_path: Path) -> None:
    lonely = replace(fleet, folder=tmp_path, redis=RedisServer(tmp_path / "redis"), workers=[], commands=[])
    with lonely.redis:
        assert_refused(lonely, "download", *options(), words=("no worker", "klines worker", "--detach"))
        detached = lonely.klines("download", "--detach", *options())
        assert detached.returncode == 0
        run = detached.stdout.strip()
        assert run in lonely.klines("status").stdout
        worker = lonely.start_worker()
        try:
            done = lonely.klines("status", run, "--json")
            assert done.returncode == 0
        finally:
            worker.stop()
