"""When a series can have rows: each hint, and that none cuts off what another shows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from redis import Redis

from klinefleet.workers.binance.archive_index import ArchiveIndexCache
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.binance.symbol_cache import FoundListing, SymbolCache
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError, Refused, Restricted, Unreachable
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, NEVER_MS, iso, utc_ms
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.sources.source_dates import SourceDates
from klinefleet.workers.sources.trading_spans import Traded, TradingSpans
from tests.unit.helpers.in_process_fleet import FakeArchive

MINUTES = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT")
NOT_LISTED = Refused("400 Invalid symbol.", code=-1121)
SINCE_2017 = Span(utc_ms(2017), utc_ms(2026))
Told = int | FleetError | None


@dataclass
class World:
    """All that anybody says of one series, and whom it was asked."""

    redis: Redis
    status: str | None = "TRADING"
    """None: exchangeInfo lacks the symbol."""
    onboard_ms: int | None = None
    delivery_ms: int | None = None
    is_loaded: bool = True
    first: list[Told] = field(default_factory=list)
    """REST's answers for the first row; the last one is repeated."""
    newest: Told = NOT_LISTED
    files: tuple[str, ...] = ()
    archive_fault: FleetError | None = None
    catalog: Catalog | None = None
    asked: list[str] = field(default_factory=list)

    def find(self, _: Series) -> FoundListing:
        if self.status is None or not self.is_loaded:
            return FoundListing(self.is_loaded, None)
        listing = Listing("BTCUSDT", self.status, self.onboard_ms, self.delivery_ms)
        return FoundListing(True, listing)

    def first_open_ms(self, _: Series, known_ms: int | None = None) -> int | None:
        self.asked.append("first")
        return _told(self.first.pop(0) if len(self.first) > 1 else (self.first or [known_ms])[0])

    def newest_open_ms(self, _: Series) -> int | None:
        self.asked.append("newest")
        return _told(self.newest)

    def within(
        self,
        mode: Mode = Mode.AUTO,
        requested: Span = SINCE_2017,
        *,
        series: Series = MINUTES,
        may_ask_rest: bool = True,
        rest_fault: FleetError | None = None,
    ) -> Traded:
        archive = FakeArchive()
        for period in self.files:
            archive.publish(series, period)
        archive.fault = self.archive_fault
        indexes = ArchiveIndexCache(lambda: archive, sleep=lambda _: None)  # type: ignore[arg-type,return-value]
        dates = SourceDates(self.redis, lambda _: cast(RestClient, self), indexes)
        spans = TradingSpans(
            cast(SymbolCache, self), dates, lambda _: self.catalog, lambda: now_ms(self.redis)
        )
        traded = spans.within(
            series, requested, mode, rest_fault=rest_fault, may_ask_rest=may_ask_rest
        )
        self.asked += ["archive"] * bool(archive.asked)
        return traded


def _told(told: Told) -> int | None:
    if isinstance(told, FleetError):
        raise told
    return told


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


def test_what_traded_before_the_requested_time_costs_no_question(world: World) -> None:
    world.onboard_ms = utc_ms(2017)
    assert world.within() == Traded(SINCE_2017)
    assert world.asked == []


@pytest.mark.parametrize(
    ("onboard_ms", "first", "files", "start_ms"),
    [
        (utc_ms(2021), utc_ms(2019, 3), (), utc_ms(2019, 3)),
        (utc_ms(2021), utc_ms(2021, 1, 2), (), utc_ms(2021)),
        (utc_ms(2021), utc_ms(2021), ("2020-05",), utc_ms(2020, 5)),
        (utc_ms(2021), utc_ms(2021), ("2020-05", "2020-04-30"), utc_ms(2020, 4, 30)),
        (utc_ms(2021, 1, 8), utc_ms(2021, 1, 9), ("2021-01", "2021-01-08"), utc_ms(2021, 1, 8)),
        (utc_ms(2021, 1, 8), utc_ms(2021, 1, 9), ("2021-01-07",), utc_ms(2021, 1, 7)),
        (None, utc_ms(2021, 1, 9), ("2021-01",), utc_ms(2021, 1, 9)),
        (None, None, ("2021-01",), utc_ms(2021)),
    ],
)
def test_a_series_begins_with_the_earliest_that_anybody_shows(
    world: World, onboard_ms: int | None, first: int | None, files: tuple[str, ...], start_ms: int
) -> None:
    world.onboard_ms, world.first, world.files = onboard_ms, [first], files
    for _ in range(2):
        assert world.within() == Traded(Span(start_ms, SINCE_2017.end_ms))
    assert world.asked.count("archive") == 1


def test_one_empty_answer_is_no_life_without_candles(world: World) -> None:
    world.first = [None, utc_ms(2019)]
    assert world.within(Mode.REST).span.start_ms == utc_ms(2019)
    assert world.asked == ["first", "first"]


def test_two_empty_answers_and_no_file_are(world: World) -> None:
    world.first = [None]
    assert world.within().span.is_empty
    assert world.within().unproved == ()


