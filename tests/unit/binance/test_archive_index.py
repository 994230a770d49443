from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.archive_index import FRESH_S, ArchiveIndex, ArchiveIndexCache
from klinefleet.workers.binance.archive_names import folder
from klinefleet.workers.domain.errors import (
    BadAnswer,
    Firewalled,
    FleetError,
    NotPublished,
    Restricted,
    ServerFault,
    Unreachable,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.support.retry import ARCHIVE_LISTING
from tests.unit.helpers.in_process_fleet import FakeArchive

MINUTES = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
DAYS = Series(Market.SPOT, KLINES, Interval.D1, "BTCUSDT")
FUNDING = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
MONTHLY_ONLY = [
    FUNDING,
    *(
        Series(Market.SPOT, KLINES, interval, "BTCUSDT")
        for interval in (Interval.D3, Interval.W1, Interval.MO1)
    ),
]


class Faulty(FakeArchive):
    """Answers with these faults first, one a question."""

    def __init__(self, faults: Iterable[FleetError] = ()) -> None:
        super().__init__()
        self.faults = list(faults)

    def _note(self, what: str) -> None:
        super()._note(what)
        if self.faults:
            raise self.faults.pop(0)


def holding(series: Series, *periods: str, faults: Iterable[FleetError] = ()) -> Faulty:
    archive = Faulty(faults)
    for period in periods:
        archive.publish(series, period)
    return archive


def index_of(
    archive: FakeArchive, series: Series, pauses: list[float] | None = None
) -> ArchiveIndex:
    return ArchiveIndex(
        cast("Archive", archive), series, sleep=(list[float]() if pauses is None else pauses).append
    )


def life_of(index: ArchiveIndex) -> Span | None:
    """Return the time from the first file to the end of the last."""
    first, end_ms = index.first_file(), index.last_end_ms()
    return Span(first.start_ms, end_ms) if first and end_ms else None


def test_each_listing_is_asked_for_once() -> None:
    archive = holding(MINUTES, "2024-01", "2024-02", "2024-02-28", "2024-03-01", "2024-03-02")
    index = index_of(archive, MINUTES)
    for _ in range(3):
        assert list(index.monthly()) == ["2024-01", "2024-02"]
        assert list(index.daily("2024-03")) == ["2024-03-01", "2024-03-02"]
        assert list(index.daily("2024-02")) == ["2024-02-28"]
        assert index.daily("2024-04") == {}
    assert archive.asked == [
        f"list {MINUTES} monthly ",
        f"list {MINUTES} daily 2024-03",
        f"list {MINUTES} daily 2024-02",
        f"list {MINUTES} daily 2024-04",
    ]


def test_what_is_on_the_shelf_are_the_files_of_its_series_alone() -> None:
    archive = holding(MINUTES, "2024-01")
    archive.publish(DAYS, "2024-02")
    (published,) = index_of(archive, MINUTES).monthly().values()
    assert (published.file.series, published.file.source, published.etag) == (
        MINUTES,
        Source.MONTHLY,
        "1",
    )


@pytest.mark.parametrize("series", MONTHLY_ONLY, ids=str)
def test_daily_files_that_are_never_made_are_not_asked_for(series: Series) -> None:
    archive = holding(series, "2024-01")
    index = index_of(archive, series)
    assert index.daily("2024-01") == {}
    assert life_of(index) == Span(utc_ms(2024, 1), utc_ms(2024, 2))
    assert life_of(index_of(holding(series), series)) is None
    assert archive.asked == [f"list {series} monthly "]


@pytest.mark.parametrize(
    "fault", [Unreachable("x"), ServerFault("x"), BadAnswer("x"), Firewalled("x")]
)
def test_a_listing_that_fails_for_a_moment_is_asked_for_again(fault: FleetError) -> None:
    archive = holding(MINUTES, "2024-01", faults=[fault] * (ARCHIVE_LISTING.tries - 1))
    pauses = list[float]()
    assert list(index_of(archive, MINUTES, pauses).monthly()) == ["2024-01"]
    assert len(archive.asked) == ARCHIVE_LISTING.tries
    assert len(pauses) == ARCHIVE_LISTING.tries - 1
    assert all(0 <= pause <= ARCHIVE_LISTING.max_pause_s for pause in pauses)


def test_a_listing_that_keeps_failing_is_given_up_and_not_remembered() -> None:
    archive = holding(MINUTES, "2024-01", faults=[ServerFault("503")] * ARCHIVE_LISTING.tries)
    index = index_of(archive, MINUTES)
    with pytest.raises(ServerFault, match="503"):
        index.monthly()
    assert len(archive.asked) == ARCHIVE_LISTING.tries
    assert list(index.monthly()) == ["2024-01"]


@pytest.mark.parametrize("fault", [Restricted("451"), NotPublished("404")])
def test_an_answer_that_stays_the_same_is_not_asked_for_twice(fault: FleetError) -> None:
    archive = holding(MINUTES, "2024-01", faults=[fault])
    with pytest.raises(type(fault)):
        index_of(archive, MINUTES).monthly()
    assert len(archive.asked) == 1


@pytest.mark.parametrize(
    ("periods", "life"),
    [
        ([], None),
        (["2024-01"], Span(utc_ms(2024, 1), utc_ms(2024, 2))),
        (["2023-11", "2024-02"], Span(utc_ms(2023, 11), utc_ms(2024, 3))),
        (["2023-12", "2024-01-01", "2024-01-17"], Span(utc_ms(2023, 12), utc_ms(2024, 1, 18))),
        (["2024-01", "2024-01-30"], Span(utc_ms(2024, 1, 30), utc_ms(2024, 1, 31))),
        (["2024-01", "2024-01-01", "2024-01-09"], Span(utc_ms(2024, 1), utc_ms(2024, 1, 10))),
        (["2018-01", "2024-01-09"], Span(utc_ms(2018, 1), utc_ms(2024, 1, 10))),
        (["2023-12", "2024-01-31", "2024-02-01"], Span(utc_ms(2023, 12), utc_ms(2024, 2, 2))),
        (["2023-12-31", "2024-01-05"], Span(utc_ms(2023, 12, 31), utc_ms(2024, 1, 6))),
    ],
)
def test_a_life_reaches_from_the_first_file_to_the_end_of_the_last(
    periods: list[str], life: Span | None
) -> None:
    assert life_of(index_of(holding(MINUTES, *periods), MINUTES)) == life


def test_a_life_costs_three_listings_and_none_of_them_of_all_days_where_there_are_months() -> None:
    archive = holding(MINUTES, "2017-08", "2023-12", "2024-01-05")
    life_of(index_of(archive, MINUTES))
    assert archive.asked == [
        f"list {MINUTES} monthly ",
        f"keys {folder(MINUTES, Source.DAILY)}",
        f"keys {folder(MINUTES, Source.DAILY)}",
    ]


@pytest.mark.parametrize(
    ("periods", "first"),
    [
        (["2020-01", "2019-12-31"], Span(utc_ms(2019, 12, 31), utc_ms(2020))),
        (["2020-01", "2020-01-08"], Span(utc_ms(2020, 1, 8), utc_ms(2020, 1, 9))),
        (["2020-01", "2020-02-08"], Span(utc_ms(2020), utc_ms(2020, 2))),
    ],
)
def test_the_first_file_is_the_day_that_reaches_as_far_back_as_the_first_month(
    periods: list[str], first: Span
) -> None:
    assert index_of(holding(MINUTES, *periods), MINUTES).first_file() == first


def test_candles_of_days_live_to_their_last_day_though_their_partitions_are_years() -> None:
    days = Series(Market.SPOT, KLINES, Interval.D1, "BTCUSDT")
    assert life_of(index_of(holding(days, "2023-12", "2024-01-05"), days)) == Span(
        utc_ms(2023, 12), utc_ms(2024, 1, 6)
    )


def test_a_life_is_not_told_by_half_an_answer() -> None:
    archive = holding(MINUTES, "2023-12", "2024-01-05")
    index = index_of(archive, MINUTES)
    index.monthly()
    archive.faults = [Restricted("451")]
    with pytest.raises(Restricted):
        life_of(index)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def indexes_of(
    archive: FakeArchive, clock: Clock | None = None, **limits: int
) -> ArchiveIndexCache:
    return ArchiveIndexCache(lambda: cast("Archive", archive), clock or Clock(), **limits)


def test_a_listing_is_believed_while_it_is_fresh_and_asked_for_again_after() -> None:
    archive, clock = holding(MINUTES, "2024-01"), Clock()
    indexes = indexes_of(archive, clock)
    assert list(indexes.get(MINUTES).monthly()) == ["2024-01"]
    archive.publish(MINUTES, "2024-02")
    clock.now = FRESH_S
    assert list(indexes.get(MINUTES).monthly()) == ["2024-01"]
    clock.now += 0.1
    assert list(indexes.get(MINUTES).monthly()) == ["2024-01", "2024-02"]
    clock.now += FRESH_S
    indexes.get(MINUTES).monthly()
    assert len(archive.asked) == 2


def test_asking_often_does_not_keep_a_listing_fresh_for_ever() -> None:
    clock = Clock()
    indexes = indexes_of(FakeArchive(), clock)
    first = indexes.get(MINUTES)
    for _ in range(10):
        clock.now += FRESH_S / 10
        assert indexes.get(MINUTES) is first
    clock.now += FRESH_S / 10
    assert indexes.get(MINUTES) is not first


def test_every_series_has_its_own_shelf_and_taking_it_asks_nothing() -> None:
    archive = FakeArchive()
    indexes = indexes_of(archive)
    assert len({id(indexes.get(series)) for series in (MINUTES, DAYS, FUNDING, MINUTES)}) == 3
    assert archive.asked == []


def test_of_too_many_shelves_the_longest_unused_goes() -> None:
    indexes = indexes_of(FakeArchive(), max_kept=2)
    minutes, days = indexes.get(MINUTES), indexes.get(DAYS)
    assert indexes.get(MINUTES) is minutes
    indexes.get(FUNDING)
    assert indexes.get(MINUTES) is minutes
    assert indexes.get(DAYS) is not days
