"""What a partition's own footer tells: the time it covers and where its rows came from, committed
with the rows.

A minute inside the covered time that has no row is the exchange's own gap; a minute outside has not
been asked for. What the rows are proved by stands there too (`proof.py`), where this version of the
fleet wrote them.
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
    """Where the rows of a span came from; an archive file with the ETag and the SHA-256 (16 hex
    digits) it had.
    """

    span: Span
    source: Source
    etag: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a partition covers, and from where."""

    covered: tuple[Span, ...] = ()
    origins: tuple[Origin, ...] = ()
    proof: Proof | None = None
    """What the rows were when they were written; None in a partition of an earlier version."""

    def joined(self, covered: Iterable[Span], origins: Iterable[Origin]) -> Footer:
        """Return the footer with newer rows added, unproved: where both tell a span's origin, the
        newer one stands.
        """
        return Footer(
            tuple(spans.union([*self.covered, *covered])), tuple(_overlaid(self.origins, origins))
        )

    def metadata(self) -> dict[str, str]:
        """Return it as Parquet keeps it."""
        covered = [[span.start_ms, span.end_ms] for span in self.covered]
        origins = [
            [o.source, o.span.start_ms, o.span.end_ms, o.etag, o.content] for o in self.origins
        ]
        told = {COVERAGE_KEY: json.dumps(covered), SOURCES_KEY: json.dumps(origins)}
        return told if self.proof is None else {**told, PROOF_KEY: json.dumps(_plain(self.proof))}

    @classmethod
    def of(cls, metadata: dict[str, str]) -> Footer:
        """Return what `metadata` told; ValueError or TypeError where it is not ours.

        What a later version adds at the end of a list, or under a key of its own, is ignored.
        """
        covered = (_span(told) for told in json.loads(metadata.get(COVERAGE_KEY, "[]")))
        origins = (
            Origin(_span(rest), Source(source), *rest[2:4])
            for source, *rest in json.loads(metadata.get(SOURCES_KEY, "[]"))
        )
        return cls(
            tuple(covered), tuple(origins), _proof(json.loads(metadata.get(PROOF_KEY, "null")))
        )


def footer_in(body: bytes, key: str = "a partition") -> Footer:
    """Return a partition's footer, from its bytes or from their end."""
    try:
        return Footer.of(pl.read_parquet_metadata(io.BytesIO(body)))
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


def footer_of(
    tail: Callable[[int], bytes | None], key: str, *, tail_bytes: int = TAIL_BYTES
) -> Footer:
    """Return the footer of the partition whose last bytes `tail` reads; an empty one where it has
    just gone.
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
    # The reader looks for the magic at both ends; rows are not needed.
    return footer_in(body if body.startswith(_MAGIC) else _MAGIC + body, key)


def _plain(proof: Proof) -> dict[str, Any]:
    gaps = None if proof.gaps is None else [[span.start_ms, span.end_ms] for span in proof.gaps]
    return {"rows": proof.rows, "checksum": proof.checksum, "gaps": gaps, "even": proof.is_even}


def _span(told: list[Any]) -> Span:
    start_ms, end_ms, *_ = told
    return Span(start_ms, end_ms)


def _proof(told: Any) -> Proof | None:
    if told is None:
        return None
    gaps = None if told.get("gaps") is None else tuple(_span(gap) for gap in told["gaps"])
    return Proof(int(told["rows"]), str(told["checksum"]), gaps, bool(told.get("even")))


def _overlaid(held: Iterable[Origin], new: Iterable[Origin]) -> list[Origin]:
    """Return the origins of both, the newer on top, neighbours of one origin joined."""
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
