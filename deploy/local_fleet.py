"""A fleet on this machine that asks the stand-in exchange: what the demo and the pictures run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KLINES = str(Path(sys.executable).with_name("klines"))
STARTS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """A running exchange, worker and Flower."""

    env: dict[str, str]
    """The environment of commands that use the fleet."""
    exchange_url: str
    flower_url: str


@contextlib.contextmanager
def local_fleet(home: Path, store: Path, *exchange_options: str) -> Iterator[LocalFleet]:
    """Run the exchange, a worker with a Redis of its own, and Flower while the block runs.

    `home` keeps their logs and sockets, `store` is the fleet's. TimeoutError where no worker
    starts.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("KLINES_", "FLOWER_"))}
    env |= {"XDG_RUNTIME_DIR": str(home), "KLINES_STORE_URL": str(store)}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_exchange(home, env, exchange_options))
        env |= dict.fromkeys(
            ("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL", "KLINES_ARCHIVE_URL"), url
        )
        env["KLINES_ARCHIVE_LIST_URL"] = f"{url}/archive-list"
        stack.enter_context(_running(home / "worker.log", env, KLINES, "worker"))
        _await_worker(env)
        port = str(_free_port())
        flower = (KLINES, "flower", "--port", port)
        stack.enter_context(_running(home / "flower.log", env, *flower))
        yield LocalFleet(env, url, f"http://127.0.0.1:{port}")


def log_tails(home: Path) -> str:
    """Return the end of each process's log."""
    return "\n".join(
        f"{log.name}: {log.read_text(errors='replace')[-500:]}"
        for log in sorted(home.glob("*.log"))
    )


@contextlib.contextmanager
def _exchange(home: Path, env: dict[str, str], options: tuple[str, ...]) -> Iterator[str]:
    command = (sys.executable, "-m", "deploy.simulator", *options)
    with _running(home / "exchange.log", env, *command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
        process.stdout.close()


@contextlib.contextmanager
def _running(
    log: Path, env: dict[str, str], *command: str, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block runs, in a session of its own: Ctrl-C reaches only us."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=env, stdout=stdout or out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_worker(env: dict[str, str]) -> None:
    """Return once a worker serves every queue."""
    command = [KLINES, "workers", "--wait", str(int(STARTS_WITHIN_S))]
    if subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False).returncode:
        raise TimeoutError(f"no worker answered within {STARTS_WITHIN_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
