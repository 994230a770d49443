"""A partition's footer: the time it covers and the origin of its rows, committed with the rows.

A minute without a row inside the covered time is a gap of the exchange; a minute outside has not
been fetched. The footer also has the proof of the rows (`proof.py`), unless an earlier version
wrote it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.series import Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.proof import Proof

#: The footer's entries: JSON lists of [start ms, end ms), and of [source, start ms, end ms, ETag,
#: content], UTC; and {rows, checksum, gaps, even}, gaps a list of [start ms, end ms) or null.
COVERAGE_KEY, SOURCES_KEY, PROOF_KEY = (
    "klinefleet.covered",
    "klinefleet.sources",
    "klinefleet.proof",
)

#: A footer of a month of 1m candles has about 6 kB; longer ones are read a second time.
TAIL_BYTES = 1 << 15
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The source of a span's rows; of an archive file its ETag and SHA-256 (16 hex digits) too."""

    span: Span
    source: Source
    etag: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Footer:
    """The covered time of a partition, its origins and its proof."""

    covered: tuple[Span, ...] = ()
    origins: tuple[Origin, ...] = ()
    proof: Proof | None = None
    """The proof of the rows as they were written; None in a partition of an earlier version."""

    def joined(self, covered: Iterable[Span], origins: Iterable[Origin]) -> Footer:
        """Return the footer with newer rows added, without a proof. Newer origins replace older."""
        return Footer(
            tuple(spans.union([*self.covered, *covered])), tuple(_overlaid(self.origins, origins))
        )

    def metadata(self) -> dict[str, str]:
        """Return the footer as Parquet's key-value metadata."""
        covered = [[span.start_ms, span.end_ms] for span in self.covered]
        origins = [
            [o.source, o.span.start_ms, o.span.end_ms, o.etag, o.content] for o in self.origins
        ]
        metadata = {COVERAGE_KEY: json.dumps(covered), SOURCES_KEY: json.dumps(origins)}
        if self.proof:
            metadata[PROOF_KEY] = json.dumps(_proof_fields(self.proof))
        return metadata

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Footer:
        """Return the footer of this metadata; ValueError or TypeError if it is not ours.

        Values that a later version adds at the end of a list, or under another key, are ignored.
        """
        covered = (_span(pair) for pair in json.loads(metadata.get(COVERAGE_KEY, "[]")))
        origins = (
            Origin(_span(rest), Source(source), *rest[2:4])
            for source, *rest in json.loads(metadata.get(SOURCES_KEY, "[]"))
        )
        return cls(
            tuple(covered), tuple(origins), _proof(json.loads(metadata.get(PROOF_KEY, "null")))
        )


def parse_footer(body: bytes, key: str = "a partition") -> Footer:
    """Return the footer in a partition's bytes, or in their end; else PartitionDamaged."""
    try:
        return Footer.from_metadata(pl.read_parquet_metadata(io.BytesIO(body)))
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        raise PartitionDamaged(
            f"{key}: its footer does not decode: {error}; it was left as it is"
        ) from error


def read_footer(
    tail: Callable[[int], bytes | None], key: str, *, tail_bytes: int = TAIL_BYTES
) -> Footer:
    """Return a partition's footer; an empty one if it has just been deleted.

    `tail` reads the last bytes of the partition, as many as it is given.
    """
    body = tail(tail_bytes)
    if body is None:
        return Footer()
    footer_bytes = int.from_bytes(body[-8:-4], "little") + 8
    if body[-4:] != _MAGIC:
        raise PartitionDamaged(
            f"{key}: no Parquet file, it ends in {body[-4:]!r}; it was left as it is"
        )
    if footer_bytes > len(body):
        body = tail(footer_bytes) or b""
    # Polars looks for the magic at both ends; it needs no rows.
    return parse_footer(body if body.startswith(_MAGIC) else _MAGIC + body, key)


def _proof_fields(proof: Proof) -> dict[str, Any]:
    gaps = None if proof.gaps is None else [[span.start_ms, span.end_ms] for span in proof.gaps]
    return {"rows": proof.rows, "checksum": proof.checksum, "gaps": gaps, "even": proof.is_on_grid}


def _span(values: list[Any]) -> Span:
    start_ms, end_ms, *_ = values
    return Span(start_ms, end_ms)


def _proof(fields: Any) -> Proof | None:
    if fields is None:
        return None
    gaps = None if fields.get("gaps") is None else tuple(_span(gap) for gap in fields["gaps"])
    return Proof(int(fields["rows"]), str(fields["checksum"]), gaps, bool(fields.get("even")))


def _overlaid(held: Iterable[Origin], new: Iterable[Origin]) -> list[Origin]:
    """Return both, where the newer replace the older, and neighbours of one origin are joined."""
    new = list(new)
    above = [origin.span for origin in new]
    pieces = [
        Origin(span, old.source, old.etag, old.content)
        for old in held
        for span in spans.gaps(above, old.span)
    ]
    by_origin: dict[tuple[Source, str, str], list[Span]] = {}
    for origin in (*pieces, *new):
        by_origin.setdefault((origin.source, origin.etag, origin.content), []).append(origin.span)
    return sorted(
        Origin(span, *origin) for origin, of_it in by_origin.items() for span in spans.union(of_it)
    )
