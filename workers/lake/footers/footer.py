"""A partition's footer: one record of the answers that cover its time, committed with the rows.

A minute without a row inside the covered time is a gap; a minute outside has not been fetched. The
record is JSON, under one key of Parquet's metadata:

    {"version": 2,
     "partition": "um/klines/1m/BTCUSDT/2024-01",
     "answers": [[start ms, end ms, source, asked ms, ETag, content], …],
     "oddities": [[start ms, end ms, fault, [source, …]], …],
     "proof": {"rows": …, "checksum": …, "gaps": [[start ms, end ms], …] or null, "even": …}}

Times are UTC. `source` is `monthly`, `daily`, `rest`, or a name that a newer version knows. What a
later version adds at the end of a list, or under another name, is ignored.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged, RequestError
from klinefleet.workers.domain.series import Partition, source_named
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers import format_1
from klinefleet.workers.lake.footers.answers import Answer, origins, trimmed, unconfirmed
from klinefleet.workers.lake.footers.oddities import Oddity, still_odd
from klinefleet.workers.lake.footers.proof import Proof, gaps_in, prove

logger = logging.getLogger(__name__)

#: The record's key, and its version.
FOOTER_KEY, VERSION = "klinefleet.partition", 2

#: A footer of a month of 1m candles has about 6 kB; longer ones are read a second time.
TAIL_BYTES = 1 << 15
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Footer:
    """The answers that cover a partition's time, and the proof of its rows."""

    answers: tuple[Answer, ...] = ()
    proof: Proof | None = None
    """The proof of the rows as they were written; None in a partition of an early version."""
    partition: Partition | None = None
    """Which partition it is of; None where a version wrote it that did not say so."""
    oddities: tuple[Oddity, ...] = ()
    """The rows with a faulty value that every source asked has so."""

    @property
    def covered(self) -> list[Span]:
        """The time that some answer covers, oldest first."""
        return spans.union(answer.span for answer in self.answers)

    def unconfirmed(self, gaps: Iterable[Span]) -> list[Span]:
        """Return the time of its gaps, and of its odd rows, that only one witness speaks of."""
        doubtful = [*gaps, *(oddity.span for oddity in self.oddities)]
        return unconfirmed(self.answers, doubtful) if doubtful else []

    @property
    def sound(self) -> list[Span]:
        """The covered time that has its rows, none of them odd; [] where the gaps are unknown."""
        if self.proof is None or self.proof.gaps is None:
            return []
        odd = (oddity.span for oddity in self.oddities)
        return spans.without(self.covered, [*self.proof.gaps, *odd])

    @property
    def origins(self) -> list[Answer]:
        """For each covered time the answer that its rows come from, oldest time first."""
        return origins(self.answers)

    def without(self, parts: Iterable[Span]) -> Footer:
        """Return the footer without some time, and without a proof."""
        parts = list(parts)
        left = (
            replace(answer, span=part)
            for answer in self.answers
            for part in spans.gaps(parts, answer.span)
        )
        return Footer(tuple(left), None, self.partition, self.oddities)

    def sealed(
        self,
        partition: Partition,
        rows: pl.DataFrame,
        answers: Iterable[Answer] = (),
        oddities: Iterable[Oddity] = (),
    ) -> Footer:
        """Return the footer of these rows, with further answers that they come from, and oddities
        that were found in these.
        """
        answers = [*self.answers, *answers]
        covered = spans.union(answer.span for answer in answers)
        gaps = [gap for span in covered for gap in gaps_in(partition.series, rows, span)]
        proof = prove(partition.series, rows, covered, gaps)
        odd = still_odd(partition.series, rows, [*self.oddities, *oddities])
        doubtful = spans.union([*gaps, *(oddity.span for oddity in odd)])
        return Footer(trimmed(answers, doubtful), proof, partition, tuple(odd))

    def metadata(self) -> dict[str, str]:
        """Return the footer as Parquet's key-value metadata."""
        record = {
            "version": VERSION,
            "partition": str(self.partition) if self.partition else None,
            "answers": [
                [a.span.start_ms, a.span.end_ms, a.source.name, a.asked_ms, a.etag, a.content]
                for a in self.answers
            ],
            "oddities": [
                [odd.span.start_ms, odd.span.end_ms, odd.what, odd.sources] for odd in self.oddities
            ],
            "proof": _proof_fields(self.proof) if self.proof else None,
        }
        return {FOOTER_KEY: json.dumps(record)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Footer:
        """Return the footer of this metadata, of this format or of format 1.

        ValueError, TypeError or KeyError if it is not ours.
        """
        if FOOTER_KEY not in metadata:
            proof = _proof(format_1.proof_of(metadata))
            return cls(tuple(sorted(format_1.answers_of(metadata))), proof)
        record = json.loads(metadata[FOOTER_KEY])
        return cls(
            tuple(_answer(*values) for values in record["answers"]),
            _proof(record["proof"]),
            _partition(record["partition"]),
            tuple(_oddity(*values) for values in record.get("oddities", ())),
        )


def parse_footer(body: bytes, key: str = "a partition") -> Footer:
    """Return the footer in a partition's bytes, or in their end; else PartitionDamaged.

    It is damaged, too, if it is the footer of another partition than the one of this key.
    """
    try:
        footer = Footer.from_metadata(pl.read_parquet_metadata(io.BytesIO(body)))
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        logger.debug("%s: its footer does not decode: %r", key, error)
        raise PartitionDamaged(
            f"{key}: its footer does not decode; it was left as it is"
        ) from error
    meant = keys.partition_of(key)
    if meant and footer.partition not in (None, meant):
        raise PartitionDamaged(
            f"{key}: it is the partition {footer.partition}, under another's name; it was left as "
            "it is"
        )
    return footer


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


def _partition(name: Any) -> Partition | None:
    if name is None:
        return None
    try:
        return Partition.parse(str(name))
    except RequestError as error:
        raise ValueError(f"{name!r} is no partition: {error}") from error


def _proof(fields: Any) -> Proof | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"{fields!r} is no proof")
    gaps = fields.get("gaps")
    found = None if gaps is None else tuple(Span(start, end) for start, end, *_ in gaps)
    return Proof(int(fields["rows"]), str(fields["checksum"]), found, bool(fields.get("even")))


def _oddity(start_ms: int, end_ms: int, what: str, sources: list[str], *_: Any) -> Oddity:
    return Oddity(Span(start_ms, end_ms), what, tuple(map(str, sources)))


def _answer(
    start_ms: int, end_ms: int, source: str, asked_ms: int, etag: str, content: str, *_: Any
) -> Answer:
    return Answer(Span(start_ms, end_ms), source_named(source), asked_ms, etag, content)
