from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.binance.decode import decode_pages
from klinefleet.workers.binance.page_check import PageFacts, inspect
from klinefleet.workers.domain.errors import BadAnswer
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, body, minutes, opens, row

HOUR = minutes(0, 60)
PAGE = Page(HOUR, 60, 1)
LATER_MS = utc_ms(2024, 6)
FULL = body(opens(HOUR))


def facts(answer: bytes, *, page: Page = PAGE, server_ms: int | None = LATER_MS) -> PageFacts:
    return inspect(answer, page, MINUTES, server_ms)


def test_a_full_page_is_final_to_its_end() -> None:
    assert facts(FULL) == PageFacts(60, HOUR.end_ms)


def test_an_empty_page_is_an_answer_and_not_the_end_of_the_data() -> None:
    assert facts(b"[]") == PageFacts(0, HOUR.end_ms)


def test_a_page_with_missing_minutes_is_accepted_for_its_whole_span() -> None:
    assert facts(body([*opens(minutes(3, 5)), *opens(minutes(50, 58))])) == PageFacts(
        10, HOUR.end_ms
    )


def test_an_open_off_the_minute_is_no_reason_to_reject() -> None:
    """Spot, 2018-02-09: candles opened 14 seconds past the minute."""
    assert facts(body(at + 14_789 for at in opens(HOUR))) == PageFacts(60, HOUR.end_ms)


def test_a_close_time_cut_short_before_an_outage_is_no_reason_to_reject() -> None:
    last = minutes(7, 8).start_ms
    answer = f"[{row(last - MINUTE_MS)},{row(last, close_ms=last + 12_345)}]".encode()
    assert facts(answer) == PageFacts(2, HOUR.end_ms)


def test_prices_may_be_negative() -> None:
    assert facts(body(opens(HOUR), price="-0.00012")).rows == 60


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(1, len(FULL) - 1))
def test_a_truncated_page_is_never_accepted(cut: int) -> None:
    with pytest.raises(BadAnswer):
        facts(FULL[:cut])


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(1, len(FULL) - 1))
def test_the_end_of_a_page_alone_is_never_accepted(cut: int) -> None:
    with pytest.raises(BadAnswer):
        facts(FULL[cut:])


@settings(max_examples=70, deadline=None)
@given(at=st.integers(0, len(FULL) - 1), byte=st.sampled_from(b'[]{},"x \n\0\xff'))
def test_a_byte_that_is_no_digit_in_the_wrong_place_is_never_accepted(at: int, byte: int) -> None:
    spoilt = FULL[:at] + bytes([byte]) + FULL[at + 1 :]
    if spoilt != FULL:
        with pytest.raises(BadAnswer):
            facts(spoilt)


ROW = row(JANUARY_MS)
SHAPES = {
    "nothing": "",
    "html": "<html><body>Please accept the terms</body></html>",
    "an object": '{"code":-1121,"msg":"Invalid symbol."}',
    "a number": "17",
    "null": "null",
    "an empty row": "[[]]",
    "a row without its list": ROW,
    "a list in a list": f"[[{ROW}]]",
    "an extra column": f"[{ROW[:-1]},1]]",
    "a lacking column": f"[{ROW[: ROW.rindex(',')]}]]"[:-1],
    "a number unquoted": f"[{ROW.replace(chr(34), '', 2)}]",
    "a count in quotes": f"[{ROW.replace(',17,', ',' + chr(34) + '17' + chr(34) + ',')}]",
    "an exponent": f"[{ROW.replace('1.500', '1.5e3')}]",
    "not a number": f"[{ROW.replace('1.500', 'NaN')}]",
    "a null": f"[{ROW.replace(chr(34) + '1.500' + chr(34), 'null')}]",
    "a space": f"[{ROW}, {row(JANUARY_MS + MINUTE_MS)}]",
    "an extra comma": f"[{ROW},]",
    "microseconds": f"[{ROW.replace(str(JANUARY_MS), str(JANUARY_MS * 1000))}]",
    "seconds": f"[{ROW.replace(str(JANUARY_MS), str(JANUARY_MS // 1000))}]",
    "a page and another": f"[{ROW}][{row(JANUARY_MS + MINUTE_MS)}]",
    "an empty list in a list": "[[],[]]",
    "an empty list with a space": "[ ]",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_is_refused_and_shown(shape: str) -> None:
    answer = SHAPES[shape].encode()
    with pytest.raises(BadAnswer) as refused:
        facts(answer)
    assert "nothing was kept" in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "answered",
    [minutes(-1, 59), minutes(1, 61), minutes(-5, -1), minutes(60, 62), minutes(-1, 61)],
    ids=["one early", "one late", "all before", "all after", "both"],
)
def test_rows_outside_the_window_are_refused(answered: Span) -> None:
    with pytest.raises(BadAnswer, match="other rows than were asked for"):
        facts(body(opens(answered)), page=Page(HOUR, 1000, 2))