def test_a_mode_asks_only_the_sources_that_it_allows(world: World) -> None:
    world.onboard_ms, world.first, world.files = utc_ms(2021), [utc_ms(2019)], ("2020-05",)
    assert world.within(Mode.ARCHIVE).span.start_ms == utc_ms(2020, 5)
    assert world.asked == ["archive"]
    assert world.within(Mode.REST).span.start_ms == utc_ms(2019)
    assert world.asked == ["archive", "first"]


def test_an_estimate_asks_rest_nothing_and_leaves_nothing_out(world: World) -> None:
    world.first = [utc_ms(2021)]
    assert world.within(may_ask_rest=False) == Traded(SINCE_2017)
    world.onboard_ms = utc_ms(2020)
    assert world.within(may_ask_rest=False).span.start_ms == utc_ms(2020)
    assert "first" not in world.asked


@pytest.mark.parametrize("status", ["TRADING", "PENDING_TRADING", "HALT", "END_OF_DAY", "NEW", ""])
def test_a_status_that_is_no_end_or_that_nobody_documented_ends_nothing(
    world: World, status: str
) -> None:
    world.status, world.onboard_ms, world.files = status, utc_ms(2017), ("2020-01",)
    assert world.within() == Traded(SINCE_2017)
    assert world.asked == []


@pytest.mark.parametrize("status", ["BREAK", "SETTLING", "CLOSE", "DELIVERED", "DELIVERING"])
@pytest.mark.parametrize(
    ("delivery_ms", "files", "newest", "end_ms"),
    [
        (utc_ms(2023, 6, 30), (), NOT_LISTED, utc_ms(2023, 6, 30)),
        (utc_ms(2023, 6, 30), ("2023-07",), NOT_LISTED, utc_ms(2023, 8)),
        (utc_ms(2023, 6, 30), ("2023-06",), utc_ms(2023, 7, 9), utc_ms(2023, 7, 9) + 60_000),
        (None, ("2023-06", "2023-07-03"), utc_ms(2023, 5), utc_ms(2023, 7, 4)),
        (None, (), utc_ms(2023, 5), utc_ms(2023, 5) + 60_000),
        (None, (), None, SINCE_2017.end_ms),
    ],
)
def test_what_has_ended_does_so_with_the_latest_that_anybody_shows(
    world: World,
    status: str,
    delivery_ms: int | None,
    files: tuple[str, ...],
    newest: Told,
    end_ms: int,
) -> None:
    world.status, world.onboard_ms, world.delivery_ms = status, utc_ms(2017), delivery_ms
    world.files, world.newest = files, newest
    for _ in range(2):
        assert world.within() == Traded(Span(SINCE_2017.start_ms, end_ms))
    assert world.asked.count("archive") == 1


@pytest.mark.parametrize("status", ["BREAK", "SETTLING", "TRADING"])
def test_nothing_ends_what_has_a_candle_of_the_last_day(world: World, status: str) -> None:
    world.status, world.onboard_ms, world.delivery_ms = status, utc_ms(2017), utc_ms(2023)
    world.newest = now_ms(world.redis) - 23 * HOUR_MS
    requested = Span(SINCE_2017.start_ms, now_ms(world.redis))
    assert world.within(requested=requested) == Traded(requested)


def test_an_end_after_the_requested_time_costs_no_question(world: World) -> None:
    world.status, world.onboard_ms, world.delivery_ms = "SETTLING", utc_ms(2017), utc_ms(2023)
    requested = Span(utc_ms(2017), utc_ms(2023))
    assert world.within(requested=requested) == Traded(requested)
    assert world.asked == []


def test_what_rest_refuses_though_it_lists_it_is_told_by_its_files_alone(world: World) -> None:
    world.status, world.files, world.first = "SETTLING", ("2021-01", "2021-03"), [NOT_LISTED]
    assert world.within() == Traded(Span(utc_ms(2021), utc_ms(2021, 4)))


def test_what_both_rest_and_a_week_of_files_lack_has_ended_without_a_question(
    world: World,
) -> None:
    world.status, world.files = None, ("2018-01", "2018-04", "2018-05-03")
    assert world.within() == Traded(Span(utc_ms(2018), utc_ms(2018, 5, 4)))
    assert world.asked == ["archive"]


@pytest.mark.parametrize("is_there", [True, False])
def test_exchange_info_alone_ends_nothing_that_had_files_yesterday(
    world: World, is_there: bool
) -> None:
    """One list may be short, or an hour old."""
    now = now_ms(world.redis)
    today_ms = now - now % DAY_MS
    yesterday = _day(today_ms - DAY_MS)
    world.status, world.files = None, ("2018-01", yesterday)
    world.newest = now if is_there else NOT_LISTED
    requested = Span(utc_ms(2018), now)
    end_ms = now if is_there else today_ms
    assert world.within(requested=requested) == Traded(Span(utc_ms(2018), end_ms))


