from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.archive_index import FRESH_S, ArchiveIndex, ArchiveIndexCache
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.binance.symbol_cache import SymbolCache
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
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry
from klinefleet.workers.sources.listing_dates import ListingDates
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
NEVER_MS = utc_ms(2100)


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
    assert index.published_span() == Span(utc_ms(2024, 1), utc_ms(2024, 2))
    assert index_of(holding(series), series).published_span() is None
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
        (["2024-01", "2024-01-31"], Span(utc_ms(2024, 1), utc_ms(2024, 2))),
        (["2024-01", "2024-01-01", "2024-01-09"], Span(utc_ms(2024, 1), utc_ms(2024, 1, 10))),
        (["2023-12", "2024-01-31", "2024-02-01"], Span(utc_ms(2023, 12), utc_ms(2024, 2, 2))),
        (["2023-12-31", "2024-01-05"], Span(utc_ms(2023, 12, 31), utc_ms(2024, 1, 6))),
    ],
)
def test_a_life_reaches_from_the_first_file_to_the_end_of_the_last(
    periods: list[str], life: Span | None
) -> None:
    assert index_of(holding(MINUTES, *periods), MINUTES).published_span() == life


def test_a_life_costs_three_listings_and_none_of_them_of_all_days_where_there_are_months() -> None:
    archive = holding(MINUTES, "2017-08", "2023-12", "2024-01-05")
    index_of(archive, MINUTES).published_span()
    assert archive.asked == [
        f"list {MINUTES} {what}" for what in ("monthly ", "daily 2024-01", "daily 2024-02")
    ]


def test_candles_of_days_live_to_their_last_day_though_their_partitions_are_years() -> None:
    days = Series(Market.SPOT, KLINES, Interval.D1, "BTCUSDT")
    assert index_of(holding(days, "2023-12", "2024-01-05"), days).published_span() == Span(
        utc_ms(2023, 12), utc_ms(2024, 1, 6)
    )


def test_a_life_is_not_told_by_half_an_answer() -> None:
    archive = holding(MINUTES, "2023-12", "2024-01-05")
    index = index_of(archive, MINUTES)
    index.monthly()
    archive.faults = [Restricted("451")]
    with pytest.raises(Restricted):
        index.published_span()


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


class Told:
    """What exchangeInfo and the first candle tell of one series."""

    def __init__(self, listing: Listing | None, span: Span, *, knows: bool = True) -> None:
        self._listing = listing
        self.span = span
        self.knows = knows

    def listing(self, _: Series) -> Listing | None:
        return self._listing

    def trading_span(self, _: Series) -> Span:
        return self.span

    def is_trading_span_cached(self, _: Series) -> bool:
        return self.knows


def listing_dates_of(
    archive: FakeArchive,
    status: str | None,
    *,
    delivery_ms: int | None = None,
    knows: bool = True,
    catalog: Catalog | None = None,
) -> ListingDates:
    """Listing dates of a series that began in 2020 and has this status.

    None: REST has forgotten it.
    """
    listing = None if status is None else Listing("BTCUSDT", status, None, delivery_ms)
    told = Told(listing, Span(utc_ms(2020), delivery_ms or NEVER_MS), knows=knows)
    return ListingDates(cast(SymbolCache, told), indexes_of(archive), lambda _: catalog)


@pytest.mark.parametrize("status", ["TRADING", "PENDING_TRADING", "HALT", "TRADING_HALT", ""])
def test_what_trades_or_is_halted_has_no_end_and_the_archive_is_not_asked(status: str) -> None:
    archive = holding(MINUTES, "2020-01")
    assert listing_dates_of(archive, status).trading_span(MINUTES) == Span(utc_ms(2020), NEVER_MS)
    assert archive.asked == []


@pytest.mark.parametrize("status", ["SETTLING", "CLOSE", "TRADING"])
def test_a_date_of_delivery_is_believed_without_the_archive(status: str) -> None:
    archive = holding(MINUTES, "2020-01")
    listing_dates = listing_dates_of(archive, status, delivery_ms=utc_ms(2023, 6, 30))
    assert listing_dates.trading_span(MINUTES) == Span(utc_ms(2020), utc_ms(2023, 6, 30))
    assert archive.asked == []


