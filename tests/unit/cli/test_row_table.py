"""What the screen shows of rows."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from rich.cells import cell_len

from klinefleet.tasks.cli.output.row_table import (
    preview,
    render_description,
    render_rows,
    screen_width,
)
from klinefleet.tasks.cli.output.text_table import TextColumn, table_lines
from tests.unit.helpers.klines import frame, minutes, opens

ROWS = frame(opens(minutes(0, 100)))


def parts(*heights: int) -> Iterator[pl.DataFrame]:
    yield ROWS.clear()
    start = 0
    for height in heights:
        yield ROWS.slice(start, height)
        start += height


@pytest.mark.parametrize(
    ("head", "tail"), [(None, None), (3, 4), (0, 4), (60, 60), (200, 1), (0, 0), (None, 2), (7, 0)]
)
def test_both_ends_are_shown_and_no_row_twice_lazy_or_in_parts(
    head: int | None, tail: int | None
) -> None:
    seen = [
        preview(rows, head, tail)
        for rows in (ROWS.lazy(), parts(1, 50, 49), parts(100), parts(97, 2, 1))
    ]
    first = 5 if head is tail is None else head or 0
    last = min(5 if head is tail is None else tail or 0, max(0, 100 - first))
    for one in seen:
        assert one.head.equals(ROWS.head(first))
        assert one.tail.equals(ROWS.tail(last))
        assert one.row_count == 100


def test_the_first_rows_alone_are_read_without_counting_the_others() -> None:
    seen = preview(ROWS.lazy(), 3, None)
    assert (seen.head.height, seen.tail.height, seen.row_count) == (3, 0, None)
    assert render_rows(seen, 200).splitlines()[-1].startswith("the first 3 rows")


@pytest.mark.parametrize("width", [20, 80, 120, 200])
def test_no_line_of_the_table_is_wider_than_the_screen(width: int) -> None:
    lines = render_rows(preview(ROWS.lazy(), None, None), width).splitlines()
    assert max(cell_len(line) for line in lines) <= max(width, len("taker_buy_quote_volume"))
    below = " ".join(lines[1 + 5 + 1 + 5 :])
    assert below.startswith("100 rows")
    assert ("not shown" in below) is (width < 200)


def test_every_column_is_shown_on_a_pipe_and_no_line_is_wrapped() -> None:
    heading, *_, summary = render_rows(preview(ROWS.lazy(), None, None), None).splitlines()
    assert heading.split() == ROWS.columns
    assert summary == "100 rows"


def test_the_width_is_the_terminals_or_columns_and_none_on_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen_width() is None
    monkeypatch.setenv("COLUMNS", "91")
    assert screen_width() == 91


def test_numbers_of_a_column_have_their_points_below_each_other_and_nothing_is_rounded_away() -> (
    None
):
    told = pl.DataFrame(
        {
            "price": [1.5, 0.00001234, 12345678.0, None, float("nan")],
            "flag": [True, False, None, True, True],
        }
    )
    lines = render_rows(preview(told.lazy(), None, None), 80).splitlines()[1:-1]
    assert [line.split() for line in lines] == [
        ["1.50000000", "true"],
        ["0.00001234", "false"],
        ["12345678.00000000", "-"],
        ["-", "true"],
        ["nan", "true"],
    ]
    assert len({line.index(".") for line in lines[:3]}) == 1


def test_wide_letters_do_not_push_what_follows_out_of_its_column() -> None:
    told = pl.DataFrame({"symbol": ["币安人生USDT", "BTCUSDT"], "close": [1, 22]})
    lines = render_rows(preview(told.lazy(), None, None), 80).splitlines()[:3]
    assert {cell_len(line) for line in lines} == {len("symbol") + 2 * 4 + 4 - 6 + 6 + 1}


def test_moments_are_shown_to_what_they_need() -> None:
    for unit, shown in [
        ("1d", "2024-01-02"),
        ("1h", "2024-01-01 01:00"),
        ("1s", "2024-01-01 00:00:01"),
        ("1ms", ".001"),
    ]:
        times = pl.select(
            pl.datetime(2024, 1, 1, time_zone="UTC")
            .dt.cast_time_unit("ms")
            .dt.offset_by(f"{unit}")
            .alias("t")
        )
        assert shown in render_rows(preview(times.lazy(), None, None), 80)


def test_a_description_has_the_ends_and_the_mean_of_each_column() -> None:
    told = pl.DataFrame({"close": [1.0, 2.5, None], "symbol": ["B", "A", "A"]}).lazy()
    lines = [line.split() for line in render_description(told, 80).splitlines()]
    assert lines == [
        ["close", "symbol"],
        ["count", "2", "3"],
        ["nulls", "1", "0"],
        ["min", "1.0", "A"],
        ["mean", "1.75", "-"],
        ["max", "2.5", "B"],
        ["2", "columns"],
    ]


def test_a_description_of_no_rows_says_so() -> None:
    assert [
        line.split()[:3] for line in render_description(ROWS.clear().lazy(), 80).splitlines()[1:4]
    ] == [
        ["count", "0", "0"],
        ["nulls", "0", "0"],
        ["min", "-", "-"],
    ]


def test_a_cell_with_control_characters_is_one_line_of_printable_text() -> None:
    column = TextColumn("na\x1bme", ["a\nb", "\u202etxt.exe", "plain"])
    assert table_lines([column]) == [r"na\u001bme", r"a\nb", r"\u202etxt.exe", "plain"]
