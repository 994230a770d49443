"""What the headers of a response say, and what is no number."""

from __future__ import annotations

import json

import pytest

from klinefleet.workers.binance.calls.answers import (
    body_fault,
    error_of_answer,
    parse_json,
    whole_number,
)
from klinefleet.workers.binance.calls.session import Answer
from klinefleet.workers.domain.errors import BadAnswer, Refused


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("2400", 2400), ("", None), ("-1", None), ("1.5", None), ("9" * 5000, None)],
)
def test_a_header_that_holds_no_number_of_a_usual_size_holds_none(
    text: str, number: int | None
) -> None:
    assert whole_number(text) == number


def test_an_announced_length_that_is_no_number_is_no_fault_of_the_answer() -> None:
    assert body_fault("um /time", Answer(200, {"Content-Length": "9" * 5000}, b"{}", 0)) is None
    assert body_fault("um /time", Answer(200, {"Content-Length": "3"}, b"{}", 0)) is not None


def test_an_answer_that_nests_without_end_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer, match="not JSON"):
        parse_json(b"[" * 200_000, list)
    assert isinstance(error_of_answer("um /time", Answer(400, {}, b"[" * 200_000, 0)), Refused)


@pytest.mark.parametrize(
    "before", [b"", b" ", b"\n\n", b"\r\n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]
)
def test_json_after_blanks_or_a_byte_order_mark_is_json(before: bytes) -> None:
    for body, shape in ((b'{"serverTime": 1}', dict), (b"[]", list)):
        assert error_of_answer("um /time", Answer(200, {}, before + body, 0)) is None
        assert parse_json(before + body, shape) == json.loads(body)
    for body in (b"", b"<html>", b"null", b"OK"):
        error = error_of_answer("um /time", Answer(200, {}, before + body, 0))
        assert error is not None
        assert "no JSON came" in str(error)