def test_what_stopped_without_a_date_ends_with_its_last_file() -> None:
    archive = holding(MINUTES, "2020-01", "2022-03", "2022-04-01", "2022-04-09")
    assert listing_dates_of(archive, "BREAK").trading_span(MINUTES) == Span(
        utc_ms(2020), utc_ms(2022, 4, 10)
    )


def test_files_never_move_the_beginning_that_the_exchange_tells() -> None:
    for first in ("2019-01", "2021-01"):
        assert listing_dates_of(holding(MINUTES, first, "2022-03"), "BREAK").trading_span(
            MINUTES
        ).start_ms == utc_ms(2020)


def test_files_that_end_before_the_beginning_leave_an_empty_life() -> None:
    assert listing_dates_of(holding(MINUTES, "2018-01"), "BREAK").trading_span(MINUTES) == Span(
        utc_ms(2020), utc_ms(2020)
    )


def test_what_stopped_has_no_end_where_the_archive_has_nothing_or_does_not_tell(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert listing_dates_of(FakeArchive(), "BREAK").trading_span(MINUTES) == Span(
        utc_ms(2020), NEVER_MS
    )
    assert not caplog.messages
    archive = holding(MINUTES, "2022-03", faults=[Restricted("451")])
    assert listing_dates_of(archive, "BREAK").trading_span(MINUTES) == Span(utc_ms(2020), NEVER_MS)
    assert "the end of its trading is unknown: 451" in caplog.text


def test_what_rest_has_forgotten_lived_as_long_as_its_files() -> None:
    archive = holding(MINUTES, "2018-01", "2018-04", "2018-05-03")
    assert listing_dates_of(archive, None).trading_span(MINUTES) == Span(
        utc_ms(2018), utc_ms(2018, 5, 4)
    )
    assert listing_dates_of(FakeArchive(), None).trading_span(MINUTES).is_empty


def test_of_what_rest_has_forgotten_a_silent_archive_is_a_fault_and_no_empty_life() -> None:
    with pytest.raises(Restricted):
        listing_dates_of(
            holding(MINUTES, "2018-01", faults=[Restricted("451")]), None
        ).trading_span(MINUTES)


@pytest.mark.parametrize(
    ("status", "known", "knows"),
    [("TRADING", True, True), ("TRADING", False, False), (None, False, True)],
)
def test_only_a_first_candle_costs_weight(status: str | None, known: bool, knows: bool) -> None:
    archive = FakeArchive()
    assert listing_dates_of(archive, status, knows=known).known_without_request(MINUTES) is knows
    assert archive.asked == []


def entry_of(first_ms: int, last_ms: int | None, status: str) -> Catalog:
    told = (
        "BTCUSDT",
        status,
        "BTC",
        "USDT",
        "BTCUSDT",
        "",
        None,
        None,
        first_ms,
        first_ms,
        last_ms,
    )
    return Catalog(
        Market.SPOT, 0, [CatalogEntry(*told, ("1m",), in_archive=True, in_rest=bool(status))]
    )


def test_a_fresh_catalog_tells_a_life_without_asking_anybody() -> None:
    archive, first_ms, last_ms = FakeArchive(), utc_ms(2019, 5), utc_ms(2022, 1, 13)
    ended = listing_dates_of(
        archive, "BREAK", knows=False, catalog=entry_of(first_ms, last_ms, "BREAK")
    )
    assert ended.known_without_request(MINUTES)
    assert ended.trading_span(MINUTES) == Span(first_ms, last_ms)
    forgotten = listing_dates_of(archive, None, catalog=entry_of(first_ms, last_ms, ""))
    assert forgotten.trading_span(MINUTES) == Span(first_ms, last_ms)
    trading = listing_dates_of(
        archive, "TRADING", knows=False, catalog=entry_of(first_ms, None, "TRADING")
    )
    assert trading.trading_span(MINUTES) == Span(first_ms, NEVER_MS)
    assert archive.asked == []


def test_the_catalog_of_klines_tells_nothing_of_other_kinds() -> None:
    marks = Series(Market.SPOT, MARK_PRICE_KLINES, Interval.M1, "BTCUSDT")
    listing_dates = listing_dates_of(
        FakeArchive(), "TRADING", knows=False, catalog=entry_of(utc_ms(2023), None, "TRADING")
    )
    assert not listing_dates.known_without_request(marks)
    assert listing_dates.trading_span(marks) == Span(utc_ms(2020), NEVER_MS)
