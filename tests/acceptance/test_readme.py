"""What the README says of reading is run as it stands there, against a small lake with a fleet
beside it.
"""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.harness import KLINES, Fleet, Wanted
from tests.lakes import lake_of
from tests.processes import ROOT

SECTION = (ROOT / "README.md").read_text().partition("\n## Read it\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, code in BLOCKS
    if not language
    for line in code.splitlines()
    if line.startswith("klines ")
]
JANUARY = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-02-01")


@pytest.fixture
def folder(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user of the README sits: `data` is the fleet's store, which holds January."""
    lake_of(fleet.store_url, tmp_path, [JANUARY])
    (tmp_path / "data").symlink_to(fleet.store_url)
    for name, value in fleet.env.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run(code: str) -> dict[str, Any]:
    """Run it as a notebook does, and return what it defines."""
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_python_of_the_readme_gives_what_it_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, fetching, others = map(run, PYTHON)
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
    assert "BTCUSDT 2023-01-01..2023-02-01: fetched" in capsys.readouterr().out
    columns = truth["BTCUSDT"].columns
    moments = pl.col("open_time", "close_time").cast(pl.Datetime("ms", "UTC"))
    assert others["by_polars"].select(columns).equals(truth["BTCUSDT"])
    assert others["by_duckdb"].select(columns).with_columns(moments).equals(truth["BTCUSDT"])
    last = truth["BTCUSDT"].tail(1440)
    assert pl.from_pandas(others["by_pandas"]).select(columns).with_columns(moments).equals(last)


def test_the_commands_of_the_readme_read(folder: Path, fleet: Fleet) -> None:
    assert len(COMMANDS) == 5
    for command in COMMANDS:
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
