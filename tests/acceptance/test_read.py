"""`klines read` over a lake in a folder and in a bucket: files, pipes, queries and errors."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.feather
import pyarrow.ipc
import pytest

from tests.expected import Wanted
from tests.harness import KLINES, Command
from tests.lakes import Lake, lake_of
from tests.processes import cpu_seconds, until
from tests.servers import ObjectStore

WEEKS = ("2024-01-20", "2024-02-10")
MINUTES = Wanted("um", ("BTCUSDT", "ETHUSDT"), *WEEKS)
SPOT = Wanted("spot", ("BTCUSDT",), *WEEKS)
HOURS = Wanted("um", ("BTCUSDT",), *WEEKS, "1h")
CHINESE = Wanted("um", ("币安人生USDT",), "2026-01-01", "2026-01-03", "1h")
COARSE = Wanted("um", ("BTCUSDT",), *WEEKS, "1M")
FUNDING = Wanted("um", ("BTCUSDT",), *WEEKS, "events", kind="fundingRate")
HELD = (MINUTES, SPOT, HOURS, CHINESE, COARSE, FUNDING)
BOTH = ("--market", "um", "--symbols", "BTCUSDT,ETHUSDT")
ONE = ("--market", "um", "--symbols", "BTCUSDT")


@pytest.fixture(scope="module", params=["folder", "s3"])
def lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("read")
    if request.param == "folder":
        yield lake_of(str(folder / "it's [a] store"), folder, HELD)
        return
    with ObjectStore(folder) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        yield lake_of("s3://bucket/pre", folder, HELD, **store.env, XDG_CACHE_HOME=str(folder))
        assert {write["method"] for write in store.writes()} == {"PUT"}


def long(*wanted: Wanted) -> pl.DataFrame:
    """What is wanted, one symbol after the other."""
    return pl.concat(
        one.truth(symbol).select(pl.lit(symbol).alias("symbol"), pl.all())
        for one in wanted
        for symbol in one.symbols
    )


def from_text(text: str | Path, form: str) -> pl.DataFrame:
    """Read CSV or JSON that a reading wrote, moments as they are spelled there."""
    schema = long(MINUTES).schema
    wire: dict[str, Any] = {
        name: pl.String() if dtype.is_temporal() else dtype for name, dtype in schema.items()
    }
    source = text if isinstance(text, Path) else io.StringIO(text)
    rows = (
        pl.read_csv(source, schema=wire) if form == "csv" else pl.read_ndjson(source, schema=wire)
    )
    moments = [name for name, dtype in schema.items() if dtype.is_temporal()]
    assert all(
        rows[name].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").all()
        for name in moments
    )
    return rows.with_columns(pl.col(moments).str.to_datetime("%+", time_unit="ms", time_zone="UTC"))


def stored(lake: Lake) -> list[tuple[str, str]]:
    """Everything that the store holds, with its version."""
    from klinefleet.workers.storage.open import open_store

    return [(entry.key, entry.etag) for entry in open_store(lake.store_url).list("")]


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow", "feather", "json"])
def test_a_file_of_each_form_holds_every_row_and_nothing_else_lies_beside_it(
    lake: Lake, tmp_path: Path, form: str
) -> None:
    target = tmp_path / f"rows.{form}"
    target.write_text("what stood there before")
    before = stored(lake)
    done = lake.klines("read", *BOTH, "--to", str(target))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    truth = long(MINUTES)
    assert done.stderr.startswith(f"{truth.height:,} rows, ")
    readers = {"parquet": pl.read_parquet, "arrow": pl.read_ipc, "feather": pl.read_ipc}
    rows = readers[form](target) if form in readers else from_text(target, form)
    assert rows.equals(truth)
    if form == "feather":
        assert pyarrow.feather.read_table(target).num_rows == truth.height
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "rows"))] == [
        target.name
    ]
    assert stored(lake) == before


def test_what_is_piped_is_the_same_rows_and_a_reader_that_has_enough_is_no_error(
    lake: Lake,
) -> None:
    command = [str(KLINES), "read", *BOTH, "--to", "-"]

    def piped(*more: str) -> bytes:
        done = subprocess.run(
            [*command, *more], env=lake.env, cwd=lake.folder, capture_output=True, check=True
        )
        assert done.stderr == b""
        return done.stdout

    truth = long(MINUTES)
    assert from_text(piped().decode(), "csv").equals(truth)
    assert pl.read_parquet(piped("--format", "parquet")).equals(truth)
    with pyarrow.ipc.open_stream(piped("--format", "arrow")) as stream:
        assert pl.DataFrame(pl.from_arrow(stream.read_all())).equals(truth)
    for form in ("csv", "parquet"):
        writer = subprocess.Popen(
            [*command, "--format", form],
            env=lake.env,
            cwd=lake.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert writer.stdout
        assert writer.stderr
        assert writer.stdout.read(1)
        writer.stdout.close()
        assert (writer.wait(60), writer.stderr.read()) == (0, b"")
        writer.stderr.close()


def test_coarser_candles_open_and_close_with_their_minutes_and_hold_all_of_them(lake: Lake) -> None:
    made = from_text(lake.read(*ONE, "--resample", "1h", "--to", "-"), "csv")
    first, last, sums = pl.col("open"), pl.col("close", "close_time"), pl.col("^.*volume$", "count")
    minutes = MINUTES.truth("BTCUSDT").group_by_dynamic("open_time", every="1h")
    hours = minutes.agg(
        first.first(), pl.col("high").max(), pl.col("low").min(), last.last(), sums.sum()
    )
    exact = pl.exclude("^.*volume$")
    assert (
        made.drop("symbol")
        .select(exact)
        .equals(hours.select(made.drop("symbol").columns).select(exact))
    )
    assert all(
        (made[name] / hours[name] - 1).abs().max() < 1e-9
        for name in made.columns
        if "volume" in name
    )  # type: ignore[operator]


def test_a_panel_has_a_column_for_each_symbol_and_a_row_for_each_moment(
    lake: Lake, tmp_path: Path
) -> None:
    target = tmp_path / "panel.parquet"
    lake.read(
        *BOTH,
        "--panel",
        "high",
        "--start",
        "2024-01-31",
        "--end",
        "2024-02-02",
        "--to",
        str(target),
    )
    bitcoin, ether = (
        MINUTES.truth(symbol).select("open_time", pl.col("high").alias(symbol))
        for symbol in MINUTES.symbols
    )
    wide = bitcoin.join(ether, on="open_time", how="full", coalesce=True)
    inside = pl.col("open_time").is_between(
        pl.datetime(2024, 1, 31, time_zone="UTC"), pl.datetime(2024, 2, 2, time_zone="UTC"), "left"
    )
    assert pl.read_parquet(target).equals(wide.filter(inside).sort("open_time"))


def test_all_is_what_the_lake_holds_and_columns_are_those_named(lake: Lake) -> None:
    told = lake.read(
        "--market", "um", "--all", "--interval", "1h", "--columns", "open_time,close", "--to", "-"
    )
    assert pl.read_csv(io.StringIO(told)).columns == ["symbol", "open_time", "close"]
    assert sorted({line.partition(",")[0] for line in told.splitlines()[1:]}) == [
        "BTCUSDT",
        "币安人生USDT",
    ]


def test_sql_joins_markets_and_knows_symbols_intervals_and_times(lake: Lake) -> None:
    query = (
        "SELECT f.open_time, f.close - s.close AS basis FROM klines f JOIN klines s USING "
        "(symbol, interval, open_time)"
        " WHERE f.market = 'um' AND s.market = 'spot' AND interval = '1m' AND symbol = 'BTCUSDT'"
        " AND open_time >= '2024-01-31 23:58' AND open_time < '2024-02-01 00:02' ORDER BY open_time"
    )
    rows = pl.read_csv(io.StringIO(lake.read("--sql", query, "--to", "-")))
    futures, spot = MINUTES.truth("BTCUSDT"), SPOT.truth("BTCUSDT")
    both = futures.join(spot, on="open_time", suffix="_spot").sort("open_time")
    around = both.filter(
        pl.col("open_time")
        .dt.strftime("%m-%d %H:%M")
        .is_between(pl.lit("01-31 23:58"), pl.lit("02-01 00:01"))
    )
    assert rows["basis"].to_list() == (around["close"] - around["close_spot"]).to_list()
    assert (
        rows["open_time"].to_list()
        == around["open_time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_list()
    )
    counted = lake.read(
        "--sql",
        "SELECT market, interval, symbol, count(*) AS n FROM klines GROUP BY ALL ORDER BY ALL",
        "--to",
        "-",
    )
    held = [wanted for wanted in HELD if wanted.kind == "klines"]
    assert sorted(counted.splitlines()[1:]) == sorted(
        f"{one.market},{one.interval},{symbol},{one.truth(symbol).height}"
        for one in held
        for symbol in one.symbols
    )
    funding = lake.read(
        "--sql", "SELECT market, symbol, count(*) AS n FROM fundingRate GROUP BY ALL", "--to", "-"
    )
    assert funding.splitlines()[1:] == [f"um,BTCUSDT,{FUNDING.truth('BTCUSDT').height}"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "Parser Error: syntax error"),
        ("SELECT nothing FROM klines", "Binder Error: Referenced column"),
        ("SELECT * FROM markPriceKlines", "has klines, fundingRate"),
        ("SELECT 'a'::INT", "Conversion Error"),
        ("", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "read-only"),
        ("COPY (PIVOT klines ON symbol USING max(close)) TO 'x.csv'", "read-only"),
        ("CREATE TABLE x AS SELECT 1", "read-only"),
    ],
)
def test_a_query_that_makes_no_sense_or_writes_is_refused_in_one_line(
    lake: Lake, query: str, words: str
) -> None:
    done = lake.klines("read", "--sql", query)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (lake.folder / "x.csv").exists()


def test_the_screen_shows_both_ends_and_says_what_it_does_not_show(lake: Lake) -> None:
    day = (*BOTH, "--start", "2024-01-31", "--end", "2024-02-01")
    # Test workers have COLUMNS set; a user's pipe has not.
    pipe = replace(lake, env={name: lake.env[name] for name in lake.env if name != "COLUMNS"})
    piped = pipe.read(*day).splitlines()
    assert piped[0].split() == long(MINUTES).columns
    assert piped[12] == "2,880 rows"
    narrow = replace(lake, env=lake.env | {"COLUMNS": "80"})
    told = narrow.read(*day).splitlines()
    assert told[0].split()[:3] == ["symbol", "open_time", "open"]
    assert told[6] == "…"
    assert (told[1][:25], told[11][:25]) == (
        "BTCUSDT  2024-01-31 00:00",
        "ETHUSDT  2024-01-31 23:59",
    )
    assert told[12].startswith("2,880 rows; not shown: ")
    assert max(len(line) for line in told) <= 80
    for end in ("--head", "--tail"):
        assert (
            len(lake.read(*ONE, "--columns", "open_time,close", end, "3").splitlines()) == 1 + 3 + 1
        )
    described = lake.read(*ONE, "--interval", "1h", "--describe").splitlines()
    assert [line.split()[0] for line in described[1:6]] == [
        "count",
        "nulls",
        "min",
        "mean",
        "max",
    ]


def test_a_range_that_is_not_held_names_what_is_missing_and_what_fetches_it(
    lake: Lake, tmp_path: Path
) -> None:
    target = tmp_path / "rows.csv"
    range_ = ("--start", "2024-02-01", "--end", "2024-02-12T12:00")
    done = lake.klines("read", *BOTH, *range_, "--to", str(target))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: RangeNotHeld: ")
    assert (
        "missing: BTCUSDT 2024-02-10..2024-02-12T12:00, ETHUSDT 2024-02-10..2024-02-12T12:00."
        in line
    )
    command = (
        "klines download --market um --symbols BTCUSDT,ETHUSDT --interval 1m --start 2024-02-10"
    )
    assert f"`{command} --end 2024-02-12T12:00`" in line
    assert not target.exists()
    part = lake.klines("read", *BOTH, *range_, "--partial", "--to", str(target))
    assert part.returncode == 0
    assert pl.scan_csv(target).select(pl.len()).collect().item() == 2 * 9 * 1440


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--market", "--sql")),
        (("--market", "stocks", "--symbols", "BTCUSDT"), ("stocks", "spot, um, cm")),
        (("--market", "um"), ("--symbols",)),
        (("--market", "um", "--symbols", "BTCUSDTT"), ("BTCUSDTT", "did you mean BTCUSDT")),
        (("--market", "um", "--symbols", "../x"), ("../x",)),
        (("--market", "cm", "--all"), ("holds no 1m klines of market cm",)),
        ((*ONE, "--interval", "7m"), ("7m",)),
        ((*ONE, "--start", "yesterday"), ("yesterday",)),
        ((*ONE, "--start", "2024-02-01", "--end", "2024-01-01"), ("2024-02-01", "2024-01-01")),
        ((*ONE, "--columns", "close,colour"), ("colour", "open_time")),
        ((*ONE, "--resample", "soon"), ("soon",)),
        ((*ONE, "--panel", "colour"), ("colour",)),
        ((*ONE, "--panel", "close", "--columns", "close"), ("--panel",)),
        ((*ONE, "--local"), ("--fetch",)),
        ((*ONE, "--to", "rows.xlsx"), ("rows.xlsx", ".parquet")),
        ((*ONE, "--to", "nowhere/rows.csv"), ("nowhere",)),
        ((*ONE, "--to", "rows.csv", "--format", "json"), ("rows.csv", "json")),
        ((*ONE, "--format", "json"), ("--to -",)),
        ((*ONE, "--to", "rows.csv", "--head", "3"), ("--head",)),
        ((*ONE, "--fetch"), ("no Redis",)),
        (("--sql", "SELECT 1", "--market", "um"), ("--sql", "--market")),
        (("--sql", "SELECT 1", "--all"), ("--sql", "--all")),
        (("--sql", "SELECT 1", "--describe"), ("SUMMARIZE",)),
        (("--sql", "COPY (SELECT 1) TO 'x.csv'"), ("read-only", "COPY")),
        (("--sql", "FROM read_text('/etc/hostname')"), ("/etc/hostname", "--sql-files")),
        (("--sql", "SELECT 1", "--sql-files", "nowhere"), ("--sql-files", "nowhere")),
        ((*ONE, "--sql-files", "."), ("--sql-files", "--sql")),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_in_one_line(
    lake: Lake, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = lake.klines("read", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line
    assert not list(lake.folder.glob("rows.*"))


def test_ctrl_c_ends_a_long_query_and_leaves_no_file(tmp_path: Path) -> None:
    lake = lake_of(str(tmp_path / "none"), tmp_path, [])
    endless = "SELECT a.range + b.range AS n FROM range(100000000) a, range(100000) b"
    for query, target in [
        (f"SELECT count(*) FROM ({endless}) WHERE n % 7 = 3", []),
        (endless, ["--to", "rows.csv"]),
    ]:
        command = Command(["read", "--sql", query, *target], tmp_path, lake.env)
        until("the query is under way", lambda pid=command.pid: cpu_seconds(pid) > 6)
        command.interrupt()
        done = command.result()
        assert (done.returncode, done.stdout) == (1, "")
        # A thread of Polars that was just writing may say in its own words, past us, that it was
        # interrupted.
        assert not done.stderr.strip() or "__POLARS_ABORT_KEYBOARD_INTERRUPT" in done.stderr
    assert not list(tmp_path.glob("*rows*"))
