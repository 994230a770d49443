"""SQL over the lake opens only what it needs, and names what is wrong with the lake."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

from klinefleet.workers.domain.errors import PartitionDamaged, RequestError, StoreFault
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.reader.sql import run_query
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.storage.s3 import S3Store
from tests.answers import covering
from tests.servers import ObjectStore
from tests.unit.helpers.klines import MINUTES, frame, minutes

SPAN = Span(utc_ms(2024, 1), utc_ms(2024, 5))
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


def store_minutes(store_url: str) -> None:
    """Store the first ten minutes of four months of four symbols."""
    partitions = Partitions(open_store(store_url))
    for symbol in SYMBOLS:
        series = Series(MINUTES.market, MINUTES.kind, MINUTES.interval, symbol)
        for partition in series.partitions(SPAN):
            start_ms = partition.span.start_ms
            span = Span(start_ms, start_ms + 10 * MINUTE_MS)
            rows = frame(range(span.start_ms, span.end_ms, MINUTE_MS))
            partitions.merge(partition, rows, covering(span))


def query_rows(store_url: str, query: str) -> pl.DataFrame:
    return pl.concat(run_query(store_url, query))


def test_a_query_of_one_symbol_lists_a_bucket_once_and_opens_no_other_symbols_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ObjectStore(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        store_minutes("s3://bucket/pre")
        before = store.requests()
        rows = query_rows(
            "s3://bucket/pre",
            "SELECT count(*) AS n FROM klines WHERE symbol = 'ETHUSDT' AND interval = '1m'",
        )
        spent = {
            method: count - before.get(method, 0) for method, count in store.requests().items()
        }
        assert rows["n"].item() == 40
        assert spent["LIST"] <= 2
        assert spent.get("HEAD", 0) == 0
        # Of each of its four objects the footer and the rows, and of one more the columns.
        assert spent["GET"] <= 10


def test_monthly_candles_are_named_1M_and_times_are_utc_in_ms(tmp_path: Path) -> None:
    series = Series(MINUTES.market, MINUTES.kind, Interval.MO1, "BTCUSDT")
    Partitions(open_store(str(tmp_path))).merge(
        Partition(series, "2024"), frame([utc_ms(2024)]), covering(minutes(0, 1))
    )
    rows = query_rows(str(tmp_path), "SELECT * FROM klines WHERE interval = '1M'")
    assert rows.columns[:4] == ["market", "symbol", "interval", "open_time"]
    assert rows["interval"].to_list() == ["1M"]
    assert rows.drop("market", "symbol", "interval").equals(frame([utc_ms(2024)]))


def test_an_answer_without_rows_has_its_columns(tmp_path: Path) -> None:
    store_minutes(str(tmp_path))
    (only,) = run_query(str(tmp_path), "SELECT symbol, close FROM klines WHERE market = 'cm'")
    assert (only.height, only.schema) == (
        0,
        pl.Schema({"symbol": pl.String(), "close": pl.Float64()}),
    )


def test_an_empty_lake_runs_queries_without_a_view_and_is_named_as_empty_otherwise(
    tmp_path: Path,
) -> None:
    assert query_rows(str(tmp_path / "none"), "SELECT 1 AS one")["one"].to_list() == [1]
    with pytest.raises(
        RequestError, match=r"klines does not exist!; the lake at .* has nothing yet"
    ):
        query_rows(str(tmp_path / "none"), "SELECT * FROM klines")


def test_a_damaged_partition_is_the_lakes_fault_not_the_querys(tmp_path: Path) -> None:
    store_minutes(str(tmp_path))
    (tmp_path / keys.partition(Partition(MINUTES, "2024-02"))).write_bytes(b"no parquet")
    with pytest.raises(PartitionDamaged, match=r"2024-02\.parquet"):
        query_rows(str(tmp_path), "SELECT sum(close) FROM klines")


def test_an_unreachable_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def find(self, path: str) -> dict[str, str]:
            raise ConnectionError("nobody is there")

    monkeypatch.setattr(S3Store, "duckdb_filesystem", lambda _: Away())
    told = r"could not list in the store \(s3://bucket/lake\): the server closed the connection"
    with pytest.raises(StoreFault, match=told):
        query_rows("s3://bucket", "SELECT 1")


def test_without_duckdb_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(RequestError, match=r"pip install 'klinefleet\[read\]'"):
        query_rows(str(tmp_path), "SELECT 1")


def test_python_variables_are_not_tables(tmp_path: Path) -> None:
    """By default DuckDB looks up unknown table names among the caller's variables."""
    secret = pl.DataFrame({"mine": [1]})
    with pytest.raises(RequestError, match="secret does not exist"):
        query_rows(str(tmp_path), "SELECT * FROM secret")
    assert secret.height == 1


