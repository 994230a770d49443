"""What is no 1m kline, through the command: other kinds, other intervals, funding; each whole and
in its own folder.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deploy.simulator.funding import is_four_hourly
from deploy.simulator.markets import Market
from deploy.simulator.symbols import find
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.schema import schema_of
from tests.harness import AMPLE, Fleet, Wanted, lake_frame, ms_of, running_fleet, truth_frame
from tests.processes import until

#: What one address may ask for fundings: so many calls in five minutes, of which the fleet takes a
#: fifth a minute.
CALLS_OF_FIVE_MINUTES, CALLS_OF_A_MINUTE = 500, 100
HOUR_MS = 3_600_000
#: Ten symbols of five years are more calls than REST is asked for at once, so that files are taken
#: as well.
FUNDED = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "SOLUSDT",
    *(f"SIM{number:03d}USDT" for number in range(1, 7)),
)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Another fleet, with a lake of its own, that has asked for no funding yet."""
    with running_fleet(tmp_path_factory.mktemp("second"), *AMPLE) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def _nothing_logged(fleet: Fleet) -> None:
    fleet.forget_calls()


@pytest.fixture(autouse=True, scope="module")
def _no_five_minutes_hold_too_many_calls(fleet: Fleet, second: Fleet) -> Iterator[None]:
    yield
    for one in (fleet, second):
        assert all(
            stretch["calls"] <= CALLS_OF_FIVE_MINUTES for stretch in one.exchange.books()["funding"]
        )


