"""Unusable settings, stores, Redis servers or fleets: one line that names it, nothing queued."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.refusals import assert_refused, download
from tests.harness import Fleet
from tests.servers import RedisServer


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
        ("KLINES_STORE_URL", "s3:/bucket"),
        ("KLINES_STORE_URL", "s3//bucket"),
    ],
)
def test_a_setting_out_of_range_is_named(fleet: Fleet, name: str, value: str) -> None:
    wrong = replace(fleet, settings={name: value})
    command = ["worker"] if name == "KLINES_SLOTS" else download()
    assert_refused(wrong, *command, words=(name, value))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("KLINES_SLOTS=7\n".encode("utf-16"), (".env, line 1", "UTF-16")),
        (b"# caf\xe9\n", (".env, line 1", "UTF-8", "0xe9")),
        (b"\nKLINES_SLOT=7\n", (".env, line 2", "KLINES_SLOT", "KLINES_SLOTS")),
        (None, (".env", "directory")),
    ],
)
def test_a_dotenv_file_that_would_be_misread_is_named(
    fleet: Fleet, tmp_path: Path, body: bytes | None, words: tuple[str, ...]
) -> None:
    (tmp_path / ".env").mkdir() if body is None else (tmp_path / ".env").write_bytes(body)
    here = replace(fleet, folder=tmp_path)
    read = ["read", "--market", "um", "--symbols", "BTCUSDT"]
    for command in (download(), read, ["worker"], ["workers"], ["status"], ["flower"]):
        assert_refused(here, *command, words=words)


def test_a_store_that_cannot_be_written_is_named(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    wrong = replace(fleet, store_url=str(tmp_path / "file" / "store"))
    assert_refused(wrong, *download(), words=(str(tmp_path / "file"),))
    assert_refused(wrong, *download(), "--local", words=(str(tmp_path / "file"),))


def test_a_store_that_is_a_circle_of_links_or_in_no_known_home_is_named(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    circle = replace(fleet, store_url=str(tmp_path / "loop" / "store"))
    assert_refused(circle, *download(), "--local", words=("loop/store", "symbolic links"))
    read = ["read", "--market", "um", "--symbols", "BTCUSDT"]
    for command in (read, ["coverage"]):
        done = circle.klines(*command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "loop/store" in done.stderr
    homeless = replace(fleet, store_url="~nosuch/lake")
    for command in (download(), read, ["coverage"], ["worker"]):
        assert_refused(homeless, *command, words=("KLINES_STORE_URL", "'~nosuch/lake'", "home"))


def test_an_exchange_that_does_not_answer_is_named_where_the_archive_is_forbidden(
    fleet: Fleet, tmp_path: Path
) -> None:
    with socket.socket() as unused, RedisServer(tmp_path / "redis") as redis:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        wrong = replace(fleet, redis=redis, settings={"KLINES_CM_URL": url})
        of_cm = download(market="cm", symbols="BTCUSD_PERP")
        assert_refused(wrong, *of_cm, "--source", "rest", "--detach", words=("exchange", "cm"))


def test_no_redis_is_named(fleet: Fleet) -> None:
    away = replace(fleet, settings={"KLINES_REDIS_URL": "redis://:secret@127.0.0.1:1/0"})
    for command in (download(), ["status"], ["cancel", "x"], ["worker"], ["flower"]):
        assert_refused(away, *command, words=("Redis", "127.0.0.1:1"))
    assert "secret" not in away.klines("status").stderr
    mistyped = replace(fleet, settings={"KLINES_REDIS_URL": "redis://:sec/ret@127.0.0.1:port/x"})
    for command in (download(), ["status"], ["worker"]):
        assert_refused(mistyped, *command, words=("KLINES_REDIS_URL", "***@127.0.0.1:port/x"))
        assert "sec/ret" not in mistyped.klines(*command).stderr


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
        assert_refused(wrong, *download(), words=("Redis", address))
        server.shutdown(socket.SHUT_RDWR)


def test_a_private_redis_that_others_may_have_put_there_is_not_asked(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / f"klinefleet-{os.getuid()}"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(folder / "redis.sock"))
        planted.listen()
        folder.chmod(0o777)
        here = replace(fleet, settings={"KLINES_REDIS_URL": "", "XDG_RUNTIME_DIR": str(tmp_path)})
        for command in (download(), ["status"], ["workers"], ["worker"], ["coverage"]):
            assert_refused(here, *command, words=(str(folder), "mode 777", "KLINES_REDIS_URL"))


def test_without_a_worker_a_run_is_refused_unless_it_is_to_wait_for_one(
    fleet: Fleet, tmp_path: Path
) -> None:
    lonely = replace(
        fleet, folder=tmp_path, redis=RedisServer(tmp_path / "redis"), workers=[], commands=[]
    )
    with lonely.redis:
        assert_refused(lonely, *download(), words=("no worker", "klines worker", "--detach"))
        detached = lonely.klines(*download("--detach"))
        assert detached.returncode == 0
        run = detached.stdout.strip()
        assert run in lonely.klines("status").stdout
        worker = lonely.start_worker()
        try:
            done = lonely.klines("status", run, "--json")
            assert done.returncode == 0
        finally:
            worker.stop()


def test_flower_beyond_this_machine_needs_a_password(fleet: Fleet) -> None:
    assert_refused(fleet, "flower", "--address", "0.0.0.0", words=("0.0.0.0", "FLOWER_BASIC_AUTH"))
    half = replace(fleet, settings={"FLOWER_BASIC_AUTH": "sesame"})
    assert_refused(
        half, "flower", "--address", "0.0.0.0", words=("FLOWER_BASIC_AUTH", "user:password")
    )
    assert "sesame" not in half.klines("flower").stderr


def test_a_state_file_that_flower_cannot_write_is_named(fleet: Fleet) -> None:
    assert_refused(
        fleet, "flower", "--state", "nowhere/flower.state", words=("nowhere/flower.state",)
    )
