"""The coverage report of a lake in a folder: series, ranges and holes, without Redis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from klinefleet.tasks.coverage.build import CoverageQuery, coverage_report
from klinefleet.tasks.coverage.holes import MissingSpan, Outage, Reason
from klinefleet.tasks.coverage.report import CoverageReport, SeriesReport
from klinefleet.tasks.coverage.text import lines, padded, share_text
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.catalog import Catalog, Catalogs
from klinefleet.workers.lake.footers.proof import Proof
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.answers import confirming, covering, footer_of
from tests.unit.helpers.catalogs import entry
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, frame, minutes, opens

NOW_MS = utc_ms(2024, 6, 15)
UM = Market.USD_M
DAY = minutes(0, 1440)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(Settings(store_url=str(tmp_path / "store")))


def series(symbol: str) -> Series:
    return replace(MINUTES, symbol=symbol)


def hold(services: Services, symbol: str, covered: Span, gaps: Iterable[Span] = ()) -> None:
    """Store a symbol's minutes in the lake, as compaction does."""
    there = spans.without([covered], gaps)
    for month, bounds in months_of(covered):
        rows = frame([at for part in spans.clip(there, bounds) for at in opens(part)])
        Partitions(services.store).merge(
            Partition(series(symbol), month), rows, confirming(covered.clip(bounds))
        )


def know(services: Services, **first: int) -> None:
    """Store a catalog with the first candle of each symbol."""
    listed = [replace(entry(symbol), onboard_ms=ms, first_ms=ms) for symbol, ms in first.items()]
    Catalogs(services.store).store(Catalog(UM, NOW_MS - 400 * DAY_MS, listed))


def report(
    services: Services, query: CoverageQuery | None = None, now_ms: int = NOW_MS
) -> CoverageReport:
    return coverage_report(services, query or CoverageQuery(), now_ms=now_ms)


def by_symbol(coverage: CoverageReport) -> dict[str, SeriesReport]:
    return {one.series.symbol: one for one in coverage.series}


def reasons(one: SeriesReport) -> list[tuple[Span, Reason]]:
    return [(hole.span, hole.reason) for hole in one.holes]


def test_a_series_is_held_against_all_that_any_of_its_kind_holds(services: Services) -> None:
    hold(services, "BTCUSDT", minutes(0, 1440))
    hold(services, "ETHUSDT", minutes(0, 720))
    coverage = report(services)
    whole, half = (by_symbol(coverage)[symbol] for symbol in ("BTCUSDT", "ETHUSDT"))
    assert (whole.rows, whole.share, whole.holes, whole.is_complete) == (1440, 1.0, [], True)
    assert (half.rows, half.share, half.held) == (720, 0.5, minutes(0, 720))
    assert reasons(half) == [(minutes(720, 1440), Reason.NOT_FETCHED)]
    assert not coverage.is_complete
    assert not coverage.has_run_state
    assert report(services, CoverageQuery(symbols=("BTCUSDT",))).is_complete
    assert report(services, CoverageQuery(end_ms=minutes(0, 720).end_ms)).is_complete


def test_what_never_existed_is_neither_missing_nor_part_of_the_share(services: Services) -> None:
    know(services, BTCUSDT=JANUARY_MS, ETHUSDT=minutes(0, 360).end_ms)
    hold(services, "BTCUSDT", DAY)
    hold(services, "ETHUSDT", minutes(360, 1440))
    late = by_symbol(report(services))["ETHUSDT"]
    assert reasons(late) == [(minutes(0, 360), Reason.BEFORE_LISTING)]
    assert (late.share, late.is_complete, late.trading and late.trading.start_ms) == (
        1.0,
        True,
        minutes(0, 360).end_ms,
    )


def test_without_a_catalog_listing_dates_are_unknown(services: Services) -> None:
    hold(services, "BTCUSDT", DAY)
    coverage = report(services, CoverageQuery(start_ms=JANUARY_MS - DAY_MS))
    assert reasons(coverage.series[0]) == [
        (Span(JANUARY_MS - DAY_MS, JANUARY_MS), Reason.NOT_FETCHED)
    ]
    assert coverage.series[0].holes[0].detail == "or not listed yet: the listing date is unknown"
    assert coverage.series[0].trading is None
    assert "listing dates unknown" in next(lines(coverage, every_hole=False))


def test_one_symbol_alone_is_compared_with_all_of_its_kind(services: Services) -> None:
    """An outage of all symbols is recognised though only one was requested."""
    outage = minutes(100, 110)
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"):
        own = [minutes(200, 201)] if symbol == "BTCUSDT" else []
        hold(services, symbol, DAY, [outage, *own])
    coverage = report(services, CoverageQuery(symbols=("BTCUSDT",)))
    (one,) = coverage.series
    assert one.holes == [
        MissingSpan(outage, Reason.OUTAGE, "4 of 4 series had none"),
        MissingSpan(minutes(200, 201), Reason.NO_CANDLE),
    ]
    assert coverage.groups[0].outages == [Outage(outage, 4, 4)]
    assert (one.rows, one.is_complete) == (1429, True)