def last_hour() -> str:
    """Return the full hour before the last one: what ends there is settled, and a second run asks
    for the same.
    """
    now_ms = time.time_ns() // 1_000_000
    return datetime.fromtimestamp((now_ms // HOUR_MS - 1) * HOUR_MS / 1000, UTC).strftime(
        "%Y-%m-%dT%H:%M"
    )


def newest_day() -> tuple[str, str]:
    """Return the begin and the end of the newest day that surely has its file."""
    today = datetime.now(UTC).date()
    return str(today - timedelta(days=3)), str(today - timedelta(days=2))


@dataclass(frozen=True)
class Funding:
    """A request for the fundings of some symbols until an hour ago, and what a perfect lake holds
    of them.
    """

    market: str
    symbols: tuple[str, ...]
    start: str
    end: str
    source: str

    @property
    def arguments(self) -> tuple[str, ...]:
        series = (
            "--market",
            self.market,
            "--kind",
            "fundingRate",
            "--symbols",
            ",".join(self.symbols),
        )
        return (*series, "--start", self.start, "--end", self.end, "--source", self.source)

    def truth(self, symbol: str) -> pl.DataFrame:
        return truth_frame(
            self.market, symbol, "events", ms_of(self.start), ms_of(self.end), "fundingRate"
        )

    def held(self, fleet: Fleet, symbol: str) -> pl.DataFrame:
        return lake_frame(fleet.store_url, self.market, symbol, "events", "fundingRate")

    def assert_held(self, fleet: Fleet, files_until: str) -> None:
        """Each event is held once, with the hours a file told before `files_until` and the mark
        price of REST after.
        """
        told = pl.col("calc_time").dt.timestamp("ms") < ms_of(files_until)
        for symbol in self.symbols:
            held, truth = self.held(fleet, symbol), self.truth(symbol)
            assert truth.height > 0
            assert held.height == truth.height, (
                f"{symbol}: {held.height} events, {truth.height} were"
            )
            expected = truth.with_columns(
                funding_interval_hours=pl.when(told).then("funding_interval_hours"),
                mark_price=pl.when(~told).then("mark_price"),
            )
            assert held.equals(expected), f"{symbol}: an event differs"

    def assert_nothing_is_missing(self, fleet: Fleet) -> None:
        assert fleet.assert_fetches_nothing(*self.arguments)["klines"] == 0


def folders(fleet: Fleet, below: str = "") -> set[str]:
    """Return the folders of the lake that hold partitions, as any reader sees them."""
    lake = Path(fleet.store_url, "lake")
    found = {path.parent.relative_to(lake).as_posix() for path in lake.rglob("*.parquet")}
    return {name for name in found if name.startswith(below)}


# Mark, index and premium prices


@pytest.mark.parametrize(("market", "symbol"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")])
def test_a_year_of_mark_prices_lacks_nothing_but_what_the_exchange_lacks(
    fleet: Fleet, market: str, symbol: str
) -> None:
    year = Wanted(
        market, (symbol,), "2023-01-01", "2024-01-01", source="auto", kind="markPriceKlines"
    )
    told = fleet.download(*year.arguments)
    assert told["files"] == 12
    assert told["failed"] == {}
    year.assert_held(fleet)
    times = lake_frame(fleet.store_url, market, symbol, "1m", "markPriceKlines")[
        "open_time"
    ].dt.timestamp("ms")
    hole = times.is_between(
        ms_of("2023-11-10T03:40"), ms_of("2023-11-10T04:00"), closed="left"
    ).sum()
    assert hole == (0 if market == "um" else 20)
    assert len(times) == 365 * 1440 - (20 if market == "um" else 0)
    assert f"market={market}/kind=markPriceKlines/interval=1m/symbol={symbol}" in folders(fleet)
    year.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    ("market", "kind", "name"),
    [
        ("um", "indexPriceKlines", "BTCUSDT"),
        ("cm", "indexPriceKlines", "BTCUSD"),
        ("um", "premiumIndexKlines", "ETHUSDT"),
        ("cm", "markPriceKlines", "BTCUSD_261225"),
    ],
)
def test_prices_are_the_same_rows_from_files_and_from_rest(
    fleet: Fleet, second: Fleet, market: str, kind: str, name: str
) -> None:
    """Two months and some days, the latter in daily files; each source fills a lake alone."""
    is_late = name == "BTCUSD_261225"
    start, end = ("2026-07-05", "2026-09-12") if is_late else ("2023-10-20", "2024-01-03T07:30")
    files = Wanted(market, (name,), start, end, "5m", "archive", kind)
    told = fleet.download(*files.arguments)
    assert (told["requests"], told["klines_from_rest"]) == (0, 0)
    files.assert_held(fleet)
    rest = replace(files, source="rest")
    told = second.download(*rest.arguments)
    assert (told["files"], told["klines_from_files"]) == (0, 0)
    rest.assert_held(second)
    both = [lake_frame(one.store_url, market, name, "5m", kind) for one in (fleet, second)]
    assert both[0].equals(both[1])


def test_no_other_kind_pretends_to_be_a_kline(fleet: Fleet) -> None:
    """All kinds of one symbol go to folders of their own, with columns of their own and none that
    means nothing.
    """
    kinds = ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
    days = {
        kind: Wanted("um", ("SOLUSDT",), "2024-01-01", "2024-01-03", "1h", "archive", kind)
        for kind in kinds
    }
    before = folders(fleet)
    for kind, wanted in days.items():
        told = fleet.download(*wanted.arguments)
        assert (told["kind"], told["interval"]) == (kind, "1h")
        wanted.assert_held(fleet)
    fleet.download(*Funding("um", ("ZKUSDT",), "2024-08-01", "2024-08-03", "archive").arguments)
    assert folders(fleet) - before == {
        *(f"market=um/kind={kind}/interval=1h/symbol=SOLUSDT" for kind in kinds),
        "market=um/kind=fundingRate/symbol=ZKUSDT",
    }
    frames = {kind: lake_frame(fleet.store_url, "um", "SOLUSDT", "1h", kind) for kind in kinds}
    for kind, frame in frames.items():
        assert frame.schema == schema_of(kind_named(kind))
        assert ("volume" in frame.columns) is (kind == "klines")
    assert len({tuple(frame["close"]) for frame in frames.values()}) == len(kinds), (
        "two kinds hold the same prices"
    )
    assert all(abs(premium) < 1 for premium in frames["premiumIndexKlines"]["close"])
    events = lake_frame(fleet.store_url, "um", "ZKUSDT", "events", "fundingRate")
    assert events.columns == [
        "calc_time",
        "funding_interval_hours",
        "last_funding_rate",
        "mark_price",
    ]


def test_kinds_and_names_that_do_not_fit_are_refused_before_anything_is_asked(fleet: Fleet) -> None:
    day = ("--start", "2024-01-01", "--end", "2024-01-02")
    for arguments, word in [
        (
            ("--market", "spot", "--kind", "markPriceKlines", "--symbols", "BTCUSDT"),
            "markPriceKlines",
        ),
        (("--market", "spot", "--kind", "fundingRate", "--symbols", "BTCUSDT"), "fundingRate"),
        (
            ("--market", "um", "--kind", "fundingRate", "--symbols", "BTCUSDT", "--interval", "8h"),
            "interval 8h",
        ),
        (
            ("--market", "cm", "--kind", "indexPriceKlines", "--symbols", "BTCUSD_PERP"),
            "BTCUSD_PERP",
        ),
        (
            ("--market", "um", "--kind", "tradePriceKlines", "--symbols", "BTCUSDT"),
            "tradePriceKlines",
        ),
    ]:
        done = fleet.klines("download", *arguments, *day)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert word in line
    assert fleet.exchange.calls() == []


# Funding


def test_every_funding_event_since_2022_is_held_once_from_files_and_the_last_month_from_rest(
    fleet: Fleet,
) -> None:
    symbols = {name: find(Market.USD_M, name) for name in FUNDED}
    assert len({is_four_hourly(instrument) for instrument in symbols.values() if instrument}) == 2
    wanted = Funding("um", FUNDED, "2022-01-01", last_hour(), "auto")
    told = fleet.download(*wanted.arguments)
    assert told["failed"] == {}
    # Files end with the newest month that is out for all.
    months = [
        call["path"].removesuffix(".zip")[-7:]
        for call in fleet.exchange.files()
        if call["path"].endswith("zip")
    ]
    assert Counter(months).most_common()[-1][1] == len(FUNDED)
    last = datetime.fromisoformat(f"{max(months)}-01")
    ends = datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)
    wanted.assert_held(fleet, files_until=ends.strftime("%Y-%m-%d"))
    assert 0 < len(fleet.exchange.calls()) == told["requests"]
    assert folders(fleet, "market=um/kind=fundingRate/") >= {
        f"market=um/kind=fundingRate/symbol={one}" for one in FUNDED
    }
    four = (
        wanted.held(fleet, "BTCUSDT")["calc_time"]
        .dt.truncate("1h")
        .diff()
        .drop_nulls()
        .dt.total_hours()
    )
    assert set(four) == {8, 4}
    wanted.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    ("source", "symbol"), [("archive", "BTCUSD_PERP"), ("rest", "ETHUSD_PERP")]
)
def test_fundings_of_coin_m_are_whole_whichever_the_source(
    fleet: Fleet, source: str, symbol: str
) -> None:
    counted = fleet.exchange.books()["funding"]
    end = "2025-11-01" if source == "archive" else last_hour()
    wanted = Funding("cm", (symbol,), "2022-01-01", end, source)
    told = fleet.download(*wanted.arguments)
    assert told["failed"] == {}
    assert (told["files"] > 0, told["requests"] > 0) == (source == "archive", source == "rest")
    wanted.assert_held(fleet, files_until=end if source == "archive" else "2022-01-01")
    assert fleet.exchange.books()["funding"] == counted, (
        "fundings of COIN-M cost weight, not calls of USD-M's limit"
    )
    wanted.assert_nothing_is_missing(fleet)


