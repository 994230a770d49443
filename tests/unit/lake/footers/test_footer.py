from __future__ import annotations

import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.footer import FOOTER_KEY, Footer, parse_footer, read_footer
from klinefleet.workers.lake.footers.proof import checksum
from klinefleet.workers.lake.partition_codec import encode
from tests.answers import ASKED_MS, CONTENT, ETAG, covering, footer_of
from tests.unit.helpers.klines import JANUARY, frame, minutes, opens

ROWS = frame(opens(minutes(0, 3)))


def tail_of(body: bytes) -> tuple[list[int], object]:
    """A reader of the end of `body`, and the sizes it was asked for."""
    asked: list[int] = []

    def tail(size: int) -> bytes:
        asked.append(size)
        return body[-size:]

    return asked, tail


@settings(max_examples=50, deadline=None)
@given(st.lists(st.builds(Span, st.integers(0, 2**45), st.integers(0, 2**45)), max_size=30))
def test_coverage_survives_the_way_through_the_footer(several: list[Span]) -> None:
    told = spans.union(several)
    body = encode(ROWS, footer_of(*told))
    assert list(parse_footer(body).covered) == told
    assert list(read_footer(lambda size: body[-size:], "key").covered) == told


def test_a_small_footer_is_read_in_one_go() -> None:
    asked, tail = tail_of(encode(ROWS, footer_of(minutes(0, 3))))
    assert list(read_footer(tail, "key").covered) == [minutes(0, 3)]  # type: ignore[arg-type]
    assert len(asked) == 1


def test_a_footer_longer_than_the_tail_is_read_a_second_time_and_whole() -> None:
    told = [minutes(n * 2, n * 2 + 1) for n in range(3000)]
    body = encode(ROWS, footer_of(*told))
    footer_bytes = int.from_bytes(body[-8:-4], "little") + 8
    asked, tail = tail_of(body)
    assert list(read_footer(tail, "key").covered) == told  # type: ignore[arg-type]
    assert footer_bytes > asked[0]
    assert asked[1:] == [footer_bytes]


@pytest.mark.parametrize("tail_bytes", [12, 100, 700, 1_000_000])
def test_coverage_is_the_same_whatever_part_of_the_file_is_read_first(tail_bytes: int) -> None:
    body = encode(ROWS, footer_of(minutes(0, 3)))
    found = read_footer(lambda size: body[-size:], "key", tail_bytes=tail_bytes)
    assert list(found.covered) == [minutes(0, 3)]


def test_a_partition_that_has_just_gone_covers_nothing() -> None:
    assert list(read_footer(lambda _: None, "key").covered) == []


@pytest.mark.parametrize("body", [b"", b"PAR", b"<html>no such bucket</html>", b"PAR1 but cut off"])
def test_what_is_no_parquet_is_named_and_left_as_it_is(body: bytes) -> None:
    with pytest.raises(PartitionDamaged, match=r"lake/x\.parquet: no Parquet file.*left as it is"):
        read_footer(lambda size: body[-size:], "lake/x.parquet")


def test_a_parquet_file_of_somebody_else_covers_nothing() -> None:
    foreign = io.BytesIO()
    ROWS.write_parquet(foreign)
    assert list(parse_footer(foreign.getvalue()).covered) == []


def test_the_record_is_plain_json_that_any_program_can_read() -> None:
    span = minutes(0, 3)
    footer = Footer().sealed(JANUARY, ROWS, covering(span))
    record = json.loads(pl.read_parquet_metadata(io.BytesIO(encode(ROWS, footer)))[FOOTER_KEY])
    assert record == {
        "version": 2,
        "partition": "um/klines/1m/BTCUSDT/2024-01",
        "answers": [[span.start_ms, span.end_ms, "monthly", ASKED_MS, ETAG, CONTENT]],
        "oddities": [],
        "proof": {"rows": 3, "checksum": checksum(ROWS), "gaps": [], "even": True},
    }
