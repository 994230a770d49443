"""Mark, index and premium prices through the command: whole, and each in its own folder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.schema import schema_of
from tests.acceptance.funding import Funding, folders
from tests.acceptance.refusals import calls_for_rows
from tests.expected import Wanted, lake_frame, ms_of
from tests.harness import Fleet


@pytest.fixture(autouse=True)
def _nothing_logged(fleet: Fleet) -> None:
    fleet.forget_calls()


@pytest.mark.parametrize(("market", "symbol"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")])
def test_a_year_of_mark_prices_lacks_nothing_but_what_the_exchange_lacks(
    fleet: Fleet, market: str, symbol: str
) -> None:
    year = Wanted(
        market, (symbol,), "2023-01-01", "2024-01-01", source="auto", kind="markPriceKlines"
    )
    told = fleet.download(*year.arguments)
    # The day of the minutes that the month lacks is asked about them as well.
    assert told["files"] == (13 if market == "um" else 12)
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
    """Each kind of a symbol has its own folder and only the columns that it fills."""
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
    assert calls_for_rows(fleet) == 0
