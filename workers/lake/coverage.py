"""Coverage: the time that was asked and answered, kept in the partition's own footer, so it commits with its rows.

A minute inside it that has no row is the exchange's own gap; a minute outside it has not been asked for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import polars as pl

from workers.errors import PartitionDamaged
from workers.model import Span

#: Name of the footer's entry: a JSON list of [start ms, end ms), UTC.
COVERAGE_KEY = "klinefleet.covered"

#: A footer of a month of 1m candles has about 6 kB; longer ones are read a second time.
_TAIL_BYTES = 1 << 15
_MAGIC = b"PAR1"


def covered_in(body: bytes) -> list[Span]:
    """Return what a partition covers, from its bytes or from their end."""
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(body))
        return [Span(*pair) for pair in json.loads(metadata.get(COVERAGE_KEY, "[]"))]
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise PartitionDamaged(f"a partition's footer does not decode: {error}; it was left as it is") from error


def coverage_of(tail: Callable[[int], bytes | None], key: str) -> list[Span]:
    """Return what the partition covers whose last bytes `tail` reads; nothing where it has just gone."""
    body = tail(_TAIL_BYTES)
    if body is None:
        return []
    footer_bytes = int.from_bytes(body[-8:-4], "little") + 8
    if body[-4:] != _MAGIC:
        raise PartitionDamaged(f"{key}: no Parquet file, it ends in {body[-4:]!r}; it was left as it is")
    if footer_bytes > len(body):
        body = tail(footer_bytes) or b""
    # The reader looks for the magic at both ends; rows are not needed.
    return covered_in(body if body.startswith(_MAGIC) else _MAGIC + body)
