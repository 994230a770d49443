"""Examples about reading in README and `deploy/docs/reading.md` run as they are written."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.expected import Wanted
from tests.harness import KLINES, Fleet
from tests.lakes import lake_of
from tests.processes import ROOT

PAGE = (ROOT / "deploy" / "docs" / "reading.md").read_text()
FRONT = (ROOT / "README.md").read_text().partition("\n## Read candles\n")[2].partition("\n## ")[0]


def code(page: str, language: str) -> list[str]:
    """Return the partitions of code in a language; '' for those that name none."""
    partitions = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [text for name, text in partitions if name == language]


def commands(page: str) -> list[str]:
    """Return the `klines` commands, without the folder that the README types before them."""
    lines = (line for partition in code(page, "") for line in partition.splitlines())
    typed = (line.removeprefix(".venv/bin/") for line in lines)
    return [line for line in typed if line.startswith("klines ")]


JANUARY = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-02-01")
SPOT = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-02-01")


@pytest.fixture
def folder(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the pages sits: `data` is the fleet's store, which holds January."""
    lake_of(fleet.store_url, tmp_path, [JANUARY, SPOT])
    (tmp_path / "data").symlink_to(fleet.store_url)
    for name, value in fleet.env.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run(python: str) -> dict[str, Any]:
    """Run it as a notebook does, and return what it defines."""
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        exec(compile(python, "reading.md", "exec"), names)
    return names


def test_the_python_of_the_readme_reads(folder: Path) -> None:
    (front,) = map(run, code(FRONT, "python"))
    assert front["minutes"].equals(SPOT.truth("BTCUSDT"))
    assert front["closes"].height == 31


def test_the_python_of_the_page_gives_what_it_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, fetching, others = map(run, code(PAGE, "python"))
    truth = {symbol: JANUARY.truth(symbol) for symbol in JANUARY.symbols}
    assert ours["busy"].height == sum(
        rows.filter(pl.col("volume") > 100).height for rows in truth.values()
    )
    assert ours["hours"].height == 31 * 24
    assert ours["hours"].columns[-1] == "is_made_up"
    assert ours["closes"].columns == ["open_time", "BTCUSDT", "ETHUSDT"]
    assert (
        ours["closes"]["BTCUSDT"].to_list()
        == truth["BTCUSDT"]["close"].gather_every(1440, 1439).to_list()
    )
    assert ours["candle"].close == truth["BTCUSDT"]["close"][-1]
    days = Wanted("um", ("BTCUSDT",), "2023-01-01", "2024-01-01", "1d")
    assert fetching["days"].equals(days.truth("BTCUSDT"))
    assert "BTCUSDT 2023-01-01..2024-01-01: fetched" in capsys.readouterr().out
    columns = truth["BTCUSDT"].columns
    moments = pl.col("open_time", "close_time").cast(pl.Datetime("ms", "UTC"))
    assert others["by_polars"].select(columns).equals(truth["BTCUSDT"])
    assert others["by_duckdb"].select(columns).with_columns(moments).equals(truth["BTCUSDT"])
    last = truth["BTCUSDT"].tail(1440)
    assert pl.from_pandas(others["by_pandas"]).select(columns).with_columns(moments).equals(last)


def test_the_commands_of_the_readme_and_the_page_read(folder: Path, fleet: Fleet) -> None:
    assert (len(commands(FRONT)), len(commands(PAGE))) == (2, 6)
    (folder / "weights.csv").write_text("symbol,weight\nBTCUSDT,0.6\n")
    for command in [*commands(FRONT), *commands(PAGE)]:
        typed = f"set -o pipefail; {KLINES} {command.removeprefix('klines ')}"
        done = subprocess.run(
            ["bash", "-c", typed],
            cwd=folder,
            env=fleet.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert pl.read_parquet(folder / "closes.parquet").columns == ["open_time", "BTCUSDT", "ETHUSDT"]
    assert pl.read_csv(folder / "closes.csv.gz").shape == (1440, 3)