def test_fundings_to_now_again_and_again_hold_no_event_twice(fleet: Fleet) -> None:
    """Without an end each run asks for the little time since the last, in one call, and nothing for
    the rest.
    """
    arguments = (
        "--market",
        "um",
        "--kind",
        "fundingRate",
        "--symbols",
        "SIM009USDT",
        "--start",
        "2026-01-01",
    )
    assert fleet.download(*arguments)["requests"] > 1
    for _ in range(2):
        assert fleet.download(*arguments)["requests"] <= 1
    held = lake_frame(fleet.store_url, "um", "SIM009USDT", "events", "fundingRate")
    truth = truth_frame(
        "um", "SIM009USDT", "events", ms_of("2026-01-01"), ms_of("2100-01-01"), "fundingRate"
    )
    # One that is only seconds old is left for later.
    assert held.height in (truth.height, truth.height - 1)
    assert held.drop("funding_interval_hours").equals(
        truth.drop("funding_interval_hours").head(held.height)
    )


def test_fundings_by_rest_alone_wait_for_the_limit_of_calls_instead_of_overrunning_it(
    second: Fleet,
) -> None:
    """Eighteen symbols are some 190 calls: a minute's part is taken, then the lane holds still, and
    others do not.
    """
    second.forget_calls()
    symbols = (*FUNDED, *(f"SIM{number:03d}USDT" for number in range(7, 15)))
    run = second.start(
        "download", *Funding("um", symbols, "2022-01-01", last_hour(), "rest").arguments
    )
    until(
        "a minute's calls are made",
        lambda: len(second.exchange.calls()) > 0.9 * CALLS_OF_A_MINUTE,
        within_s=180,
    )
    other = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-01-02", kind="markPriceKlines")
    second.download(*other.arguments)
    assert lake_frame(second.store_url, "um", "BTCUSDT", "1m", other.kind).equals(
        other.truth("BTCUSDT")
    )
    asked = [call for call in second.exchange.calls() if call["kind"] == "fundingRate"]
    # A call may be taken from one minute's part and arrive in the next minute: none is had twice.
    minutes = {call["at_ms"] // 60_000 for call in asked}
    assert len(asked) <= CALLS_OF_A_MINUTE * (max(minutes) - min(minutes) + 1)
    assert all(call["status"] == 200 for call in asked if call["status"])
    assert all(stretch["refused"] == 0 for stretch in second.exchange.books()["funding"])
    run.interrupt()
    run.result()


# Intervals


def together(fleet: Fleet, all_wanted: list[Wanted]) -> None:
    """Have them downloaded at the same time, by files alone; each lake is whole."""
    runs = [fleet.start("download", "--json", *wanted.arguments) for wanted in all_wanted]
    for run in runs:
        done = run.result()
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert (told["requests"], told["klines"]) == (0, told["klines_from_files"])
    for wanted in all_wanted:
        wanted.assert_held(fleet)


@pytest.mark.parametrize(
    ("market", "symbol"), [("spot", "ETHUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")]
)
def test_candles_of_days_weeks_and_months_are_whole_from_files(
    fleet: Fleet, market: str, symbol: str
) -> None:
    """Two years, over the change to microseconds; only those of a day have daily files; 1M is
    spelled 1mo.
    """
    range_ = ("2023-07-01", "2025-07-01")
    all_wanted = [
        Wanted(market, (symbol,), *range_, interval, "archive")
        for interval in ("1d", "3d", "1w", "1M")
    ]
    together(fleet, all_wanted)
    spelled = {
        f"market={market}/kind=klines/interval={one}/symbol={symbol}"
        for one in ("1d", "3d", "1w", "1mo")
    }
    assert spelled <= folders(fleet)
    all_wanted[-1].assert_nothing_is_missing(fleet)


def test_candles_of_minutes_and_hours_are_whole_from_files(fleet: Fleet) -> None:
    intervals = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h")
    symbols = (("spot", "BTCUSDT"), ("um", "ETHUSDT"), ("cm", "ETHUSD_PERP"))
    by_turns = [(*symbols[at % 3], interval) for at, interval in enumerate(intervals)]
    range_ = ("2024-12-30", "2025-02-02")
    together(
        fleet,
        [
            Wanted(market, (symbol,), *range_, interval, "archive")
            for market, symbol, interval in by_turns
        ],
    )


def test_a_day_of_seconds_is_whole_from_its_file(fleet: Fleet) -> None:
    day = Wanted("spot", ("BTCUSDT",), *newest_day(), "1s", "archive")
    told = fleet.download(*day.arguments)
    assert (told["klines_from_files"], told["files"]) == (86_400, 1)
    day.assert_held(fleet)
    day.assert_nothing_is_missing(fleet)
