"""Rows to the bytes of a Parquet partition and back."""

from __future__ import annotations

import io
import logging

import polars as pl

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import is_older, schema_of, with_all_columns
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.proof import checksum

logger = logging.getLogger(__name__)

#: Rows of a row group: a month of 1m candles, or a day of 1s candles, is one.
ROW_GROUP_ROWS = 131_072


def encode(rows: pl.DataFrame, footer: Footer) -> bytes:
    """Return a partition's bytes: the same rows and footer give the same bytes."""
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(
        buffer,
        compression="zstd",
        statistics=True,
        row_group_size=ROW_GROUP_ROWS,
        metadata=footer.metadata(),
    )
    return buffer.getvalue()


def decode(body: bytes, key: str = "a partition") -> pl.DataFrame:
    """Return a partition's rows; PartitionDamaged where they do not decode."""
    try:
        return pl.read_parquet(body)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        logger.debug("%s does not decode: %s", key, error)
        raise PartitionDamaged(f"{key}: its rows do not decode; it was left as it is") from error


def read_back(kind: Kind, body: bytes, key: str = "a partition") -> tuple[pl.DataFrame, Footer]:
    """Return a partition's rows and footer, as they were written and proved; else PartitionDamaged.

    Columns that an older partition lacks are null.
    """
    rows, footer = decode(body, key), parse_footer(body, key)
    check_columns(kind, rows.schema, key)
    if footer.proof and (footer.proof.rows, footer.proof.checksum) != (rows.height, checksum(rows)):
        raise PartitionDamaged(
            f"{key}: its rows are not those that were proved when they were written; it was left "
            "as it is, `klines verify --repair` fetches them again"
        )
    return with_all_columns(kind, rows), footer


def check_columns(kind: Kind, found: pl.Schema, key: str) -> None:
    """Raise PartitionDamaged unless a partition has the columns of its kind, today's or older."""
    if list(found.items()) != list(schema_of(kind).items()) and not is_older(kind, found):
        raise PartitionDamaged(
            f"{key}: its columns are {dict(found)}, not those of {kind}; it was left as it is"
        )