def test_what_was_listed_after_the_list_was_loaded_trades(world: World) -> None:
    now = now_ms(world.redis)
    world.status, world.newest, world.first = None, now, [now - HOUR_MS]
    requested = Span(utc_ms(2024), now)
    assert world.within(requested=requested) == Traded(Span(Interval.M1.floor(now - HOUR_MS), now))


def test_what_neither_rest_nor_the_archive_has_did_not_trade(world: World) -> None:
    world.status = None
    assert world.within().span.is_empty


def test_of_what_rest_has_forgotten_a_silent_archive_is_a_fault_and_no_empty_life(
    world: World,
) -> None:
    world.status, world.archive_fault = None, Restricted("451")
    for mode in (Mode.AUTO, Mode.ARCHIVE):
        with pytest.raises(Restricted):
            world.within(mode)


def test_a_silent_archive_takes_nothing_from_what_rest_shows(world: World) -> None:
    world.first, world.archive_fault = [utc_ms(2020)], Restricted("451")
    assert world.within() == Traded(Span(utc_ms(2020), SINCE_2017.end_ms))
    with pytest.raises(Restricted):
        world.within(Mode.ARCHIVE)


@pytest.mark.parametrize("is_known_before", [False, True])
def test_time_that_rest_was_to_be_asked_about_in_vain_is_named(
    world: World, is_known_before: bool
) -> None:
    fault = Unreachable("no route")
    world.status, world.onboard_ms, world.delivery_ms = "BREAK", utc_ms(2019), utc_ms(2023)
    world.first, world.newest = [fault], fault
    traded = world.within(rest_fault=fault if is_known_before else None)
    assert traded == Traded(
        Span(utc_ms(2019), utc_ms(2023)),
        (
            (Span(utc_ms(2023), SINCE_2017.end_ms), fault),
            (Span(SINCE_2017.start_ms, utc_ms(2019)), fault),
        ),
    )
    assert world.asked.count("newest") == (0 if is_known_before else 1)
    assert "first" not in world.asked, "a source that is silent is not asked on"


def test_where_nobody_answers_all_of_the_time_is_named(world: World) -> None:
    fault = Restricted("451")
    world.first, world.archive_fault = [fault], Unreachable("no route")
    traded = world.within()
    assert traded.span.is_empty
    assert traded.unproved == ((SINCE_2017, fault),)


def test_without_any_list_of_symbols_the_archive_tells_a_life(world: World) -> None:
    world.is_loaded, world.files = False, ("2018-01", "2018-05-03")
    assert world.within(Mode.ARCHIVE) == Traded(Span(utc_ms(2018), utc_ms(2018, 5, 4)))
    yesterday = _day(now_ms(world.redis) - DAY_MS)
    world.redis.flushdb()
    world.files = ("2018-01", yesterday)
    assert world.within(Mode.ARCHIVE) == Traded(Span(utc_ms(2018), SINCE_2017.end_ms))


def entry_of(first_ms: int, last_ms: int | None, status: str) -> CatalogEntry:
    return CatalogEntry(
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
        ("1m",),
        in_archive=True,
        in_rest=bool(status),
    )


@pytest.mark.parametrize("status", ["BREAK", "", "TRADING"])
def test_a_fresh_catalog_that_asked_all_tells_a_life_without_a_question(
    world: World, status: str
) -> None:
    first_ms, last_ms = utc_ms(2019, 5), None if status == "TRADING" else utc_ms(2022, 1, 13)
    world.status = status or None
    world.catalog = Catalog(Market.USD_M, 0, [entry_of(first_ms, last_ms, status)])
    assert world.within() == Traded(SINCE_2017.clip(Span(first_ms, last_ms or NEVER_MS)))
    assert world.asked == []


def test_a_catalog_of_another_status_does_not_end_a_life(world: World) -> None:
    world.status, world.newest = "BREAK", utc_ms(2024)
    world.catalog = Catalog(Market.USD_M, 0, [entry_of(utc_ms(2017), None, "TRADING")])
    assert world.within().span.end_ms == utc_ms(2024) + 60_000


@pytest.mark.parametrize(("mode", "asks"), [(Mode.AUTO, True), (Mode.ARCHIVE, False)])
def test_a_catalog_made_without_rest_does_not_keep_rest_from_being_asked(
    world: World, mode: Mode, asks: bool
) -> None:
    world.first = [utc_ms(2018)]
    entry = entry_of(utc_ms(2019), None, "TRADING")
    world.catalog = Catalog(Market.USD_M, 0, [entry], has_rest=False)
    assert world.within(mode).span.start_ms == utc_ms(2018 if asks else 2019)


def test_the_catalog_of_klines_tells_nothing_of_other_kinds(world: World) -> None:
    world.first = [utc_ms(2020)]
    world.catalog = Catalog(Market.USD_M, 0, [entry_of(utc_ms(2023), None, "TRADING")])
    marks = replace(MINUTES, kind=MARK_PRICE_KLINES)
    assert world.within(series=marks).span.start_ms == utc_ms(2020)


def _day(ms: int) -> str:
    return iso(ms - ms % DAY_MS)[:10]
