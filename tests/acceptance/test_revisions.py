"""`klines verify --revisions`: republished files are fetched again, no row changes silently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from klinefleet.tasks.planning.plan_run import TIME_SLICE_S
from tests.expected import Wanted, lake_frame, ms_of
from tests.harness import AMPLE, Fleet, running_fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet for republished files; each test requests a series of its own."""
    with running_fleet(tmp_path_factory.mktemp("revisions"), *AMPLE) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def _nothing_wrong(fleet: Fleet) -> Iterator[None]:
    fleet.exchange.ask("DELETE", "calls")
    yield
    fleet.exchange.archive_faults({})


#: What has been verified to its end: the last test does so once more, many series at a time.
SETTLED: list[Wanted] = []


@dataclass(frozen=True)
class Verified:
    """What a `klines verify` told and did."""

    told: dict[str, Any]
    zips: list[str]
    calls: list[dict[str, Any]]

    def assert_idle(self) -> None:
        """It found nothing to do, and asked the archive for lists alone."""
        told = {
            name: self.told[name]
            for name in ("files", "requests", "rows_changed", "rows_gained", "report")
        }
        assert told == {
            "files": 0,
            "requests": 0,
            "rows_changed": 0,
            "rows_gained": 0,
            "report": {},
        }
        assert (self.zips, self.calls) == ([], [])


def verify(fleet: Fleet, wanted: Wanted, *options: str) -> Verified:
    """Verify a series from its beginning to now."""
    series = (
        "--market",
        wanted.market,
        "--kind",
        wanted.kind,
        "--symbols",
        ",".join(wanted.symbols),
    )
    interval = () if wanted.interval == "events" else ("--interval", wanted.interval)
    fleet.forget_calls()
    done = fleet.klines("verify", "--revisions", "--json", *series, *interval, *options)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    zips = [call["path"] for call in fleet.exchange.files() if call["path"].endswith(".zip")]
    return Verified(json.loads(done.stdout), zips, fleet.exchange.calls())


def reissue(fleet: Fleet, *keys: str, change: int = 0) -> None:
    fleet.exchange.ask("POST", "archive/reissue", [{"key": key, "change": change} for key in keys])


def key(wanted: Wanted, period: str) -> str:
    """Return the key of the file of a month or a day."""
    market = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}[wanted.market]
    cycle = "daily" if len(period) > len("2024-01") else "monthly"
    (symbol,) = wanted.symbols
    if wanted.interval == "events":
        return f"data/{market}/{cycle}/{wanted.kind}/{symbol}/{symbol}-{wanted.kind}-{period}.zip"
    folder = f"data/{market}/{cycle}/{wanted.kind}/{symbol}/{wanted.interval}"
    return f"{folder}/{symbol}-{wanted.interval}-{period}.zip"


def versions(fleet: Fleet, told: dict[str, Any]) -> pl.DataFrame:
    """Return every version of the rows on which the sources of a run differed."""
    files = [
        path
        for path in Path(fleet.store_url, "reports", told["run"]).glob("*.csv")
        if path.name != "report.csv"
    ]
    assert files, "no version was kept"
    return pl.concat(pl.read_csv(path, try_parse_dates=True) for path in files)


def held_of(fleet: Fleet, wanted: Wanted) -> pl.DataFrame:
    (symbol,) = wanted.symbols
    return lake_frame(fleet.store_url, wanted.market, symbol, wanted.interval, wanted.kind)


def assert_versions(found: pl.DataFrame, standing: set[str], others: set[str], rows: int) -> None:
    """Assert that each disputed row has one version a source, and only `standing` is kept."""
    assert found["open_time"].n_unique() == rows
    assert found.height == rows * len(standing | others)
    assert set(found.filter("stands")["source"]) == standing
    assert set(found.filter(~pl.col("stands"))["source"]) == others


def test_nothing_is_fetched_where_nothing_was_published_anew(fleet: Fleet) -> None:
    wanted = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-03-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    verify(fleet, wanted).assert_idle()
    wanted.assert_held(fleet)