@pytest.mark.parametrize("proof", [None, Proof(4, "0" * 16, None)])
def test_partitions_whose_footers_list_no_gaps_are_read_once(
    services: Services, proof: Proof | None
) -> None:
    key = keys.partition(Partition(MINUTES, "2024-01"))
    rows = frame([*opens(minutes(0, 2)), *opens(minutes(8, 10))])
    services.store.put(key, encode(rows, footer_of(minutes(0, 10), proof=proof)))
    read: list[str] = []
    for _ in range(2):
        fresh = Services(services.settings)
        watched = fresh.store.read
        fresh.store.read = lambda key, watched=watched: read.append(key) or watched(key)  # type: ignore[method-assign,misc,func-returns-value]
        (one,) = report(fresh).series
        assert reasons(one) == [(minutes(2, 8), Reason.ONE_WITNESS)]
        assert one.rows == 4
    assert read.count(key) == 1


@pytest.mark.parametrize("body", [b"", b"PAR1 but cut off", None])
def test_one_damaged_partition_is_a_hole_of_its_own_and_hides_nothing_else(
    services: Services, body: bytes | None
) -> None:
    hold(services, "BTCUSDT", Span(JANUARY_MS, utc_ms(2024, 3)))
    hold(services, "ETHUSDT", Span(JANUARY_MS, utc_ms(2024, 3)))
    key = keys.partition(Partition(series("ETHUSDT"), "2024-02"))
    # Sound at its end, and of a version whose footers list no gaps: what does not decode are its
    # rows.
    spoilt = encode(frame(opens(DAY)), footer_of(DAY)) if body is None else b""
    services.store.put(key, spoilt[:4] + b"\xff" * 400 + spoilt[404:] if body is None else body)
    for _ in range(2):
        coverage = report(Services(services.settings))
        whole, half = (by_symbol(coverage)[symbol] for symbol in ("BTCUSDT", "ETHUSDT"))
        assert (whole.share, whole.holes) == (1.0, [])
        (hole,) = half.holes
        assert (hole.span, hole.reason, hole.next_step) == (
            Span(utc_ms(2024, 2), utc_ms(2024, 3)),
            Reason.DAMAGED,
            "run `klines verify --repair`",
        )
        assert hole.detail.startswith(f"{key}")
        assert hole.detail.endswith("it was left as it is")
        assert (half.rows, half.is_complete) == (31 * 1440, False)
        assert any("1 damaged" in line for line in lines(coverage, every_hole=False))


def test_of_a_damaged_partition_is_asked_what_the_others_hold_or_else_all_of_its_month(
    services: Services,
) -> None:
    services.store.put(keys.partition(Partition(series("ETHUSDT"), "2024-01")), b"")
    month = Span(JANUARY_MS, utc_ms(2024, 2))
    assert reasons(report(services).series[0]) == [(month, Reason.DAMAGED)]
    hold(services, "BTCUSDT", DAY)
    coverage = report(services)
    assert [reasons(one) for one in coverage.series] == [[], [(DAY, Reason.DAMAGED)]]


def test_every_market_kind_and_interval_is_a_group_of_its_own(services: Services) -> None:
    hold(services, "BTCUSDT", DAY)
    hours = Series(Market.SPOT, KLINES, Interval.H1, "BTCUSDT")
    Partitions(services.store).merge(
        Partition(hours, "2024"), frame(opens(DAY, 3_600_000)), covering(DAY)
    )
    coverage = report(services)
    assert [str(group.group) for group in coverage.groups] == ["spot klines 1h", "um klines 1m"]
    assert [one.rows for one in coverage.series] == [24, 1440]
    um = report(services, CoverageQuery(market=UM))
    assert [str(group.group) for group in um.groups] == ["um klines 1m"]
    hourly = report(services, CoverageQuery(interval=Interval.H1))
    assert [str(group.group) for group in hourly.groups] == ["spot klines 1h"]


def test_fundings_have_no_calendar_and_are_counted_as_they_are(services: Services) -> None:
    events = Series(UM, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
    times = [JANUARY_MS + hour * 3_600_000 + 3 for hour in (0, 8, 16)]
    rows = pl.DataFrame({"calc_time": times}).cast(schema_of(FUNDING_RATE)["calc_time"])
    empty = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in schema_of(FUNDING_RATE).items()
        if name != "calc_time"
    ]
    covered = Span(JANUARY_MS, utc_ms(2024, 2))
    Partitions(services.store).merge(
        Partition(events, "2024"), rows.with_columns(empty), covering(covered)
    )
    assert [(one.rows, one.share, one.holes) for one in report(services).series] == [(3, 1.0, [])]
    (half,) = report(services, CoverageQuery(end_ms=JANUARY_MS + 10 * 3_600_000)).series
    assert (half.rows, half.share) == (2, 1.0)
    (more,) = report(services, CoverageQuery(end_ms=utc_ms(2024, 3))).series
    assert reasons(more) == [(Span(covered.end_ms, utc_ms(2024, 3)), Reason.NOT_FETCHED)]


