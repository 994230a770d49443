from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from deploy.simulator.__main__ import build, parse
from deploy.simulator.markets import Bands, Market, Pool

ROOT = Path(__file__).resolve().parents[3]


def test_the_process_prints_its_address_and_ends_quietly_when_told() -> None:
    command = [sys.executable, "-m", "deploy.simulator", "--symbols", "20", "--skew-ms", "3600000"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urlopen(f"{url}/fapi/v1/time", timeout=60) as answer:
            ahead_ms = json.load(answer)["serverTime"] - time.time() * 1_000
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert url.startswith("http://127.0.0.1:")
    assert 3_000_000 < ahead_ms < 3_610_000
    assert (process.returncode, rest, errors) == (0, "", "")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "/sim/faults" in text
    assert "--replay" in text


def test_options_reach_the_exchange() -> None:
    told = (
        "--spot-limit 100 --futures-limit 50 --weights documented --latency-ms 5 --jitter-ms 2 "
        "--symbols 40"
    )
    exchange = build(parse(told.split()))
    assert (exchange.books.limit(Pool.SPOT), exchange.books.limit(Pool.FUTURES)) == (100, 50)
    assert exchange.bands is Bands.DOCUMENTED
    assert (exchange.latency.ms, exchange.latency.jitter_ms) == (5, 2)
    assert len(exchange.source.instruments(Market.SPOT)) == 40