def test_more_rows_than_were_asked_for_are_refused() -> None:
    with pytest.raises(BadAnswer, match="60 rows"):
        facts(FULL, page=Page(HOUR, 59, 1))


def test_rows_from_new_to_old_are_refused() -> None:
    with pytest.raises(BadAnswer):
        facts(body(reversed(opens(HOUR))))


@pytest.mark.parametrize(
    ("server_ms", "final"),
    [
        (HOUR.end_ms - MINUTE_MS, 59),
        (HOUR.end_ms - 1, 59),
        (HOUR.end_ms - 1000, 59),
        (HOUR.end_ms, 60),
        (HOUR.end_ms + 1, 60),
    ],
)
def test_the_last_candle_counts_only_once_the_exchanges_clock_is_past_it(
    server_ms: int, final: int
) -> None:
    assert facts(FULL, server_ms=server_ms) == PageFacts(final, HOUR.start_ms + final * MINUTE_MS)


def test_a_page_that_reaches_into_the_future_is_final_to_the_present_only() -> None:
    half = minutes(0, 30)
    now_ms = half.end_ms + 20_000
    with_open_candle = body(opens(minutes(0, 31)))
    assert facts(with_open_candle, server_ms=now_ms) == PageFacts(30, half.end_ms)
    assert facts(body(opens(half)), server_ms=now_ms) == PageFacts(30, half.end_ms)


def test_an_empty_page_speaks_only_for_the_time_that_has_passed() -> None:
    assert facts(b"[]", server_ms=HOUR.start_ms + 90_000) == PageFacts(0, HOUR.start_ms + MINUTE_MS)
    assert facts(b"[]", server_ms=HOUR.start_ms - 90_000) == PageFacts(0, HOUR.start_ms)


def test_an_open_candle_cut_short_is_never_final_and_neither_is_time_from_it_on() -> None:
    """Its close time is in the future, whatever minute the clock shows."""
    now_ms = minutes(30, 31).start_ms + 10_000
    last = minutes(29, 30).start_ms + 45_000
    answer = f"[{row(last - MINUTE_MS)},{row(last)}]".encode()
    assert facts(answer, server_ms=now_ms) == PageFacts(1, last)


@settings(max_examples=70, deadline=None)
@given(
    rows=st.integers(0, 60),
    server_ms=st.integers(HOUR.start_ms - MINUTE_MS, HOUR.end_ms + 2 * MINUTE_MS),
)
def test_no_candle_that_may_still_change_is_ever_called_final(rows: int, server_ms: int) -> None:
    sent = [at for at in opens(minutes(0, rows)) if at <= server_ms]
    told = facts(body(sent) if sent else b"[]", server_ms=server_ms)
    closed = [at for at in sent if at + MINUTE_MS - 1 < server_ms - server_ms % 1000]
    assert told.rows == len(closed)
    assert HOUR.start_ms <= told.end_ms <= max(HOUR.start_ms, min(HOUR.end_ms, server_ms))
    assert [at for at in sent if at < told.end_ms] == closed


def test_without_the_exchanges_clock_the_page_is_taken_as_it_is() -> None:
    assert facts(FULL, server_ms=None) == PageFacts(60, HOUR.end_ms)


@pytest.mark.parametrize(("before", "after"), [(b"\n", b"\n"), (b"\xef\xbb\xbf\r\n ", b" \t")])
def test_blanks_around_a_page_change_nothing(before: bytes, after: bytes) -> None:
    assert facts(before + FULL + after) == facts(FULL)
    assert facts(before + b"[]" + after) == facts(b"[]")
    bodies = [before + FULL + after, before + b"[]" + after]
    assert decode_pages(MINUTES.kind, bodies).equals(decode_pages(MINUTES.kind, [FULL]))
