"""SQL over the lake by DuckDB, from a folder or from S3: one view for each kind, in memory.

    klines, markPriceKlines, …   market, symbol, interval (1m, 1M), then the kind's columns
    fundingRate                  market, symbol, then the kind's columns

DuckDB opens only the folders and partitions that match the WHERE conditions. S3 is read through
s3fs, because DuckDB would have to download its own S3 extension first.

A query may come from anywhere. So DuckDB may open the lake alone, and the files that the caller
names, and only statements that read are run.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from klinefleet.workers.domain.errors import PartitionDamaged, RequestError, StoreFault
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.storage.faults import in_words
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.optional import require_extra
from klinefleet.workers.support.temp_files import temp_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch


logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Rows in each frame that is yielded.
BATCH_ROWS = 100_000
#: Memory that DuckDB may use before it spills to disk. The rest is for the code that uses the rows.
MEMORY_LIMIT = "50%"
#: Seconds until Ctrl-C takes effect.
_POLL_S = 0.1

#: What a query may begin with so that its plan is shown; comments are passed over.
_GAP = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAIN = re.compile(
    rf"{_GAP}explain\b(?:{_GAP}(?:analyze|verbose)\b)*(?:{_GAP}\([^()]*\))?",
    re.IGNORECASE | re.DOTALL,
)
#: DuckDB runs a PIVOT as several statements. Other multi-statement queries might write.
_READ_ONLY_MULTI = re.compile(r"\s*(pivot|select|from|with)\b", re.IGNORECASE)


def run_query(store_url: str, query: str, files: Iterable[Path] = ()) -> Generator[pl.DataFrame]:
    """Yield the result of one SELECT in batches of rows, times in ms UTC.

    files: files and folders on this machine that the query may read beside the lake. The first
    batch has no rows, only the columns. RequestError if the query would read anything else, or
    write; with DuckDB's message if it is invalid. StoreFault or PartitionDamaged if the lake cannot
    be read.
    """
    duckdb = require_extra("duckdb", "SQL over the lake")
    require_extra("pyarrow", "SQL over the lake")
    kinds, store = list[Kind](), open_store(store_url)
    try:
        with _database() as database, _query_thread(database) as thread:
            kinds += _create_views(database, store)
            _lock(database, [store.address("lake"), *map(_existing, files)])
            _check_read_only(database, query)
            batches = _result(
                thread.submit(lambda: database.sql(query).to_arrow_reader(BATCH_ROWS))
            )
            yield _to_polars(batches.schema.empty_table())
            while batch := _result(thread.submit(next, batches, None)):
                yield _to_polars(batch)
    except duckdb.CatalogException as error:
        views = ", ".join(map(str, kinds)) or "nothing yet"
        raise RequestError(f"{_first_line(error)}; the lake at {store_url} has {views}") from error
    except (duckdb.PermissionException, PermissionError) as error:
        logger.debug("DuckDB: %s", error)
        found = re.search(r'"(.*)"', _first_line(error))
        what = f"not {found[1]!r}" if found else "nothing else"
        raise RequestError(
            f"a query reads the lake alone, {what}; name other files with --sql-files. Nothing was "
            "read"
        ) from error
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        message = _first_line(error)
        if found := re.search(rf"{re.escape(store.address('lake'))}/[^'\"]*\.parquet", message):
            logger.debug("DuckDB: %s", error)
            raise PartitionDamaged(f"{found[0]} does not decode; it was left as it is") from error
        raise RequestError(message) from error
    except duckdb.Error as error:
        logger.debug("DuckDB: %s", error)
        raise StoreFault(
            f"DuckDB stopped with {type(error).__name__}; nothing was changed in the lake at "
            f"{store_url}"
        ) from error


@contextmanager
def _database() -> Iterator[DuckDBPyConnection]:
    """Yield an in-memory database that downloads no extensions and leaves no files."""
    duckdb = require_extra("duckdb", "SQL over the lake")
    with _spill_folder() as spill_folder:
        offline = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        database = duckdb.connect(
            config={**offline, "temp_directory": spill_folder, "memory_limit": MEMORY_LIMIT}
        )
        try:
            database.execute("SET TimeZone = 'UTC'")
            # Otherwise DuckDB looks up unknown table names among Python variables.
            database.execute("SET python_enable_replacements = false")
            yield database
        finally:
            database.close()


@contextmanager
def _spill_folder() -> Iterator[str]:
    """Yield a folder for what does not fit into memory; an empty name where there is none."""
    with ExitStack() as stack:
        folder = ""
        with suppress(OSError):
            folder = str(stack.enter_context(temp_folder("sql")))
        yield folder


def _lock(database: DuckDBPyConnection, readable: list[str]) -> None:
    """Have the database open nothing but what is readable, and let no query change that."""
    # DuckDB compares the patterns of a view as they are written.
    names = {name for path in readable for name in (path, glob.escape(path))}
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(names))
    database.execute(f"SET allowed_directories = [{listed}]")
    database.execute(f"SET allowed_paths = [{listed}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _existing(path: Path) -> str:
    if not path.exists():
        raise RequestError(f"--sql-files {path} does not exist; nothing was read")
    return str(path.absolute())


@contextmanager
def _query_thread(database: DuckDBPyConnection) -> Iterator[ThreadPoolExecutor]:
    """Yield a thread to run queries in; an exception here, like Ctrl-C, interrupts the query."""
    with ThreadPoolExecutor(1, thread_name_prefix="sql") as thread:
        try:
            yield thread
        except BaseException:
            # Interrupt repeatedly: a query that starts after an interrupt is not stopped by it.
            last_task = thread.submit(int)
            while not wait([last_task], _POLL_S).done:
                database.interrupt()
            raise


def _result(task: Future[T]) -> T:
    """Return the result of a task once it is done.

    It polls, because once Polars is loaded Ctrl-C does not wake a thread that only waits.
    """
    while not wait([task], _POLL_S).done:
        pass
    return task.result()


def _create_views(database: DuckDBPyConnection, store: ObjectStore) -> list[Kind]:
    """Create a view for each kind in the lake, and return these kinds."""
    duckdb = require_extra("duckdb", "SQL over the lake")
    lake, filesystem = store.address("lake"), store.duckdb_filesystem()
    if filesystem:
        try:
            found = set(re.findall(r"/kind=(\w+)/", "\n".join(filesystem.find(lake))))
        except Exception as error:
            raise StoreFault(f"could not list in the store ({lake}): {in_words(error)}") from error
        database.register_filesystem(_of_lake(filesystem, lake))
    else:
        found = {folder.name.removeprefix("kind=") for folder in Path(lake).glob("market=*/kind=*")}
        lake = glob.escape(lake)
    created = []
    for kind in (kind for name, kind in KINDS.items() if name in found):
        # A folder may still be empty while its first partition is written.
        with suppress(duckdb.IOException):
            database.execute(create_view_sql(lake, kind))
            created.append(kind)
    return created


def _of_lake(filesystem: Any, lake: str) -> Any:
    """Return the filesystem, which now reads the lake alone: DuckDB leaves that to it."""
    inside = filesystem._strip_protocol(lake).rstrip("/") + "/"
    opened, globbed = filesystem.open, filesystem.glob

    def check(path: str, mode: str = "rb") -> None:
        if mode != "rb" or not filesystem._strip_protocol(path).startswith(inside):
            raise PermissionError(f'"{path}"')

    def open_checked(path: str, mode: str = "rb", **options: Any) -> Any:
        check(path, mode)
        return opened(path, mode, **options)

    def glob_checked(path: str, **options: Any) -> Any:
        check(path)
        return globbed(path, **options)

    filesystem.open, filesystem.glob = open_checked, glob_checked
    return filesystem


def create_view_sql(lake: str, kind: Kind) -> str:
    """Return the CREATE VIEW statement of a kind over the folder `lake`."""
    if kind.has_interval:
        folders, path_columns = "interval=*/symbol=*", "market, kind, symbol, interval"
        # Folders are named 1mo, since 1M and 1m are one folder where case is ignored.
        interval = "CASE interval WHEN '1mo' THEN '1M' ELSE interval END AS interval,"
    else:
        folders, path_columns, interval = "symbol=*", "market, kind, symbol", ""
    pattern = f"{lake}/market=*/kind={kind}/{folders}/*.parquet".replace("'", "''")
    # Without union_by_name, DuckDB takes the columns from the first partition alone. With it, it
    # opens every partition first.
    union_by_name = str(kind.has_added_columns).lower()
    return (
        f'CREATE VIEW "{kind}" AS '
        f"SELECT market, symbol, {interval} * EXCLUDE ({path_columns}) "
        f"FROM read_parquet('{pattern}', hive_partitioning = true, "
        f"hive_types_autocast = false, union_by_name = {union_by_name})"
    )


def _check_read_only(database: DuckDBPyConnection, query: str) -> None:
    """Raise RequestError unless the query is one statement that only reads."""
    types = require_extra("duckdb", "SQL over the lake").StatementType
    statements = database.extract_statements(query)
    if len(statements) != 1:
        raise RequestError(f"expected one SELECT, got {len(statements)} statements; none was run")
    kind = statements[0].type
    if kind is types.EXPLAIN and (found := _EXPLAIN.match(query)):
        # EXPLAIN ANALYZE runs what it explains.
        explained = database.extract_statements(query[found.end() :])
        kind = explained[0].type if len(explained) == 1 else kind
    is_pivot = kind is types.MULTI and _READ_ONLY_MULTI.match(query)
    if kind is not types.SELECT and not is_pivot:
        raise RequestError(
            f"the lake is read-only: expected a SELECT, got {kind.name}; nothing was run"
        )


def _to_polars(batch: RecordBatch) -> pl.DataFrame:
    """Return a batch as a frame whose times are Datetime(ms, UTC), as in the lake."""
    rows = pl.DataFrame(pl.from_arrow(batch))
    times = [
        name
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    return rows.with_columns(pl.col(times).cast(pl.Datetime("ms", "UTC")))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