@pytest.fixture
def guarded(tmp_path: Path) -> Path:
    """A lake with rows, beside a file that no query may read."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    store = tmp_path / "a[b]'s"
    store_minutes(str(store))
    return store


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{lake}/x.csv'",
        "COPY klines TO '{beside}/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/x.csv'",
        "/* a */ EXPLAIN -- b\n ANALYZE COPY (SELECT 1) TO '{lake}/x.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{lake}/x.csv'",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "EXPORT DATABASE '{lake}/x'",
        "IMPORT DATABASE '{lake}'",
        "ATTACH '{lake}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA threads = 1",
        "CALL enable_logging()",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW klines",
        "CHECKPOINT",
        "SELECT 1; COPY (SELECT 1) TO '{lake}/x.csv'",
    ],
)
def test_a_statement_that_could_write_is_not_run(guarded: Path, query: str) -> None:
    before = sorted(guarded.parent.rglob("*"))
    paths = {"lake": f"{guarded}/lake".replace("'", "''"), "beside": guarded.parent}
    with pytest.raises(RequestError, match=r"none was run|nothing was run"):
        query_rows(str(guarded), query.format(**paths))
    assert sorted(guarded.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "query",
    [
        "FROM read_csv('{beside}/secret.csv')",
        "FROM '{beside}/secret.csv'",
        "FROM read_text('{beside}/secret.csv')",
        "FROM read_blob('{beside}/*')",
        "FROM glob('{beside}/*')",
        "FROM sniff_csv('{beside}/secret.csv')",
        "FROM read_text('{lake}/../../secret.csv')",
        "FROM read_json('/etc/hostname')",
        "FROM read_parquet('s3://other/x.parquet')",
        "FROM read_csv('https://127.0.0.1:1/x.csv')",
        "FROM query('FROM read_text(''{beside}/secret.csv'')')",
        "EXPLAIN ANALYZE FROM read_csv('{beside}/secret.csv')",
        "FROM duckdb_secrets()",
    ],
)
def test_a_query_reads_no_file_beside_the_lake(guarded: Path, query: str) -> None:
    paths = {"lake": f"{guarded}/lake".replace("'", "''"), "beside": guarded.parent}
    with pytest.raises(RequestError, match=r"reads the lake alone, not .*--sql-files"):
        query_rows(str(guarded), query.format(**paths))


@pytest.mark.parametrize(
    "query",
    ["FROM enable_logging('QueryLog', storage = 'file')", "FROM enable_profiling()"],
)
def test_a_function_changes_no_setting(guarded: Path, query: str) -> None:
    with pytest.raises(RequestError, match="configuration has been locked"):
        query_rows(str(guarded), query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM klines",
        "-- all\nFROM klines LIMIT 1",
        "WITH a AS (FROM klines) SELECT max(close) FROM a",
        "PIVOT klines ON symbol USING max(close)",
        "SUMMARIZE klines",
        "DESCRIBE klines",
        "EXPLAIN FROM klines",
        "EXPLAIN ANALYZE SELECT count(*) FROM klines",
        "EXPLAIN (FORMAT json) FROM klines",
        "EXPLAIN -- the plan\n FROM klines",
        "VALUES (1)",
    ],
)
def test_whatever_only_reads_the_lake_is_run(guarded: Path, query: str) -> None:
    assert query_rows(str(guarded), query).height > 0


def test_a_query_reads_the_files_and_folders_that_are_named(guarded: Path) -> None:
    secret = guarded.parent / "secret.csv"
    folder = guarded.parent / "x[y]"
    folder.mkdir()
    (folder / "1.csv").write_text("a\n2\n")
    query = f"SELECT a FROM read_csv('{secret}') UNION FROM read_csv('x[[]y]/*.csv') ORDER BY a"
    rows = pl.concat(run_query(str(guarded), query, [secret, folder]))
    assert rows["a"].to_list() == [1, 2]
    with pytest.raises(RequestError, match=r"nothing was run"):
        list(run_query(str(guarded), f"COPY (SELECT 1) TO '{secret}'", [secret]))
    with pytest.raises(RequestError, match=r"--sql-files .*nowhere does not exist"):
        list(run_query(str(guarded), "SELECT 1", [guarded.parent / "nowhere"]))


def test_a_query_of_a_bucket_reads_no_other_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ObjectStore(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        store_minutes("s3://bucket/pre")
        open_store("s3://bucket/pre").put("reports/secret.csv", b"a\n1\n")
        assert query_rows("s3://bucket/pre", "SELECT count(*) AS n FROM klines")["n"].item() > 0
        for path in (
            "s3://bucket/pre/reports/secret.csv",
            "s3://bucket/pre/lak*/*.csv",
            "s3://x/y.csv",
        ):
            for query in (f"FROM read_text('{path}')", f"FROM glob('{path}')", f"FROM '{path}'"):
                with pytest.raises(RequestError, match="reads the lake alone"):
                    query_rows("s3://bucket/pre", query)


def test_a_machine_without_a_folder_for_temporary_files_runs_queries_in_memory(
    guarded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_usable(**_: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", none_usable)
    assert query_rows(str(guarded), "SELECT count(*) AS n FROM klines")["n"].item() > 0