def test_changed_rows_of_a_new_file_do_not_stand_against_rest_and_the_daily_files(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("ETHUSDT",), "2024-01-01", "2024-03-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    reissue(fleet, key(wanted, "2024-02"), change=5)
    done = verify(fleet, wanted)
    assert done.zips == [key(wanted, "2024-02"), key(wanted, "2024-02-29")]
    assert len(done.calls) == done.told["requests"] == 1
    assert (done.told["rows_changed"], done.told["rows_gained"]) == (0, 0)
    wanted.assert_held(fleet)
    (text,) = done.told["report"].values()
    assert text.startswith("rows differ between ")
    assert "(5 rows, " in text
    assert f"reports/{done.told['run']}/" in text
    assert_versions(versions(fleet, done.told), {"daily", "lake", "rest"}, {"monthly"}, rows=5)
    reissue(fleet, key(wanted, "2024-02"))
    mended = verify(fleet, wanted)
    assert (mended.zips, mended.told["rows_changed"]) == ([key(wanted, "2024-02")], 0)
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_a_new_file_with_the_same_rows_changes_none_and_is_remembered(fleet: Fleet) -> None:
    wanted = Wanted("spot", ("BTCUSDT",), "2024-12-01", "2025-02-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    reissue(fleet, key(wanted, "2024-12"), key(wanted, "2025-01"))
    done = verify(fleet, wanted)
    assert sorted(done.zips) == [key(wanted, "2024-12"), key(wanted, "2025-01")]
    assert (done.told["files"], done.told["requests"], done.told["rows_changed"]) == (2, 0, 0)
    assert done.told["report"] == {}
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)
    SETTLED.append(wanted)


def test_files_that_were_out_of_date_are_mended_by_the_new_ones_and_each_row_is_counted(
    fleet: Fleet,
) -> None:
    fleet.exchange.archive_faults({"stale": 1.0}, seed=7)
    wanted = Wanted("um", ("BNBUSDT",), "2022-04-01", "2022-06-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    truth = wanted.truth("BNBUSDT")
    wrong = held_of(fleet, wanted).join(truth, on=truth.columns, how="anti").height
    assert wrong > 300
    reissue(fleet, key(wanted, "2022-04"), key(wanted, "2022-05"))
    done = verify(fleet, wanted)
    assert (done.told["rows_changed"], done.told["rows_gained"], done.told["failed"]) == (
        wrong,
        0,
        {},
    )
    wanted.assert_held(fleet)
    assert {f"um BNBUSDT 5m 2022-0{month}-01..2022-0{month + 1}-01" for month in (4, 5)} <= set(
        done.told["report"]
    )
    assert_versions(versions(fleet, done.told), {"monthly", "rest"}, {"lake"}, rows=wrong)
    SETTLED.append(wanted)
    wanted.assert_nothing_is_missing(fleet)


def test_of_a_symbol_that_rest_has_forgotten_the_new_file_stands_and_says_so(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SRMUSDT",), "2022-02-01", "2022-04-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    reissue(fleet, key(wanted, "2022-02"), change=4)
    done = verify(fleet, wanted)
    assert done.calls == []
    assert done.told["rows_changed"] == 4
    truth = wanted.truth("SRMUSDT")
    wrong = held_of(fleet, wanted).join(truth, on=truth.columns, how="anti")
    assert wrong["open_time"].dt.timestamp("ms").to_list()[-1] == ms_of("2022-02-28T23:55")
    found = versions(fleet, done.told)
    assert set(found.filter("stands")["source"]) <= {"monthly", "daily"}
    assert set(found.filter(~pl.col("stands"))["source"]) == {"lake"}
    reissue(fleet, key(wanted, "2022-02"))
    assert verify(fleet, wanted).told["rows_changed"] == 4
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_a_day_published_anew_and_changed_does_not_stand_against_rest(fleet: Fleet) -> None:
    # No month is out so soon after its end: days are all there is of the last week but one.
    today = datetime.now(UTC).date()
    week = [str(today - timedelta(days=ago)) for ago in range(12, 4, -1)]
    fleet.exchange.archive_faults({"late": 1.0}, only="monthly", late_days=30)
    wanted = Wanted("um", ("SOLUSDT",), week[0], week[-1], "5m", "archive")
    assert fleet.download(*wanted.arguments)["files"] == 7
    reissue(fleet, key(wanted, week[1]), change=3)
    reissue(fleet, key(wanted, week[4]))
    done = verify(fleet, wanted)
    assert sorted(done.zips) == [key(wanted, week[1]), key(wanted, week[4])]
    assert done.told["rows_changed"] == 0
    wanted.assert_held(fleet)
    assert_versions(versions(fleet, done.told), {"lake", "rest"}, {"daily"}, rows=3)
    verify(fleet, wanted).assert_idle()


def test_a_funding_rate_that_the_new_file_tells_otherwise_stays_that_of_rest(fleet: Fleet) -> None:
    """REST tells the mark price of the disputed events besides; each is held once."""
    wanted = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-07-01", "events", kind="fundingRate")
    arguments = (
        "--market",
        "um",
        "--kind",
        "fundingRate",
        "--symbols",
        "BTCUSDT",
        "--source",
        "archive",
    )
    fleet.download(*arguments, "--start", wanted.start, "--end", wanted.end)
    truth = wanted.truth("BTCUSDT")
    reissue(fleet, key(wanted, "2024-05"), change=2)
    done = verify(fleet, wanted)
    assert done.zips == [key(wanted, "2024-05")]
    assert (done.told["rows_changed"], done.told["rows_gained"]) == (0, 0)
    held = held_of(fleet, wanted)
    assert held.drop("mark_price").equals(truth.drop("mark_price"))
    marked = held.filter(pl.col("mark_price").is_not_null())
    assert marked.equals(truth.join(marked, on="calc_time", how="semi"))
    found = versions(fleet, done.told)
    assert set(found.filter("stands")["source"]) == {"lake", "rest"}
    assert set(found.filter(~pl.col("stands"))["source"]) == {"monthly"}
    SETTLED.append(wanted)


def test_only_the_time_that_is_named_and_the_part_of_a_file_that_is_held_are_verified(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("SIM011USDT",), "2024-03-10", "2024-05-20", "5m", "archive")
    fleet.download(*wanted.arguments)
    reissue(fleet, *(key(wanted, f"2024-0{month}") for month in (2, 3, 4, 5, 6)))
    april = verify(fleet, wanted, "--start", "2024-04-01", "--end", "2024-05-01")
    assert april.zips == [key(wanted, "2024-04")]
    rest = verify(fleet, wanted)
    assert sorted(rest.zips) == [key(wanted, "2024-03"), key(wanted, "2024-05")]
    assert (rest.told["rows_gained"], rest.told["rows_changed"]) == (0, 0)
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_a_file_that_was_short_and_is_published_whole_agrees_with_what_rest_told_of_its_gap(
    fleet: Fleet,
) -> None:
    fleet.exchange.archive_faults({"short": 1.0}, only="monthly")
    wanted = Wanted("um", ("SIM001USDT",), "2021-06-01", "2022-06-01", "5m", "auto")
    assert fleet.download(*wanted.arguments)["files"] > 0
    assert fleet.exchange.calls() != []
    wanted.assert_held(fleet)
    months = [f"{2021 + month // 12}-{month % 12 + 1:02d}" for month in range(5, 17)]
    reissue(fleet, *(key(wanted, month) for month in months))
    done = verify(fleet, wanted)
    assert sorted(done.zips) == [key(wanted, month) for month in months]
    assert (done.calls, done.told["rows_changed"], done.told["rows_gained"]) == ([], 0, 0)
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_a_file_published_anew_and_broken_is_answered_for_by_others_and_never_merged(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("SIM002USDT",), "2023-01-01", "2023-02-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    fleet.exchange.archive_faults({"corrupt": 1.0}, only="monthly")
    done = verify(fleet, wanted)
    assert done.told["report"][key(wanted, "2023-01")].endswith("instead")
    assert done.told["rows_changed"] == 0
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_of_many_symbols_exactly_the_new_files_are_fetched(fleet: Fleet) -> None:
    symbols = ("ETHUSDT", *(f"SIM{number:03d}USDT" for number in range(3, 10)))
    wanted = Wanted("um", symbols, "2022-01-01", "2023-01-01", "1d", "archive")
    fleet.download(*wanted.arguments)
    new = [key(Wanted("um", (symbol,), "", "", "1d"), "2022-11") for symbol in symbols[2:5]]
    reissue(fleet, *new, change=1)
    done = verify(fleet, wanted)
    assert set(new) <= set(done.zips)
    assert {
        path.replace("/daily/", "/monthly/")[: -len("-30.zip")] + ".zip"
        for path in done.zips
        if "/daily/" in path
    } == set(new)
    assert (done.told["rows_changed"], len(done.told["report"])) == (0, 3)
    wanted.assert_held(fleet)
    SETTLED.append(wanted)


def test_a_lake_that_holds_nothing_or_only_what_rest_told_is_verified_at_once(fleet: Fleet) -> None:
    empty = Wanted("cm", ("ETHUSD_PERP",), "2024-01-01", "2024-01-02")
    done = verify(fleet, empty)
    done.assert_idle()
    assert done.told["state"] == "complete"
    # Not after a turn of waiting for anybody. Of several: a machine may stand still for a moment.
    assert min(verify(fleet, empty).told["seconds"] for _ in range(3)) < TIME_SLICE_S
    fleet.download(*empty.arguments)
    reissue(fleet, key(empty, "2024-01"), change=9)
    verify(fleet, empty).assert_idle()
    empty.assert_held(fleet)


def test_after_all_that_a_second_verify_fetches_nothing(fleet: Fleet) -> None:
    groups = sorted({(wanted.market, wanted.kind, wanted.interval) for wanted in SETTLED})
    for market, kind, interval in groups:
        of_group = [
            one
            for one in SETTLED
            if (one.market, one.kind, one.interval) == (market, kind, interval)
        ]
        symbols = tuple(symbol for wanted in of_group for symbol in wanted.symbols)
        verify(fleet, Wanted(market, symbols, "", "", interval, kind=kind)).assert_idle()


GOOD = ("--market", "um", "--symbols", "BTCUSDT")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*GOOD[:3], "NOSUCHUSDT", "--revisions"), ("um", "NOSUCHUSDT")),
        ((*GOOD, "--revisions", "--kind", "trades"), ("trades", "klines")),
        ((*GOOD, "--revisions", "--interval", "7m"), ("7m",)),
        ((*GOOD, "--revisions", "--start", "2024-02-01", "--end", "2024-01-01"), ("not before",)),
        (("--market", "um", "--revisions"), ("--symbols",)),
        (("--market", "moon", "--symbols", "BTCUSDT", "--revisions"), ("moon",)),
    ],
    ids=["unknown symbol", "kind", "interval", "range", "no symbol", "market"],
)
def test_a_verify_that_makes_no_sense_is_refused_in_one_line(
    fleet: Fleet, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = fleet.klines("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")
    assert line.endswith("nothing was queued")
    assert all(word in line for word in words)


def test_where_held_rows_change_the_report_still_names_where_all_versions_are(fleet: Fleet) -> None:
    fleet.exchange.archive_faults({"stale": 1.0}, seed=7)
    wanted = Wanted("um", ("BNBUSDT",), "2022-04-01", "2022-06-01", source="archive")
    fleet.download(*wanted.arguments)
    reissue(fleet, key(wanted, "2022-04"))
    done = verify(fleet, wanted)
    fleet.exchange.archive_faults({})
    reports = Path(fleet.store_url, "reports", done.told["run"]).glob("*.csv")
    versions = [path.name for path in reports if path.name != "report.csv"]
    assert versions
    told = " ".join(done.told["report"].values())
    assert all(name in told for name in versions), done.told["report"]
    assert "held rows have new values" in told