def test_a_symbol_that_is_not_held_is_reported_as_missing_if_the_market_is_named(
    services: Services,
) -> None:
    know(services, XRPUSDT=JANUARY_MS)
    query = CoverageQuery(UM, symbols=("XRPUSDT",), start_ms=JANUARY_MS, end_ms=DAY.end_ms)
    (one,) = report(services, query).series
    assert (reasons(one), one.held, one.rows) == ([(DAY, Reason.NOT_FETCHED)], None, 0)
    with pytest.raises(UnknownSymbol, match="--market"):
        report(services, replace(query, market=None))
    with pytest.raises(UnknownSymbol, match="no klines of NOSUCHUSDT"):
        report(services, replace(query, symbols=("NOSUCHUSDT",)))


def test_a_lake_that_holds_nothing_is_no_complete_one(services: Services) -> None:
    with pytest.raises(RequestError, match="holds nothing"):
        report(services)


def test_what_is_not_over_yet_is_not_missing(services: Services) -> None:
    hold(services, "BTCUSDT", minutes(0, 10))
    coverage = report(
        services, CoverageQuery(end_ms=DAY.end_ms), now_ms=minutes(0, 11).end_ms + 30_000
    )
    assert reasons(coverage.series[0]) == [(minutes(10, 11), Reason.NOT_FETCHED)]
    with pytest.raises(RequestError, match="no candle has closed"):
        report(services, CoverageQuery(start_ms=NOW_MS + 1))


def test_the_document_names_every_hole_and_the_table_counts_them(services: Services) -> None:
    hold(services, "BTCUSDT", DAY, [minutes(5, 6)])
    hold(services, "币安人生USDT", minutes(0, 720))
    coverage = report(services)
    document = coverage.facts()
    assert (document["complete"], len(document["series"]), document["groups"][0]["series"]) == (
        False,
        2,
        2,
    )
    (hole,) = document["series"][0]["holes"]
    assert hole == {
        "start": "2024-01-01T00:05",
        "end": "2024-01-01T00:06",
        "reason": "no candle at the exchange",
        "candles": 1,
        "told": "",
        "again": "",
    }
    short, every = ("\n".join(lines(coverage, every_hole=one)) for one in (False, True))
    assert "1,439  99.93 %  1 without candle" in short
    assert "1 not fetched" in short
    assert "00:05..2024" not in short
    assert "2024-01-01T00:05..2024-01-01T00:06" in every
    assert "720 candles, not fetched" in every


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.9999999, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00 %"), (None, "–")],
)
def test_a_share_is_a_hundred_only_where_nothing_is_missing(share: float | None, text: str) -> None:
    assert share_text(share) == text


def test_names_in_wide_letters_keep_the_columns_straight() -> None:
    assert len(padded("币安人生", 20)) == 16


def test_a_series_is_as_old_as_its_listing_or_its_first_candle_and_an_index_as_its_pair() -> None:
    listed = replace(
        entry("BTCUSDT_260101"),
        pair="BTCUSDT",
        onboard_ms=10 * 60_000,
        first_ms=20 * 60_000,
        last_ms=DAY_MS,
    )
    known = Catalog(UM, NOW_MS, [listed])

    def begins(kind: Kind, symbol: str = listed.symbol) -> int | None:
        life = known.trading_span(Series(UM, kind, Interval.M1, symbol))
        return life.start_ms // 60_000 if life else None

    assert (begins(KLINES), begins(MARK_PRICE_KLINES)) == (10, 10)
    assert (
        begins(INDEX_PRICE_KLINES, "BTCUSDT"),
        begins(INDEX_PRICE_KLINES),
        begins(MARK_PRICE_KLINES, "BTCUSDT"),
    ) == (
        10,
        None,
        None,
    )


def test_a_lake_with_time_that_one_witness_calls_absent_does_not_say_that_all_is_held(
    services: Services,
) -> None:
    rows = frame([*opens(minutes(0, 2)), *opens(minutes(8, 10))])
    partition = Partition(MINUTES, "2024-01")
    Partitions(services.store).merge(partition, rows, covering(minutes(0, 10)))
    coverage = report(services)
    assert coverage.is_complete
    told = "\n".join(lines(coverage, every_hole=False))
    assert "1 absent by one witness" in told
    assert "nothing is missing, but 1 of them have time absent by one witness." in told
