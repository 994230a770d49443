from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from klinefleet.workers.binance.decode import decode_pages
from klinefleet.workers.domain.errors import BadAnswer
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.timestamps import MINUTE_MS
from tests.unit.helpers.klines import JANUARY_MS, body, minutes, opens, row, times_of

FLOATS = {
    1: "open",
    2: "high",
    3: "low",
    4: "close",
    5: "volume",
    7: "quote_volume",
    9: "taker_buy_volume",
}
FLOATS[10] = "taker_buy_quote_volume"

decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,25}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(decimals, min_size=1, max_size=40))
@example(
    [
        "0.1",
        "0.3",
        "9007199254740993.0",
        "0.000000000000000000000001",
        "123456789.12345678901234567890",
    ]
)
@example(
    [
        "2.22507385850720138",
        "1.7976931348623157",
        "179769313486231580793.0",
        "4.35",
        "0.49999999999999994",
    ]
)
def test_prices_are_exactly_the_floats_that_python_reads(texts: list[str]) -> None:
    rows = (row(JANUARY_MS + n * MINUTE_MS, price=text) for n, text in enumerate(texts))
    page = f"[{','.join(rows)}]".encode()
    assert decode_pages(KLINES, [page])["open"].to_list() == [float(text) for text in texts]


def test_every_column_lands_under_its_own_name() -> None:
    rng = random.Random(1)
    rows = []
    for at in opens(minutes(0, 50)):
        told = [f"{rng.uniform(-9, 9e5):.{rng.randint(1, 12)}f}" for _ in range(8)]
        rows.append(
            [at, *told[:5], at + 59_999, told[5], rng.randrange(10**6), told[6], told[7], "0"]
        )
    got = decode_pages(KLINES, [json.dumps(rows, separators=(",", ":")).encode()])
    assert got.schema == schema_of(KLINES)
    for index, name in FLOATS.items():
        assert got[name].to_list() == [float(r[index]) for r in rows], name
    assert times_of(got) == [r[0] for r in rows]
    assert got["close_time"].dt.timestamp("ms").to_list() == [r[6] for r in rows]
    assert got["count"].to_list() == [r[8] for r in rows]


def test_whole_numbers_and_zeros_are_values_like_any_other() -> None:
    got = decode_pages(
        KLINES, [body([JANUARY_MS], price="0"), body([JANUARY_MS + MINUTE_MS], price="-0.0")]
    )
    assert got["open"].to_list() == [0.0, 0.0]
    assert math.copysign(1, got["open"][1]) == -1


@pytest.mark.parametrize("bodies", [[], [b"[]"], [b"[]", b"[]"]])
def test_no_rows_give_an_empty_frame_of_the_lakes_columns(bodies: list[bytes]) -> None:
    got = decode_pages(KLINES, bodies)
    assert got.is_empty()
    assert got.schema == schema_of(KLINES)


def test_empty_pages_among_full_ones_lose_no_row() -> None:
    first, second = minutes(0, 3), minutes(7, 9)
    got = decode_pages(KLINES, [b"[]", body(opens(first)), b"[]", body(opens(second)), b"[]"])
    assert times_of(got) == [*opens(first), *opens(second)]


def test_thousands_of_rows_keep_the_order_they_came_in() -> None:
    spans = [minutes(n * 499, (n + 1) * 499) for n in range(40)]
    got = decode_pages(KLINES, (body(opens(span)) for span in reversed(spans)))
    assert times_of(got) == [at for span in reversed(spans) for at in opens(span)]


ROW = row(JANUARY_MS)
NEXT = row(JANUARY_MS + MINUTE_MS)
SPOILT = {
    "an empty price": ROW.replace('"42000.10"', '""'),
    "a price with two points": ROW.replace("42000.10", "42.000.10"),
    "a price with a sign inside": ROW.replace("42000.10", "42-000"),
    "a sign alone": ROW.replace("42000.10", "-"),
    "a point alone": ROW.replace("42000.10", "."),
    "a count with a fraction": ROW.replace(",17,", ",1.7,"),
    "no count": ROW.replace(",17,", ",,"),
    "a count too large": ROW.replace(",17,", ",99999999999999999999,"),
    "no open time": ROW.replace(str(JANUARY_MS), "", 1),
    "no close time": ROW.replace(str(JANUARY_MS + 59_999), ""),
    "an extra column": ROW[:-1] + ',"1"]',
    "two columns less": ROW[: ROW.rindex(',"', 0, ROW.rindex(',"'))] + "]",
    "a word": ROW.replace("42000.10", "NULL"),
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_row_with_a_value_that_is_missing_or_none_is_never_merged(what: str, place: str) -> None:
    rows = [SPOILT[what], NEXT] if place == "first" else [NEXT, SPOILT[what]]
    with pytest.raises(BadAnswer, match="nothing was merged"):
        decode_pages(KLINES, [f"[{','.join(rows)}]".encode()])
