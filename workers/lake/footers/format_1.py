"""Reads the footers of lakes of format 1; nothing writes them any more.

They have the covered time, the source of each part of it (once, without the time of asking), and
mostly a proof. They do not say which series and month they are of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import source_named
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.answers import UNRECORDED, Answer

#: JSON lists of [start ms, end ms), and of [source, start ms, end ms, ETag, content], UTC; and the
#: fields of a proof.
COVERAGE_KEY, SOURCES_KEY, PROOF_KEY = (
    "klinefleet.covered",
    "klinefleet.sources",
    "klinefleet.proof",
)


def answers_of(metadata: Mapping[str, str]) -> Iterator[Answer]:
    """Yield the answers that a footer of format 1 stands for: one for each covered time.

    ValueError, TypeError or KeyError where it is none.
    """
    covered = [_span(pair) for pair in json.loads(metadata.get(COVERAGE_KEY, "[]"))]
    recorded = list[Span]()
    for source, *rest in json.loads(metadata.get(SOURCES_KEY, "[]")):
        etag, content = [*rest[2:4], "", ""][:2]
        for part in spans.clip(covered, _span(rest)):
            recorded.append(part)
            yield Answer(part, source_named(str(source)), 0, etag, content)
    for part in spans.without(covered, recorded):
        yield Answer(part, UNRECORDED)


def proof_of(metadata: Mapping[str, str]) -> Any:
    """Return the fields of the proof; None where an even earlier version wrote the footer."""
    return json.loads(metadata.get(PROOF_KEY, "null"))


def _span(values: list[Any]) -> Span:
    start_ms, end_ms, *_ = values
    return Span(start_ms, end_ms)
