"""Answers that cover a partition's time, for tests that make partitions themselves."""

from __future__ import annotations

from klinefleet.workers.domain.series import Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.footers.proof import Proof

#: When the sources were asked.
ASKED_MS = utc_ms(2026)
ETAG, CONTENT = "etag", "0123456789abcdef"


def covering(*spans: Span) -> tuple[Answer, ...]:
    """Return an answer of a monthly file for each span."""
    return tuple(Answer(span, Source.MONTHLY, ASKED_MS, ETAG, CONTENT) for span in spans)


def confirming(*spans: Span) -> tuple[Answer, ...]:
    """Return answers of a monthly and a daily file for each span: two witnesses of its gaps."""
    days = (Answer(span, Source.DAILY, ASKED_MS, ETAG, CONTENT) for span in spans)
    return *covering(*spans), *days


def footer_of(*spans: Span, proof: Proof | None = None) -> Footer:
    """Return the footer of a partition that covers these spans."""
    return Footer(covering(*spans), proof)
