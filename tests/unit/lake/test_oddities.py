"""Odd rows: what every source has is kept, marked in the footer, and no fault."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from klinefleet.workers.domain.series import Source
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import What
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.oddities import Oddity
from klinefleet.workers.lake.integrity import check
from klinefleet.workers.lake.partition_codec import decode, encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.answers import ASKED_MS
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, minutes, opens
from tests.unit.helpers.sound import rows_at

HOUR = minutes(0, 60)
SOUND = rows_at(MINUTES, opens(HOUR))
KEY = keys.partition(JANUARY)
BY_REST = Answer(HOUR, Source.REST, ASKED_MS)
BY_DAY = Answer(HOUR, Source.DAILY, ASKED_MS + 1, "e", "c")


def with_minutes(rows: pl.DataFrame, *numbers: int, **values: float) -> pl.DataFrame:
    """Return the rows with other values in some minutes."""
    times = pl.col("open_time").dt.timestamp("ms")
    here = times.is_in([JANUARY_MS + n * 60_000 for n in numbers])
    return rows.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


ODD = with_minutes(SOUND, 7, 8, 30, taker_buy_volume=1e6)
TAKER = str(What.TAKER)
ODDITIES = [
    Oddity(minutes(7, 9), TAKER, ("daily", "rest")),
    Oddity(minutes(30, 31), TAKER, ("rest",)),
]


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def test_they_are_written_and_read_back_as_they_are() -> None:
    footer = Footer().sealed(JANUARY, ODD, [BY_REST], ODDITIES)
    assert footer.oddities == tuple(ODDITIES)
    assert parse_footer(encode(ODD, footer), KEY) == footer
    assert footer.sealed(JANUARY, ODD) == footer


def test_a_marked_row_is_no_fault_and_an_unmarked_one_is() -> None:
    marked = encode(ODD, Footer().sealed(JANUARY, ODD, [BY_REST], ODDITIES))
    assert check(JANUARY, marked).faults == []
    in_part = encode(ODD, Footer().sealed(JANUARY, ODD, [BY_REST], ODDITIES[:1]))
    assert [(f.what, f.span) for f in check(JANUARY, in_part).faults] == [
        (What.TAKER, minutes(30, 31))
    ]


def test_a_row_is_marked_for_what_is_wrong_with_it_and_for_nothing_else() -> None:
    worse = with_minutes(ODD, 7, low=-1.0)
    body = encode(worse, Footer().sealed(JANUARY, worse, [BY_REST], ODDITIES))
    assert {f.what for f in check(JANUARY, body).faults} == {What.PRICE}


def test_what_is_said_to_be_odd_and_is_sound_is_not_marked() -> None:
    assert Footer().sealed(JANUARY, SOUND, [BY_REST], ODDITIES).oddities == ()
    mended = with_minutes(ODD, 7, taker_buy_volume=1.0)
    assert Footer().sealed(JANUARY, mended, [BY_REST], ODDITIES).oddities == (
        Oddity(minutes(8, 9), TAKER, ("daily", "rest")),
        ODDITIES[1],
    )


def test_sources_that_come_later_are_named_beside_the_first() -> None:
    first = Footer().sealed(JANUARY, ODD, [BY_REST], [Oddity(HOUR, TAKER, ("rest",))])
    later = first.sealed(JANUARY, ODD, [BY_DAY], [Oddity(minutes(7, 9), TAKER, ("daily",))])
    assert later.oddities == tuple(ODDITIES)


def test_an_odd_row_has_all_of_its_witnesses_kept_and_one_alone_does_not_confirm_it() -> None:
    first = Footer().sealed(JANUARY, ODD, [BY_REST], ODDITIES)
    assert first.unconfirmed([]) == [minutes(7, 9), minutes(30, 31)]
    both = first.sealed(JANUARY, ODD, [Answer(minutes(0, 20), Source.DAILY, ASKED_MS + 1)])
    assert both.unconfirmed([]) == [minutes(30, 31)]
    assert first.sound == [minutes(0, 7), minutes(9, 30), minutes(31, 60)]


def test_a_sound_row_replaces_an_odd_one_and_no_other_row_is_replaced(files: ObjectStore) -> None:
    partitions = Partitions(files)
    partitions.merge(JANUARY, ODD, [BY_REST], oddities=ODDITIES)
    others = with_minutes(with_minutes(ODD, 7, taker_buy_volume=1.0), 20, open=100.5)
    partitions.merge(JANUARY, others, [BY_DAY])
    body = files.read(KEY) or b""
    assert decode(body).equals(with_minutes(ODD, 7, taker_buy_volume=1.0))
    assert parse_footer(body, KEY).oddities[0].span == minutes(8, 9)
    assert check(JANUARY, body).faults == []


def test_a_footer_without_oddities_reads_as_before() -> None:
    footer = Footer().sealed(JANUARY, SOUND, [BY_REST])
    text = footer.metadata()["klinefleet.partition"].replace('"oddities": [], ', "")
    assert "oddities" not in text
    assert Footer.from_metadata({"klinefleet.partition": text}) == footer
