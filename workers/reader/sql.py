"""SQL over the lake's layout, by DuckDB: one view a kind, in memory, from a folder or from S3.

    klines, markPriceKlines, …   market, symbol, interval (as the exchange spells it: 1m, 1M), then the columns
    fundingRate                  market, symbol, then the columns

Only the folders and months that the conditions leave are opened. From S3 it reads through s3fs,
since DuckDB's own extension for S3 would have to be downloaded first.
"""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from klinefleet.workers.domain.errors import PartitionDamaged, RequestError, StoreFault
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.optional import require_extra

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch


T = TypeVar("T")

#: Rows that an answer is given in at once.
BATCH_ROWS = 100_000
#: What DuckDB may use before it goes on in temporary files; the rest of the machine is for whoever
#: takes the rows.
MEMORY_LIMIT = "50%"
#: How soon Ctrl-C is heard.
_LOOK_S = 0.1

#: PIVOT runs as several statements; others that do are refused where they could write.
_PIVOTS = re.compile(r"\s*(pivot|select|from|with)\b", re.IGNORECASE)


def answer(store_url: str, query: str) -> Iterator[pl.DataFrame]:
    """Yield the answer to one SELECT in parts: first one without rows that tells the columns; times
    in ms UTC.

    RequestError with DuckDB's own words where the query makes no sense; StoreFault or
    PartitionDamaged where the lake cannot be read.
    """
    duckdb = require_extra("duckdb", "SQL over the lake")
    require_extra("pyarrow", "SQL over the lake")
    kinds, store = list[Kind](), open_store(store_url)
    try:
        with _database() as database, _beside(database) as thread:
            kinds += _open(database, store)
            _check(database, query)
            batches = _done(thread.submit(lambda: database.sql(query).to_arrow_reader(BATCH_ROWS)))
            yield _frame(batches.schema.empty_table())
            while batch := _done(thread.submit(next, batches, None)):
                yield _frame(batch)
    except duckdb.CatalogException as error:
        held = f"the lake at {store_url} has {', '.join(map(str, kinds)) or 'nothing yet'}"
        raise RequestError(f"{_first_line(error)}; {held}") from error
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        told = _first_line(error)
        if f"{store.address('lake')}/" in told:
            raise PartitionDamaged(f"{told}; it was left as it is") from error
        raise RequestError(told) from error
    except duckdb.Error as error:
        raise StoreFault(f"{_first_line(error)}; the lake at {store_url} was only read") from error


@contextmanager
def _database() -> Iterator[DuckDBPyConnection]:
    """Yield an empty database in memory that downloads nothing and leaves no file behind."""
    duckdb = require_extra("duckdb", "SQL over the lake")
    with tempfile.TemporaryDirectory(prefix="klines-sql-", ignore_cleanup_errors=True) as spill:
        offline = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        database = duckdb.connect(
            config={**offline, "temp_directory": spill, "memory_limit": MEMORY_LIMIT}
        )
        try:
            database.execute("SET TimeZone = 'UTC'")
            database.execute("SET python_enable_replacements = false")
            yield database
        finally:
            database.close()


@contextmanager
def _beside(database: DuckDBPyConnection) -> Iterator[ThreadPoolExecutor]:
    """Yield a thread to ask the database in: so Ctrl-C is heard here, and ends what is under way
    there.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sql") as thread:
        try:
            yield thread
        except BaseException:
            # A query that is only about to begin does not know that it was interrupted before.
            ended = thread.submit(int)
            while not wait([ended], _LOOK_S).done:
                database.interrupt()
            raise


def _done(doing: Future[T]) -> T:
    """Return what comes of it. Looks up now and then: once Polars is loaded, Ctrl-C wakes nobody
    who just waits.
    """
    while not wait([doing], _LOOK_S).done:
        pass
    return doing.result()


def _open(database: DuckDBPyConnection, store: ObjectStore) -> list[Kind]:
    """Make a view for each kind that the lake has, and return those."""
    duckdb = require_extra("duckdb", "SQL over the lake")
    lake, filesystem = store.address("lake"), store.duckdb_filesystem()
    if filesystem:
        try:
            found = set(re.findall(r"/kind=(\w+)/", "\n".join(filesystem.find(lake))))
        except Exception as error:
            raise StoreFault(f"could not list {lake}: {type(error).__name__}: {error}") from error
        database.register_filesystem(filesystem)
    else:
        found = {folder.name.removeprefix("kind=") for folder in Path(lake).glob("market=*/kind=*")}
        lake = glob.escape(lake)
    held = []
    for kind in (kind for name, kind in KINDS.items() if name in found):
        # A folder may have been made for a partition that is only being written.
        with suppress(duckdb.IOException):
            database.execute(view_of(lake, kind))
            held.append(kind)
    return held


def view_of(lake: str, kind: Kind) -> str:
    """Return the statement that makes a kind's view over the folder `lake`.

    Where partitions may lack a column, DuckDB has to look at each before it knows the columns.
    """
    has_interval = kind.has_interval
    pattern = (
        f"{lake}/market=*/kind={kind}/{'interval=*/' if has_interval else ''}symbol=*/*.parquet"
    )
    interval = (
        "CASE interval WHEN '1mo' THEN '1M' ELSE interval END AS interval," if has_interval else ""
    )
    names = "market, kind, symbol" + (", interval" if has_interval else "")
    return (
        f'CREATE VIEW "{kind}" AS SELECT market, symbol, {interval} * EXCLUDE ({names}) FROM '
        "read_parquet("
        f"'{pattern.replace(chr(39), chr(39) * 2)}', hive_partitioning = true, "
        f"hive_types_autocast = false, union_by_name = {str(kind.has_added_columns).lower()})"
    )


def _check(database: DuckDBPyConnection, query: str) -> None:
    """RequestError unless the query is one that only reads."""
    kinds = require_extra("duckdb", "SQL over the lake").StatementType
    statements = database.extract_statements(query)
    if len(statements) != 1:
        raise RequestError(f"one SELECT is answered at a time; there were {len(statements)}")
    reads = statements[0].type in (kinds.SELECT, kinds.EXPLAIN)
    if not reads and not (statements[0].type is kinds.MULTI and _PIVOTS.match(query)):
        raise RequestError(
            f"the lake is only read here: a SELECT is answered, not {statements[0].type.name}"
        )


def _frame(batch: RecordBatch) -> pl.DataFrame:
    """Return a part of the answer; moments as the lake has them, in ms UTC."""
    frame = pl.DataFrame(pl.from_arrow(batch))
    moments = [
        name
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    return frame.with_columns(pl.col(moments).cast(pl.Datetime("ms", "UTC")))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
