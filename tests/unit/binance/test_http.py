"""What the headers of a response say, and what is no number."""

from __future__ import annotations

import pytest

from klinefleet.workers.binance.http import truncated, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("2400", 2400), ("", None), ("-1", None), ("1.5", None), ("9" * 5000, None)],
)
def test_a_header_that_holds_no_number_of_a_usual_size_holds_none(
    text: str, number: int | None
) -> None:
    assert whole_number(text) == number


def test_an_announced_length_that_is_no_number_is_no_fault_of_the_answer() -> None:
    assert truncated("um /time", {"Content-Length": "9" * 5000}, b"{}") is None
    assert truncated("um /time", {"Content-Length": "3"}, b"{}") is not None
