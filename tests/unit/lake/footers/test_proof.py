"""A partition's proof detects every changed value, lost row and confirmed gap."""

from __future__ import annotations

import struct

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.lake.footers import proof
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.footers.proof import Proof, checksum, prove, reconstruct_times
from tests.answers import footer_of
from tests.unit.helpers.klines import MINUTES, frame, minutes, opens

TEN = minutes(0, 10)
ROWS = frame(opens(TEN))


def flipped(value: float, bit: int) -> float:
    number = struct.unpack("<Q", struct.pack("<d", value))[0] ^ (1 << bit)
    changed: float = struct.unpack("<d", struct.pack("<Q", number))[0]
    return changed


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["open", "high", "low", "close", "volume"]),
    st.integers(0, 9),
    st.integers(0, 63),
)
def test_no_bit_of_a_value_can_change_unseen(column: str, row: int, bit: int) -> None:
    values = ROWS[column].to_list()
    values[row] = flipped(values[row], bit)
    assert checksum(ROWS.with_columns(pl.Series(column, values, dtype=pl.Float64))) != checksum(
        ROWS
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 63))
def test_the_same_bit_of_two_values_cannot_change_unseen(first: int, second: int, bit: int) -> None:
    """Faulty memory damages the same bit repeatedly: two changes must not cancel out."""
    values = ROWS["open"].to_list()
    for row in {first, second}:
        values[row] = flipped(values[row], bit)
    assert checksum(ROWS.with_columns(pl.Series("open", values, dtype=pl.Float64))) != checksum(
        ROWS
    )


@pytest.mark.parametrize("apart", [1, 1 << 11, 1 << 15, 40_000])
def test_values_of_a_column_that_change_places_are_seen_however_far_apart_they_are(
    apart: int,
) -> None:
    volumes = [1.0] * 50_000
    volumes[0], volumes[apart] = 2.0, 4.0
    changed = [4.0, *volumes[1:apart], 2.0, *volumes[apart + 1 :]]
    assert checksum(pl.DataFrame({"volume": changed})) != checksum(
        pl.DataFrame({"volume": volumes})
    )


def test_rows_in_another_order_have_another_checksum() -> None:
    assert checksum(ROWS.reverse()) != checksum(ROWS)


def test_the_checksum_is_the_same_for_ever() -> None:
    rows = pl.DataFrame(
        {"a": [1.5, None, -0.0], "n": [1, 2, None]}, schema={"a": pl.Float64, "n": pl.Int64}
    )
    assert checksum(rows) == "4db36fc9594c8a90"


def test_the_exchanges_own_gaps_are_told_and_time_that_was_not_asked_for_is_none() -> None:
    rows = frame([*opens(minutes(0, 3)), *opens(minutes(5, 10))])
    assert prove(MINUTES, rows, [TEN]) == Proof(
        8, checksum(rows), (minutes(3, 5),), is_on_grid=True
    )
    assert prove(MINUTES, rows, [minutes(0, 3), minutes(5, 10)]).gaps == ()


def test_more_gaps_than_a_footer_tells_are_not_told_in_part() -> None:
    rows = frame([opens(minutes(n, n + 1))[0] for n in range(0, 4 * proof.MAX_GAPS, 2)])
    assert prove(MINUTES, rows, [minutes(0, 4 * proof.MAX_GAPS)]).gaps is None


def test_a_proof_survives_the_way_through_the_footer() -> None:
    for proved in (prove(MINUTES, ROWS, [minutes(0, 12)]), Proof(1, "0" * 16, None), None):
        told = footer_of(TEN, proof=proved)
        assert Footer.from_metadata(told.metadata()) == told


@settings(max_examples=60, deadline=None)
@given(
    held=st.sets(st.integers(0, 200), max_size=150),
    cuts=st.lists(st.integers(0, 210), min_size=2, max_size=6, unique=True).map(sorted),
    late=st.sampled_from([None, None, 7]),
)
def test_times_are_told_as_they_are_or_not_at_all(
    held: set[int], cuts: list[int], late: int | None
) -> None:
    """Gaps, covered time in pieces, and a candle off its minute, as there were some in 2018."""
    covered = [minutes(start, end) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]
    times = [
        at
        for n in sorted(held)
        for span in covered
        for at in [opens(minutes(n, n + 1))[0]]
        if at in opens(span)
    ]
    times = [at + (17 if n == late else 0) for n, at in enumerate(times)]
    rows = frame(times)
    told = reconstruct_times(MINUTES, covered, prove(MINUTES, rows, covered))
    assert (told is None) == (late is not None and late < len(times))
    assert told is None or told.equals(rows["open_time"])
