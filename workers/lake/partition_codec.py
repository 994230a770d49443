"""Rows to the bytes of a Parquet partition and back."""

from __future__ import annotations

import io

import polars as pl

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.schema import SCHEMAS
from klinefleet.workers.domain.series import Kind
from klinefleet.workers.lake.footer import Footer, footer_in
from klinefleet.workers.lake.proof import checksum

#: Rows of a row group: a month of 1m candles is one, a month of 1s candles a few dozen.
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
        raise PartitionDamaged(
            f"{key}: it does not decode: {error}; it was left as it is"
        ) from error


def read_back(kind: Kind, body: bytes, key: str = "a partition") -> tuple[pl.DataFrame, Footer]:
    """Return a partition's rows and footer; PartitionDamaged where they are not those that were
    written and proved.
    """
    rows, footer = decode(body, key), footer_in(body, key)
    if list(rows.schema.items()) != list(SCHEMAS[kind].items()):
        raise PartitionDamaged(
            f"{key}: its columns are {rows.schema}, not those of {kind}; it was left as it is"
        )
    if footer.proof and (footer.proof.rows, footer.proof.checksum) != (rows.height, checksum(rows)):
        raise PartitionDamaged(
            f"{key}: its rows are not those that were proved when they were written; it was left "
            "as it is, "
            "`klines verify --repair` fetches them again"
        )
    return rows, footer
