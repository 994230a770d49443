"""Downloads from archive files: whole, checked, and replaced by REST where a file fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.expected import Wanted, lake_frame
from tests.harness import Fleet

SPOT_YEAR = Wanted("spot", ("BTCUSDT",), "2024-01-01", "2025-02-01", source="auto")


@pytest.fixture(autouse=True)
def _empty_lake_and_no_faults(fleet: Fleet) -> None:
    fleet.empty()


def zips(fleet: Fleet) -> list[str]:
    return [call["path"] for call in fleet.exchange.files() if call["path"].endswith(".zip")]


def test_months_come_from_files_and_the_last_days_from_rest(fleet: Fleet) -> None:
    """Thirteen months, over the change to microseconds.

    Each file is requested once, and no weight is spent.
    """
    told = fleet.download(*SPOT_YEAR.arguments)
    SPOT_YEAR.assert_held(fleet)
    assert told["klines"] == told["klines_from_files"] == SPOT_YEAR.klines
    assert (told["files"], told["requests"], told["report"]) == (13, 0, {})
    assert len(zips(fleet)) == len(set(zips(fleet))) == 13
    SPOT_YEAR.assert_nothing_is_missing(fleet)


def test_a_year_to_now_is_fetched_by_months_by_days_and_by_calls(fleet: Fleet) -> None:
    start = (datetime.now(UTC) - timedelta(days=170)).strftime("%Y-%m-01")
    arguments = ("--market", "um", "--symbols", "BTCUSDT", "--interval", "1m", "--start", start)
    told = fleet.download(*arguments)
    asked = zips(fleet)
    assert any("/monthly/" in path for path in asked)
    assert told["files"] == len(asked)
    assert told["klines_from_rest"] > 0
    held = lake_frame(fleet.store_url, "um", "BTCUSDT", "1m")
    assert held["open_time"].diff().drop_nulls().n_unique() == 1


def test_every_symbol_that_ever_was_is_fetched_and_a_second_time_nothing(fleet: Fleet) -> None:
    range_ = ("--interval", "1h", "--start", "2022-10-01", "--end", "2023-01-01")
    every = ("--market", "um", "--all", "--quote", "USDT", *range_)
    told = fleet.download(*every)
    held = {
        path.parent.name.removeprefix("symbol=")
        for path in Path(fleet.store_url, "lake").rglob("*.parquet")
    }
    assert {"BTCUSDT", "OMGUSDT", "SRMUSDT", "CTKUSDTSETTLED"} <= held
    assert "BTCUSDC" not in held
    assert "did not trade then" in told["notes"]["ZKUSDT"]
    assert told["notes"]["SRMUSDT"] == "traded only in 2022-10-01..2022-11-29"
    for symbol in held:
        Wanted("um", (symbol,), "2022-10-01", "2023-01-01", "1h").assert_held(fleet)
    assert fleet.assert_fetches_nothing(*every)["klines"] == 0


def test_broken_late_and_absent_files_leave_no_trace_in_the_lake_but_each_in_the_report(
    fleet: Fleet,
) -> None:
    fleet.exchange.archive_faults(
        {"corrupt": 0.10, "late": 0.05, "absent": 0.05}, seed=3, late_days=100_000
    )
    wanted = Wanted(
        "um", ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"), "2022-01-01", "2024-01-01", "5m", "auto"
    )
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    faulty = {
        call["path"].removesuffix(".CHECKSUM") for call in fleet.exchange.files() if call["fault"]
    }
    unlisted = {
        path
        for symbol in wanted.symbols
        for year in (2022, 2023)
        for month in range(1, 13)
        for path in [
            f"data/futures/um/monthly/klines/{symbol}/5m/{symbol}-5m-{year}-{month:02d}.zip"
        ]
        if fault_of(fleet, path) in ("late", "absent")
    }
    assert len(faulty | unlisted) >= 12
    assert faulty | unlisted <= set(told["report"])
    assert all(text.endswith("instead") for text in told["report"].values())
    kept = pl.read_csv(next(Path(fleet.store_url, "reports").rglob("report.csv")))
    assert set(kept.filter(pl.col("level") == "report")["source"]) == set(told["report"])
    wanted.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    "fault",
    [
        "transient_corrupt",
        "damaged_zip",
        "wrong_member",
        "no_checksum",
        "truncated",
        "short",
        "shuffled",
        "repeated",
        "conflicting",
        "stale",
    ],
)
def test_no_fault_of_a_file_gets_into_the_lake(fleet: Fleet, fault: str) -> None:
    fleet.exchange.archive_faults({fault: 0.5}, seed=1)
    wanted = Wanted("um", ("BTCUSDT",), "2022-01-01", "2023-01-01", "5m", "auto")
    told = fleet.download(*wanted.arguments)
    struck = fleet.exchange.ask("GET", "archive")["faults"]
    assert struck.get(fault, 0) > 0 or fault == "no_checksum"
    if fault == "stale":
        # Nobody can know of a monthly file that is out of date by itself: what it told is believed.
        return
    wanted.assert_held(fleet)
    if fault not in ("transient_corrupt", "short", "shuffled", "repeated"):
        assert told["report"]


def test_what_is_not_published_yet_comes_from_rest_and_later_nothing_is_fetched_twice(
    fleet: Fleet,
) -> None:
    fleet.exchange.archive_faults({"late": 1.0}, late_days=100_000)
    wanted = Wanted("um", ("SIM002USDT",), "2024-09-01", "2024-11-01", source="auto")
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert [text.partition(":")[2] for text in told["report"].values()] == [" REST instead"] * 2
    fleet.exchange.archive_faults({})
    wanted.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    ("status", "symbol"), [(403, "SIM003USDT"), (451, "SIM004USDT"), (503, "SIM005USDT")]
)
def test_an_archive_that_answers_nobody_costs_weight_and_no_candle(
    fleet: Fleet, status: int, symbol: str
) -> None:
    fleet.exchange.archive_faults({}, status=status)
    wanted = Wanted("um", (symbol,), "2024-01-01", "2024-03-01", source="auto")
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert told["files"] == 0
    assert str(status) in told["report"]["archive"]
    assert told["report"]["archive"].endswith("REST instead")


def test_an_archive_that_refuses_what_it_has_just_listed_is_not_asked_for_every_day_too(
    fleet: Fleet,
) -> None:
    """The worker still knows the list; the files are refused, and their days would be."""
    wanted = Wanted("um", ("SIM008USDT",), "2024-01-01", "2024-03-01", source="auto")
    fleet.klines(
        "download",
        *Wanted("um", ("SIM008USDT",), "2023-01-01", "2023-03-01", source="auto").arguments,
    )
    fleet.exchange.ask("DELETE", "archive")
    fleet.exchange.archive_faults({}, status=451)
    told = fleet.download(*wanted.arguments)
    wanted.assert_nothing_is_missing(fleet)
    assert told["klines_from_rest"] == wanted.klines
    assert [text.partition("; ")[2] for text in told["report"].values()] == ["REST instead"] * 2


def test_refused_months_are_one_line_and_not_a_line_for_each_of_their_days(fleet: Fleet) -> None:
    """The worker still knows the list; the months are refused, and so are their days."""
    known = Wanted("um", ("SIM009USDT",), "2023-01-01", "2023-03-01", source="archive")
    fleet.download(*known.arguments)
    fleet.exchange.archive_faults({}, status=451)
    wanted = Wanted("um", ("SIM009USDT",), "2024-01-01", "2024-03-01", source="archive")
    done = fleet.klines("download", *wanted.arguments)
    fleet.exchange.archive_faults({})
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "Restricted" in line]
    assert line == (
        "  FAILED 2 files of SIM009USDT, 2024-01-01..2024-03-01: Restricted: 451, the archive does "
        "not serve this address; daily files instead, of which 60 failed alike"
    )
    run = done.stdout.split("reports/")[1].partition("/")[0]
    told = json.loads(fleet.klines("status", run, "--json").stdout)
    assert (len(told["failed"]), len(told["report"])) == (60, 2)
    fleet.download(*wanted.arguments)
    wanted.assert_nothing_is_missing(fleet)


def test_without_rest_what_the_archive_lacks_is_named_and_stays_missing(fleet: Fleet) -> None:
    fleet.exchange.archive_faults({"absent": 1.0}, only="monthly")
    by_days = Wanted("um", ("SIM006USDT",), "2024-01-01", "2024-02-01", source="archive")
    assert fleet.download(*by_days.arguments)["files"] == 31
    by_days.assert_held(fleet)
    fleet.exchange.archive_faults({"absent": 1.0})
    wanted = Wanted("um", ("SIM007USDT",), "2024-01-01", "2024-02-01", source="archive")
    done = fleet.klines("download", "--json", *wanted.arguments)
    assert done.returncode == 1
    told: dict[str, Any] = json.loads(done.stdout)
    (reason,) = told["failed"].values()
    assert "no archive file published" in reason
    assert fleet.exchange.calls() == []


def fault_of(fleet: Fleet, path: str) -> str | None:
    told: dict[str, Any] = fleet.exchange.ask("GET", f"archive?key={path}")
    fault: str | None = told["fault"]
    return fault
