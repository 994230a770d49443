"""Pages of klines to a frame, in bulk: the JSON's brackets and quotes are cut away and the rest is read as CSV."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from workers.errors import BadAnswer
from workers.model import Kind
from workers.schema import SCHEMAS

_KLINES = SCHEMAS[Kind.KLINES]
#: As the exchange spells them: moments are whole milliseconds, and a twelfth column means nothing.
_WIRE = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in _KLINES.items()}
_WIRE["ignore"] = pl.String()
_UNQUOTED = b'"[]'


def decode_pages(bodies: Iterable[bytes]) -> pl.DataFrame:
    """Return the candles of REST pages in the lake's columns, in the order they came.

    BadAnswer where a value does not parse or a row lacks one. The bodies have passed `pages.inspect`.
    """
    lines = b"\n".join(body.replace(b"],[", b"\n") for body in bodies if body != b"[]").translate(None, _UNQUOTED)
    if not lines:
        return _KLINES.to_frame()
    try:
        frame = pl.read_csv(lines, has_header=False, schema=_WIRE, quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise BadAnswer(f"rows that are no klines: {error}; nothing was merged") from error
    frame = frame.drop("ignore").cast(_KLINES)
    if frame.null_count().sum_horizontal().item():
        raise BadAnswer("rows of klines that lack a value; nothing was merged")
    return frame
