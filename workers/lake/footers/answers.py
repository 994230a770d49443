"""The answers that a partition's time is covered by: what each source said, and when.

An answer is a witness of its whole span: of the rows that it had, and of the minutes for which it
had none. Answers may overlap. Where several have a time, the one asked last tells the origin of the
rows; the older ones are kept only where there is no row, as further witnesses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Source
from klinefleet.workers.domain.spans import Span

#: Answers that a footer lists one by one. More, as of a series that is updated every hour, are
#: joined with their neighbours.
MAX_ANSWERS = 256

#: The source of time that an early version covered without saying from where.
UNRECORDED = Source("unrecorded")


@dataclass(frozen=True, slots=True, order=True)
class Answer:
    """What one source said of a span."""

    span: Span
    source: Source
    asked_ms: int = 0
    """When it was asked, by the exchange's clock, ms UTC; 0 where that is unknown."""
    etag: str = ""
    """Of an archive file."""
    content: str = ""
    """Of an archive file: the first 16 hex digits of its SHA-256."""


def trimmed(answers: Iterable[Answer], gaps: Sequence[Span]) -> tuple[Answer, ...]:
    """Return the answers without what later ones say better, by span.

    `gaps` are the parts of the covered time without a row, or with an odd one: there every answer
    is kept. The result does not depend on the order of the answers.
    """
    kept, above = dict[Answer, list[Span]](), list[Span]()
    for answer in sorted(answers, key=_precedence, reverse=True):
        parts = spans.union([*spans.gaps(above, answer.span), *spans.clip(gaps, answer.span)])
        kept.setdefault(replace(answer, span=_ANYWHERE), []).extend(parts)
        above = spans.union([*above, answer.span])
    pieces = sorted(
        replace(answer, span=part) for answer, parts in kept.items() for part in spans.union(parts)
    )
    return tuple(pieces if len(pieces) <= MAX_ANSWERS else _joined(pieces, gaps))


def origins(answers: Iterable[Answer]) -> list[Answer]:
    """Return for each covered time the answer that its rows come from, oldest time first."""
    found, above = list[Answer](), list[Span]()
    for answer in sorted(answers, key=_precedence, reverse=True):
        found += [replace(answer, span=part) for part in spans.gaps(above, answer.span)]
        above = spans.union([*above, answer.span])
    return sorted(found)


def unconfirmed(answers: Iterable[Answer], parts: Iterable[Span]) -> list[Span]:
    """Return the time of `parts` that fewer than two witnesses speak of, oldest first.

    Each call of a source that answers any time is one witness; all editions of an archive file are
    one. A source that covers only what it saw is none.
    """
    by_witness: dict[tuple[Source, int], list[Span]] = {}
    for answer in answers:
        if answer.source.is_witness:
            call = answer.asked_ms if answer.source.answers_any_time else 0
            by_witness.setdefault((answer.source, call), []).append(answer.span)
    changes = Counter[int]()
    for spoken in by_witness.values():
        for span in spans.union(spoken):
            changes[span.start_ms] += 1
            changes[span.end_ms] -= 1
    moments = sorted(changes)
    counts = accumulate(changes[ms] for ms in moments)
    stretches = zip(pairwise(moments), counts, strict=False)
    return spans.without(parts, (Span(*bounds) for bounds, count in stretches if count > 1))


_ANYWHERE = Span(0, 0)


def _precedence(answer: Answer) -> tuple[int, int, Answer]:
    return answer.asked_ms, answer.source.trust, answer


def _joined(pieces: Sequence[Answer], gaps: Sequence[Span]) -> list[Answer]:
    """Return the answers with neighbours of one source as one, where no row is missing of them.

    The joined answer counts as asked when the later one was.
    """
    joined = [pieces[0]]
    for _, piece in pairwise(pieces):
        last = joined[-1]
        is_alike = (last.source, last.etag, last.content) == (
            piece.source,
            piece.etag,
            piece.content,
        )
        both = Span(last.span.start_ms, max(last.span.end_ms, piece.span.end_ms))
        if is_alike and piece.span.start_ms <= last.span.end_ms and not spans.clip(gaps, both):
            asked_ms = max(last.asked_ms, piece.asked_ms)
            joined[-1] = replace(last, span=both, asked_ms=asked_ms)
        else:
            joined.append(piece)
    return joined
