"""Every fault of a partition is reported under its own name; a sound one has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, MINUTE_MS
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.footers.footer import FOOTER_KEY, Footer
from klinefleet.workers.lake.integrity import check
from klinefleet.workers.lake.partition_codec import encode
from tests.answers import footer_of
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, minutes, opens
from tests.unit.helpers.sound import partition, proved_footer, rows_at

HOUR = minutes(0, 60)
ROWS = rows_at(MINUTES, opens(HOUR))
SOUND = partition(ROWS, [HOUR])
FUNDING = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
EVENTS = rows_at(FUNDING, [JANUARY_MS + n * 8 * HOUR_MS + n % 4 for n in range(93)])
OTHERS = [
    Series(Market.USD_M, MARK_PRICE_KLINES, Interval.M1, "BTCUSDT"),
    Series(Market.COIN_M, INDEX_PRICE_KLINES, Interval.M1, "BTCUSD"),
    Series(Market.USD_M, PREMIUM_INDEX_KLINES, Interval.M1, "BTCUSDT"),
    Series(Market.SPOT, KLINES, Interval.S1, "BTCUSDT"),
    Series(Market.SPOT, KLINES, Interval.D1, "BTCUSDT"),
    Series(Market.SPOT, KLINES, Interval.W1, "BTCUSDT"),
    Series(Market.SPOT, KLINES, Interval.MO1, "BTCUSDT"),
]


def faults(body: bytes, series: Series = MINUTES) -> list[Fault]:
    return check(series.partition(JANUARY_MS), body).faults


def names(found: list[Fault]) -> set[What]:
    return {fault.what for fault in found}


def with_value(rows: pl.DataFrame, at: int, **values: object) -> pl.DataFrame:
    """The rows with other values in one of them."""
    here = pl.int_range(pl.len()) == at
    return rows.with_columns(
        pl.when(here)
        .then(pl.lit(value))
        .otherwise(pl.col(name))
        .cast(rows.schema[name])
        .alias(name)
        for name, value in values.items()
    )


def moment(minute: int, **later: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minute, **later)


def moved(rows: pl.DataFrame, minute: int) -> pl.DataFrame:
    """One row, opening at another minute of January."""
    return rows.with_columns(
        open_time=pl.lit(moment(minute)).cast(rows.schema["open_time"]),
        close_time=pl.lit(moment(minute, seconds=59)).cast(rows.schema["close_time"]),
    )


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def a_value_that_decodes(body: bytes) -> bytes:
    """The file with a bit flipped where it decodes all the same."""
    found = (flipped(body, at) for at in Random(7).sample(range(4, len(body) // 2), 200))
    return next(bad for bad in found if names(faults(bad)) <= {What.CHECKSUM} and faults(bad))


def a_page_that_does_not_decode(body: bytes) -> bytes:
    return body[:200] + b"\xff" * 400 + body[600:]


def with_footer(**fields: object) -> bytes:
    """The sound partition with other fields in its footer."""

    class Other(Footer):
        def metadata(self) -> dict[str, str]:
            return {FOOTER_KEY: json.dumps(json.loads(super().metadata()[FOOTER_KEY]) | fields)}

    sound = proved_footer(ROWS, [HOUR])
    return encode(ROWS, Other(sound.answers, sound.proof))


def lost_row(rows: int) -> bytes:
    """Return a partition that lost a row; its proof counts `rows`, with a fitting checksum."""
    left = ROWS.filter(pl.int_range(pl.len()) != 7)
    footer = proved_footer(left, [HOUR])
    assert footer.proof
    return encode(left, replace(footer, proof=replace(footer.proof, rows=rows, gaps=())))


def made(rows: pl.DataFrame) -> bytes:
    return partition(rows, [HOUR])


def drifted(rows: pl.DataFrame) -> bytes:
    """A partition of other columns than ours, which have no proof."""
    return encode(rows, footer_of(HOUR))


ROW_7 = minutes(7, 8)
PLANTED: dict[str, tuple[Callable[[], bytes], What, Span | None]] = {
    "truncated": (lambda: SOUND[: len(SOUND) // 2], What.DAMAGED, None),
    "no Parquet": (lambda: b"<html>503</html>", What.DAMAGED, None),
    "empty file": (lambda: b"", What.DAMAGED, None),
    "page": (lambda: a_page_that_does_not_decode(SOUND), What.DAMAGED, None),
    "flipped bit": (lambda: a_value_that_decodes(SOUND), What.CHECKSUM, None),
    "footer": (lambda: with_footer(answers=[[1, 2]]), What.FOOTER, None),
    "footer's proof": (lambda: with_footer(proof={"rows": 1}), What.FOOTER, None),
    "rows": (
        lambda: with_footer(proof={"rows": 61, "checksum": "0", "gaps": []}),
        What.ROWS,
        None,
    ),
    "lost minute": (lambda: lost_row(59), What.GAP, ROW_7),
    "duplicate": (lambda: made(pl.concat([ROWS[:8], ROWS[7:]])), What.DUPLICATES, ROW_7),
    "disorder": (
        lambda: made(pl.concat([ROWS[:7], ROWS[8:9], ROWS[7:8], ROWS[9:]])),
        What.DISORDER,
        ROW_7,
    ),
    "high too low": (lambda: made(with_value(ROWS, 7, high=100.1)), What.OHLC, ROW_7),
    "low too high": (lambda: made(with_value(ROWS, 7, low=100.9)), What.OHLC, ROW_7),
    "no price": (lambda: made(with_value(ROWS, 7, low=0.0)), What.PRICE, ROW_7),
    "null": (lambda: made(with_value(ROWS, 7, close=None)), What.MISSING, ROW_7),
    "nan": (lambda: made(with_value(ROWS, 7, low=float("nan"))), What.MISSING, ROW_7),
    "infinite": (lambda: made(with_value(ROWS, 7, volume=float("inf"))), What.MISSING, ROW_7),
    "no time": (lambda: made(with_value(ROWS, 7, open_time=None)), What.MISSING, None),
    "negative volume": (lambda: made(with_value(ROWS, 7, volume=-1.0)), What.NEGATIVE, ROW_7),
    "negative count": (lambda: made(with_value(ROWS, 7, count=-1)), What.NEGATIVE, ROW_7),
    "taker": (lambda: made(with_value(ROWS, 7, taker_buy_volume=10.1)), What.TAKER, ROW_7),
    "taker quote": (
        lambda: made(with_value(ROWS, 7, taker_buy_quote_volume=1000.1)),
        What.TAKER,
        ROW_7,
    ),
    "closes late": (lambda: made(with_value(ROWS, 7, close_time=moment(8))), What.CLOSE, ROW_7),
    "closes before its open": (
        lambda: made(with_value(ROWS, 7, close_time=moment(6))),
        What.CLOSE,
        ROW_7,
    ),
    "another month": (
        lambda: made(pl.concat([ROWS, moved(ROWS[:1], 31 * 1440)])),
        What.PERIOD,
        None,
    ),
    "not covered": (
        lambda: made(pl.concat([ROWS, moved(ROWS[:1], 60)])),
        What.UNCOVERED,
        minutes(60, 61),
    ),
    "coverage": (lambda: partition(ROWS, [minutes(-9, 60)]), What.COVERAGE, minutes(-9, 0)),
    "time column missing": (lambda: drifted(ROWS.drop("open_time")), What.SCHEMA, None),
    "column more": (lambda: drifted(ROWS.with_columns(ignore=pl.lit(0))), What.SCHEMA, None),
    "column's type": (lambda: drifted(ROWS.cast({"count": pl.Float64})), What.SCHEMA, None),
    "column's unit": (
        lambda: drifted(ROWS.cast({"open_time": pl.Datetime("us", "UTC")})),
        What.SCHEMA,
        None,
    ),
    "columns' order": (lambda: drifted(ROWS.select(reversed(ROWS.columns))), What.SCHEMA, None),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_by_its_name_in_its_place_and_nothing_else_is(name: str) -> None:
    plant, what, span = PLANTED[name]
    found = faults(plant())
    if what in (What.PERIOD, What.COVERAGE):
        # What is outside leaves a minute of another month, or time without rows, that is told as it
        # is.
        found = [fault for fault in found if fault.what is not What.GAP]
    assert names(found) == {what}
    assert len(found) == 1
    assert found[0].span == (minutes(31 * 1440, 31 * 1440 + 1) if what is What.PERIOD else span)
    assert found[0].detail


def test_a_partition_of_an_earlier_version_with_a_column_less_has_no_fault() -> None:
    older = ROWS.drop("count")
    checked = check(JANUARY, encode(older, proved_footer(older, [HOUR])))
    assert checked.faults == []
    assert checked.rows is not None
    assert checked.rows.schema == ROWS.schema
    assert checked.rows["count"].is_null().all()


def test_a_column_that_was_lost_since_it_was_proved_is_a_fault() -> None:
    lost = encode(ROWS.drop("count"), proved_footer(ROWS, [HOUR]))
    assert [fault.what for fault in faults(lost)] == [What.CHECKSUM]


def test_nothing_more_is_said_of_rows_that_are_not_those_that_were_proved() -> None:
    left = ROWS.filter(pl.int_range(pl.len()) != 7)
    assert [fault.what for fault in faults(encode(left, proved_footer(ROWS, [HOUR])))] == [
        What.ROWS
    ]


def test_without_a_proof_a_lost_row_is_not_told_from_the_exchanges_own_gap() -> None:
    left = ROWS.filter(pl.int_range(pl.len()) != 7)
    assert faults(encode(left, footer_of(HOUR))) == []


FUNDING_FAULTS: dict[str, tuple[pl.DataFrame, What]] = {
    "disorder": (EVENTS[[0, 2, 1, *range(3, 93)]], What.DISORDER),
    "twice in a minute": (
        pl.concat(
            [
                EVENTS[:1],
                EVENTS[:1].with_columns(pl.col("calc_time").dt.offset_by("900ms")),
                EVENTS[1:],
            ]
        ),
        What.DUPLICATES,
    ),
    "no rate": (with_value(EVENTS, 3, last_funding_rate=None), What.MISSING),
    "infinite rate": (with_value(EVENTS, 3, last_funding_rate=float("inf")), What.MISSING),
    "mark price": (with_value(EVENTS, 3, mark_price=-1.0), What.PRICE),
    "hours": (with_value(EVENTS, 3, funding_interval_hours=0), What.NEGATIVE),
}


@pytest.mark.parametrize("name", FUNDING_FAULTS)
def test_a_fault_of_funding_events_is_found_by_its_name(name: str) -> None:
    rows, what = FUNDING_FAULTS[name]
    found = faults(partition(rows, [JANUARY.span], FUNDING), FUNDING)
    assert [fault.what for fault in found] == [what]


def test_funding_events_that_leave_open_what_their_source_does_not_tell_are_sound() -> None:
    assert faults(partition(EVENTS, [JANUARY.span], FUNDING), FUNDING) == []
    of_rest = EVENTS.with_columns(
        funding_interval_hours=pl.lit(None, pl.Int64), mark_price=pl.lit(42.0)
    )
    assert faults(partition(of_rest, [JANUARY.span], FUNDING), FUNDING) == []


@pytest.mark.parametrize("series", OTHERS, ids=str)
def test_sound_rows_of_every_kind_and_interval_have_no_fault(series: Series) -> None:
    bounds = series.partition(JANUARY_MS).span
    interval = series.interval
    first = interval.ceil(bounds.start_ms)
    count = min(5_000, interval.opens(bounds.start_ms, bounds.end_ms))
    times = [interval.advance(first, n) for n in range(count)]
    covered = Span(bounds.start_ms, min(bounds.end_ms, interval.advance(first, count)))
    assert faults(partition(rows_at(series, times), [covered], series), series) == []


def test_a_premium_below_zero_is_no_fault_and_any_other_price_is() -> None:
    below = dict.fromkeys(("open", "high", "low", "close"), -0.5)
    for series in OTHERS[:3]:
        rows = with_value(rows_at(series, opens(HOUR)), 7, **below)
        expected = [] if series.kind is PREMIUM_INDEX_KLINES else [What.PRICE]
        assert [fault.what for fault in faults(partition(rows, [HOUR], series), series)] == expected


def test_what_the_exchange_rounds_up_in_the_last_place_is_no_taker_volume_over_volume() -> None:
    rounded = with_value(
        ROWS, 7, taker_buy_volume=10.00000001, taker_buy_quote_volume=1000.00000001
    )
    assert faults(made(rounded)) == []


def test_candles_off_their_minute_and_close_times_cut_short_are_the_exchanges_own() -> None:
    """Spot, February 2018: trading began again 14.789 s past the minute after an outage.

    In September 2017 the last candle before an outage closed as it opened.
    """
    cut = with_value(
        with_value(ROWS[:8], 7, close_time=moment(7, milliseconds=14_788)), 3, close_time=moment(3)
    )
    late = rows_at(MINUTES, [at + 14_789 for at in opens(minutes(20, 60))])
    assert faults(made(pl.concat([cut, late]))) == []


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 299)),
    st.lists(st.tuples(st.integers(0, 280), st.integers(1, 20)), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_clean_partition_has_no_fault_wherever_the_exchange_has_gaps(
    gone: set[int], asked: list[tuple[int, int]], has_proof: bool
) -> None:
    covered = [minutes(start, start + length) for start, length in sorted(asked)]
    merged = spans.union(covered)
    times = [
        at for span in merged for at in opens(span) if (at - JANUARY_MS) // MINUTE_MS not in gone
    ]
    rows = rows_at(MINUTES, times)
    footer = proved_footer(rows, merged)
    assert faults(encode(rows, footer if has_proof else replace(footer, proof=None))) == []


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7), st.booleans())
def test_no_flipped_bit_changes_a_value_unseen_where_there_is_a_proof(
    where: int, bit: int, has_proof: bool
) -> None:
    sound = SOUND if has_proof else encode(ROWS, footer_of(HOUR))
    at = where % len(sound)
    checked = check(JANUARY, sound[:at] + bytes([sound[at] ^ (1 << bit)]) + sound[at + 1 :])
    assert (
        checked.faults or not has_proof or (checked.rows is not None and checked.rows.equals(ROWS))
    )


def test_faulty_rows_are_told_run_by_run_and_very_many_runs_as_one() -> None:
    two = made(with_value(with_value(ROWS, 7, low=0.0), 30, low=0.0))
    assert [fault.span for fault in faults(two)] == [minutes(7, 8), minutes(30, 31)]
    every_other = ROWS.with_columns(
        low=pl.when(pl.int_range(pl.len()) % 2 == 0).then(0.0).otherwise("low")
    )
    (fault,) = faults(made(every_other))
    assert (fault.rows, fault.span) == (30, minutes(0, 59))


def test_a_fault_is_one_line_that_names_partition_rows_time_and_first_values() -> None:
    (fault,) = faults(made(with_value(ROWS, 7, high=99.0)))
    key = "lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT/2024-01.parquet"
    assert str(fault).startswith(
        f"{key}: high or low out of bounds, 1 rows, 2024-01-01T00:07..2024-01-01T00:08: "
        "2024-01-01T00:07 open 100.25"
    )
    assert "high 99.0" in str(fault)
    assert "\n" not in str(fault)
