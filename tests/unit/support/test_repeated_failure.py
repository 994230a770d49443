"""What fails again and again is told in bounds."""

from __future__ import annotations

import io
import logging

import pytest

from klinefleet.workers.support.log import MOST_ALIKE, BoundedHandler, RepeatedFailure

logger = logging.getLogger("klinefleet.tests.failure")


def test_a_trouble_is_told_when_it_begins_changes_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    failure = RepeatedFailure(logger, "heartbeat", clock=lambda: now_s)
    failure.succeeded()
    for reason in ("away",) * 200 + ("full",) * 48 + ("",) * 3:
        now_s += 1
        failure.failed(reason) if reason else failure.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        "heartbeat fails, trying again: away",
        "heartbeat fails, trying again: full",
        "heartbeat works again after 248 s",
    ]


def test_messages_alike_are_written_some_times_a_minute_and_then_counted() -> None:
    now_s, out = 0.0, io.StringIO()
    handler = BoundedHandler(out, clock=lambda: now_s)
    own = logging.Logger("own")
    own.addHandler(handler)
    for number in range(248):
        own.warning("window %d failed", number)
    own.warning("another one")
    own.info("news")
    lines = out.getvalue().splitlines()
    assert lines[:MOST_ALIKE] == [f"window {number} failed" for number in range(MOST_ALIKE)]
    assert lines[MOST_ALIKE:] == ["another one", "news"]
    now_s = 61.0
    own.info("later")
    more = f"{248 - MOST_ALIKE:,} more messages like the last ones of own in the last minute"
    assert out.getvalue().splitlines()[MOST_ALIKE + 2 :] == [more, "later"]


def test_news_is_never_left_out() -> None:
    out = io.StringIO()
    own = logging.Logger("own")
    own.addHandler(BoundedHandler(out, clock=lambda: 0.0))
    for number in range(100):
        own.info("row %d", number)
    assert len(out.getvalue().splitlines()) == 100
