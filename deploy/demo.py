"""The demo of `make demo`: a fleet on this machine fetches three markets of a stand-in exchange.

Starts the exchange, a worker (with its private Redis) and Flower, runs the `klines` command for
each market, and stops everything, also on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.local_fleet import KLINES, local_fleet, log_tails

STORE = Path("data/demo")

#: From the month before the last to now: monthly files, daily files and REST calls.
TO_NOW = ("--market", "um", "--symbols", "BTCUSDT", "--interval", "1m")
#: Two months that lie long ago: from files alone, and for comparison from REST alone.
LONG_AGO = ("--interval", "1m", "--start", "2024-01-01", "--end", "2024-03-01")
FROM_FILES = ("--market", "spot", "--symbols", "BTCUSDT,ETHUSDT", *LONG_AGO)
FROM_REST = ("--market", "cm", "--symbols", "BTCUSD_PERP", *LONG_AGO, "--source", "rest")


def main() -> int:
    """Run the demo and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(STORE, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="klines-demo-")))
        try:
            _say("starting the stand-in exchange, a worker with its own Redis, and Flower")
            fleet = stack.enter_context(local_fleet(home, STORE, "--latency-ms", "60"))
            _say(f"Flower at {fleet.flower_url}")
            to_now = (*TO_NOW, "--start", _two_months_ago())
            codes = [_download(fleet.env, *to_now, *option) for option in (("--dry-run",), ())]
            codes += [_download(fleet.env, *options) for options in (FROM_FILES, FROM_REST)]
        except KeyboardInterrupt:
            print("\nstopping what was started", file=sys.stderr)
            return 130
        except TimeoutError as error:
            print(f"demo: {error}\n{log_tails(home)}", file=sys.stderr)
            return 1
        _say(f"done; stopping what was started. The Parquet files stay in {STORE / 'lake'}")
    return max(codes)


def _two_months_ago() -> str:
    """Return the first day of the month before the last, UTC."""
    first = datetime.now(UTC).replace(day=1)
    for _ in range(2):
        first = (first - timedelta(days=1)).replace(day=1)
    return first.date().isoformat()


def _download(env: dict[str, str], *options: str) -> int:
    command = [KLINES, "download", *options]
    _say("$ " + " ".join(["klines", *command[1:]]))
    return subprocess.run(command, env=env, check=False).returncode


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
