"""`make demo`: what a user would start, on one machine and against the stand-in exchange, and what
comes of it.

Starts the exchange, a worker (with its private Redis) and Flower as processes of their own, runs
the `klines` command for three markets, and stops everything, also on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

KLINES = str(Path(sys.executable).with_name("klines"))
STORE = Path("data/demo")
STARTS_WITHIN_S = 30.0

#: Two months that lie long ago: files alone, and for comparison calls alone.
LONG_AGO = ("--interval", "1m", "--start", "2024-01-01", "--end", "2024-03-01")
BY_FILES = ("--market", "spot", "--symbols", "BTCUSDT,ETHUSDT", *LONG_AGO)
BY_CALLS = ("--market", "cm", "--symbols", "BTCUSD_PERP", *LONG_AGO, "--source", "rest")


def main() -> int:
    """Run the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(STORE, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="klines-demo-"))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("KLINES_", "FLOWER_"))}
        env |= {"XDG_RUNTIME_DIR": home, "KLINES_STORE_URL": str(STORE)}
        try:
            _say("the stand-in exchange")
            url = stack.enter_context(_exchange(Path(home), env))
            env |= dict.fromkeys(
                ("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL", "KLINES_ARCHIVE_URL"), url
            )
            env["KLINES_ARCHIVE_LIST_URL"] = f"{url}/archive-list"
            _say("a worker, with a Redis of its own")
            stack.enter_context(_running(Path(home) / "worker.log", env, KLINES, "worker"))
            _await_worker(env)
            port = str(_free_port())
            stack.enter_context(
                _running(Path(home) / "flower.log", env, KLINES, "flower", "--port", port)
            )
            _say(f"Flower at http://127.0.0.1:{port}")
            to_now = (
                "--market",
                "um",
                "--symbols",
                "BTCUSDT",
                "--interval",
                "1m",
                "--start",
                _two_months_ago(),
            )
            codes = [_download(env, *to_now, *only) for only in (("--dry-run",), ())]
            codes += [_download(env, *order) for order in (BY_FILES, BY_CALLS)]
        except KeyboardInterrupt:
            print("\nstopping what was started", file=sys.stderr)
            return 130
        except TimeoutError as error:
            print(f"demo: {error}\n{_tail(Path(home))}", file=sys.stderr)
            return 1
        _say("done; stopping what was started. The Parquet stays in " + str(STORE / "lake"))
    return max(codes)


def _two_months_ago() -> str:
    """Return the first day of the month before the last: from there to now takes months, days and
    calls.
    """
    first = datetime.now(UTC).replace(day=1)
    for _ in range(2):
        first = (first - timedelta(days=1)).replace(day=1)
    return first.date().isoformat()


def _download(env: dict[str, str], *options: str) -> int:
    command = [KLINES, "download", *options]
    _say("$ " + " ".join(["klines", *command[1:]]))
    return subprocess.run(command, env=env, check=False).returncode


@contextlib.contextmanager
def _exchange(home: Path, env: dict[str, str]) -> Iterator[str]:
    command = (sys.executable, "-m", "deploy.simulator", "--latency-ms", "60")
    with _running(home / "exchange.log", env, *command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
        process.stdout.close()


@contextlib.contextmanager
def _running(
    log: Path, env: dict[str, str], *command: str, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block runs; in a session of its own, so that Ctrl-C reaches only us."""
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
    """Return once the worker answers: a request that cannot be right is only refused for that."""
    ask = [KLINES, "workers", "--wait", str(int(STARTS_WITHIN_S))]
    if subprocess.run(ask, env=env, stdout=subprocess.DEVNULL, check=False).returncode:
        raise TimeoutError(f"no worker answered within {STARTS_WITHIN_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(home: Path) -> str:
    return "\n".join(
        f"{log.name}: {log.read_text(errors='replace')[-500:]}"
        for log in sorted(home.glob("*.log"))
    )


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
