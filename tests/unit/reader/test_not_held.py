"""What the lake does not hold is named or fetched by a fleet; it is never skipped."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from klinefleet.workers.domain.errors import (
    RangeNotHeld,
    RequestError,
    UnknownSymbol,
)
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.catalogs import catalog, entry
from tests.unit.helpers.small_lakes import (
    DECEMBER,
    FEBRUARY,
    JANUARY,
    NOW_MS,
    hold,
    hold_all,
    hours,
    reader,
    rows_at,
)


def test_a_range_that_is_not_held_is_refused_with_what_is_missing(store: Path) -> None:
    hold(store, hours(), rows_at([], step_ms=HOUR_MS), [Span(DECEMBER, JANUARY)])
    with pytest.raises(
        RangeNotHeld, match=r"um/klines/1h/BTCUSDT lacks 2024-01-01\.\.2024-01-20"
    ) as refused:
        reader(store).read("um", "BTCUSDT", "1h", "2023-12-05", "2024-01-20")
    assert refused.value.missing == {"BTCUSDT": [Span(JANUARY, utc_ms(2024, 1, 20))]}
    with pytest.raises(RangeNotHeld, match="2023-11-30"):
        reader(store).scan("um", "BTCUSDT", "1h", "2023-11-30")


def test_a_missing_month_in_the_middle_is_never_skipped(store: Path) -> None:
    hold_all(store, hours(), Span(DECEMBER, JANUARY))
    late = hold_all(store, hours(), Span(FEBRUARY, NOW_MS))
    with pytest.raises(RangeNotHeld, match=r"2024-01-01\.\.2024-02-01"):
        reader(store).read("um", "BTCUSDT", "1h")
    assert_frame_equal(reader(store).read("um", "BTCUSDT", "1h", "2024-01-10", partial=True), late)


def test_an_end_in_the_future_requests_only_closed_candles(store: Path) -> None:
    held = hold_all(store, hours(), Span(FEBRUARY, NOW_MS))
    assert_frame_equal(
        reader(store, NOW_MS + 1).read("um", "BTCUSDT", "1h", "2024-02-01", "2030-01-01"), held
    )
    with pytest.raises(RangeNotHeld):
        reader(store, NOW_MS + HOUR_MS).read("um", "BTCUSDT", "1h", "2024-02-01", "2030-01-01")


def test_a_gap_of_the_exchange_is_not_missing(store: Path) -> None:
    rows = rows_at(
        [*range(DECEMBER, DECEMBER + 5 * HOUR_MS, HOUR_MS), DECEMBER + 9 * HOUR_MS], step_ms=HOUR_MS
    )
    hold(store, hours(), rows, [Span(DECEMBER, JANUARY)])
    assert_frame_equal(reader(store).read("um", "BTCUSDT", "1h", "2023-12-01", "2024-01-01"), rows)


def test_time_before_listing_and_after_delisting_is_not_missing(
    store: Path, held: pl.DataFrame
) -> None:
    files = open_store(str(store))
    one = entry("BTCUSDT")
    dates = {"onboard_ms": DECEMBER, "first_ms": DECEMBER, "last_ms": FEBRUARY}
    Catalogs(files).store(
        catalog(type(one)(**{name: getattr(one, name) for name in one.__slots__} | dates))
    )
    assert_frame_equal(reader(store).read("um", "BTCUSDT", "1h", "2017-01-01", "2024-02-10"), held)


def test_an_unknown_symbol_is_named_with_similar_ones(store: Path, held: pl.DataFrame) -> None:
    with pytest.raises(
        UnknownSymbol, match=r"holds nothing of um/klines/1h/BTCUSD; did you mean BTCUSDT\?"
    ):
        reader(store).read("um", "BTCUSD", "1h", "2023-12-01")
    with pytest.raises(UnknownSymbol, match="it holds 1 other symbols"):
        reader(store).read("um", "XYZ", "1h")
    with pytest.raises(UnknownSymbol):
        reader(store).read("spot", "BTCUSDT", "1h")


def test_a_symbol_of_the_catalog_is_not_held_rather_than_unknown(
    store: Path, held: pl.DataFrame
) -> None:
    Catalogs(open_store(str(store))).store(catalog(entry("ETHUSDT")))
    with pytest.raises(RangeNotHeld, match="ETHUSDT lacks 2020-01-01"):
        reader(store).read("um", "ETHUSDT", "1h")


class Fleet:
    """A fleet that fetches what it is asked for, and knows when the symbol was listed."""

    def __init__(self, store: Path, lacks: Span | None = None) -> None:
        self.store, self.lacks = store, lacks
        self.requested: dict[Series, list[Span]] = {}

    def trading_span(self, series: Series) -> Span:
        return Span(DECEMBER, NOW_MS)

    def fetch(self, wanted: dict[Series, list[Span]]) -> None:
        self.requested |= wanted
        for series, spans in wanted.items():
            for span in spans:
                end_ms = self.lacks.start_ms if self.lacks else span.end_ms
                hold_all(self.store, series, Span(span.start_ms, end_ms))


def test_fetch_requests_only_what_is_missing(store: Path) -> None:
    hold_all(store, hours(), Span(DECEMBER, JANUARY))
    fleet = Fleet(store)
    lake = Reader(str(store), fetcher=fleet, clock=ManualClock(NOW_MS))
    rows = lake.read("um", ["BTCUSDT"], "1h", "2017-01-01", fetch=True)
    assert fleet.requested == {hours(): [Span(JANUARY, NOW_MS)]}
    assert rows.height == (NOW_MS - DECEMBER) // HOUR_MS
    assert [(part.span.start_ms, part.held) for part in lake.report.parts] == [
        (DECEMBER, "lake"),
        (JANUARY, "fetched"),
    ]
    fleet.requested = {}
    lake.read("um", ["BTCUSDT"], "1h", "2017-01-01", fetch=True)
    assert fleet.requested == {}


def test_what_the_fleet_could_not_fetch_is_named(store: Path) -> None:
    lake = Reader(
        str(store), fetcher=Fleet(store, lacks=Span(JANUARY, NOW_MS)), clock=ManualClock(NOW_MS)
    )
    with pytest.raises(RangeNotHeld, match=r"lacks 2024-01-01\.\.2024-02-15"):
        lake.read("um", "BTCUSDT", "1h", fetch=True)
    assert lake.read("um", "BTCUSDT", "1h", fetch=True, partial=True).height == 31 * 24


def test_a_reader_without_a_fleet_says_how_to_get_one(store: Path, held: pl.DataFrame) -> None:
    with pytest.raises(RequestError, match=r"tasks\.notebook\.reader"):
        reader(store).read("um", "BTCUSDT", "1h", fetch=True)
