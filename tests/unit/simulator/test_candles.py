from __future__ import annotations

import json
from itertools import pairwise
from math import lcm

import pytest

from deploy.simulator import truth
from deploy.simulator.candles import pen
from deploy.simulator.intervals import GRIDS
from deploy.simulator.markets import RULES, Market
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from deploy.simulator.outages import SPOT_OUTAGES
from deploy.simulator.source import Generated
from deploy.simulator.symbols import NAMED, catalogue, find
from deploy.simulator.tables import FLOWS, PRICES, tables
from deploy.simulator.timeline import Series
from deploy.simulator.windows import Window

NOW_MS = utc_ms("2026-11-21 01:00:30")
SOURCE = Generated(symbols=30)


def rows(symbol: str, interval: str, start: str, end: str, market: str = "spot") -> list[list[str]]:
    text = truth(market, symbol, interval, utc_ms(start), utc_ms(end), now_ms=NOW_MS).decode()
    return [line.split(",") for line in text.splitlines()]


def opens(symbol: str, interval: str, start: str, end: str, market: str = "spot") -> list[int]:
    return [int(row[0]) for row in rows(symbol, interval, start, end, market)]


def served(
    market: Market, symbol: str, interval: str, start_ms: int, end_ms: int
) -> list[list[str]]:
    """Return the window page by page, as a client would read it."""
    collected: list[list[str]] = []
    while start_ms < end_ms:
        page = SOURCE.page(
            market, symbol, interval, Window(start_ms, end_ms - 1, 700, newest=False), now_ms=NOW_MS
        )
        candles = json.loads(page.body)
        if not candles:
            break
        collected += [
            [str(field) for field in candle[:11]] for candle in candles if candle[6] < NOW_MS
        ]
        start_ms = candles[-1][0] + 1
    return collected


@pytest.mark.parametrize(
    ("market", "symbol", "interval", "start", "end"),
    [
        ("spot", "BTCUSDT", "1m", "2017-08-17 00:00", "2017-09-08 00:00"),
        ("spot", "ETHUSDT", "1m", "2018-02-07 00:00", "2018-02-12 00:00"),
        ("spot", "BTCUSDT", "1h", "2017-08-01 00:00", "2018-08-01 00:00"),
        ("spot", "BTCUSDT", "1s", "2017-12-18 10:00", "2017-12-18 10:20"),
        ("spot", "BCCUSDT", "5m", "2018-11-10 00:00", "2018-12-01 00:00"),
        ("spot", "币安人生USDT", "1d", "2025-01-01 00:00", "2027-01-01 00:00"),
        ("spot", "BTCUSDT", "1M", "2017-01-01 00:00", "2027-01-01 00:00"),
        ("um", "OMGUSDT", "15m", "2025-01-01 00:00", "2025-03-01 00:00"),
        ("um", "BTCUSDT", "1m", "2021-03-01 00:00", "2021-03-04 00:00"),
        ("um", "BTCUSDT", "1m", "2026-11-20 00:00", "2026-11-22 00:00"),
        ("cm", "BTCUSD_PERP", "4h", "2021-01-01 00:00", "2022-01-01 00:00"),
        ("cm", "BTCUSD_261225", "1w", "2026-01-01 00:00", "2027-01-01 00:00"),
    ],
)
def test_pages_put_together_are_the_truth(
    market: str, symbol: str, interval: str, start: str, end: str
) -> None:
    assert served(Market(market), symbol, interval, utc_ms(start), utc_ms(end)) == rows(
        symbol, interval, start, end, market
    )


def test_a_leap_year_without_outages_has_every_minute() -> None:
    year = truth(
        "spot",
        "BTCUSDT",
        "1m",
        utc_ms("2024-01-01 00:00"),
        utc_ms("2025-01-01 00:00"),
        now_ms=NOW_MS,
    )
    assert year.count(b"\n") == 527_040
    assert year.startswith(b"%d," % utc_ms("2024-01-01 00:00"))
    assert year.splitlines()[-1].startswith(b"%d," % utc_ms("2024-12-31 23:59"))


def test_the_candle_still_forming_is_not_part_of_the_truth() -> None:
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS
    text = truth("um", "BTCUSDT", "1m", minute_ms - MINUTE_MS, minute_ms + DAY_MS, now_ms=NOW_MS)
    assert text.count(b"\n") == 1
    assert text.startswith(b"%d," % (minute_ms - MINUTE_MS))


def test_no_candle_opens_during_an_outage() -> None:
    for outage in SPOT_OUTAGES:
        found = truth(
            "spot", "BTCUSDT", "1m", outage.start_ms, outage.end_ms - MINUTE_MS, now_ms=NOW_MS
        )
        assert found == b"", outage


def test_the_last_candle_before_an_outage_off_the_minute_is_cut_short() -> None:
    recorded = {
        "2017-09-06 16:00": 1504713600000,
        "2018-01-04 03:00": 1515034814838,
        "2018-02-08 00:28": 1518049694788,
        "2018-07-04 00:22": 1530663745551,
        "2021-08-13 01:59": 1628819999000,
    }
    for minute, close_ms in recorded.items():
        (row,) = rows("BTCUSDT", "1m", minute, minute + ":01")
        assert int(row[6]) == close_ms


def test_a_candle_that_sees_the_restart_keeps_its_whole_length() -> None:
    (day,) = rows("BTCUSDT", "1d", "2018-01-04 00:00", "2018-01-05 00:00")
    assert int(day[6]) - int(day[0]) == DAY_MS - 1
    (hour,) = rows("BTCUSDT", "1h", "2018-01-04 03:00", "2018-01-04 04:00")
    assert int(hour[6]) == 1515034814838


def test_after_the_restart_of_february_2018_candles_open_off_the_minute() -> None:
    hours = opens("BTCUSDT", "1h", "2018-02-08 00:00", "2018-02-10 08:00")
    assert hours[:3] == [utc_ms("2018-02-08 00:00"), 1518168494789, 1518168494789 + HOUR_MS]
    minutes = opens("BTCUSDT", "1m", "2018-02-09 00:00", "2018-02-10 06:00")
    assert minutes[0] == utc_ms("2018-02-09 10:00:14.789")
    assert {minute % MINUTE_MS for minute in minutes} == {14_789}
    assert opens("BTCUSDT", "1m", "2018-02-10 06:00", "2018-02-10 06:17") == [
        utc_ms("2018-02-10 06:15"),
        utc_ms("2018-02-10 06:16"),
    ]


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1s", "2018-02-10 05:50", "2018-02-10 06:20"),
        *(
            (interval, "2018-01-25 00:00", "2018-02-15 00:00")
            for interval in ("1m", "3m", "5m", "15m")
        ),
        *(
            (interval, "2017-08-17 00:00", "2018-12-01 00:00")
            for interval in ("30m", "1h", "4h", "1d", "1w", "1M")
        ),
    ],
)
def test_candles_never_overlap(interval: str, start: str, end: str) -> None:
    times = [(int(row[0]), int(row[6])) for row in rows("BTCUSDT", interval, start, end)]
    assert all(open_ms <= close_ms for open_ms, close_ms in times)
    assert all(before[1] < after[0] for before, after in pairwise(times))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BCCUSDT", "SIM007USDT"])
@pytest.mark.parametrize("interval", ["2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"])
def test_a_coarse_candle_exists_when_a_minute_of_it_does(symbol: str, interval: str) -> None:
    instrument = find(Market.SPOT, symbol)
    assert instrument is not None
    grid, expected, found = GRIDS[interval], set(), set()
    for run in Series(instrument, "1m").runs(0, NOW_MS):
        first, last = (grid.index_at(run.grid.open_of(index)) for index in (run.first, run.last))
        expected.update(range(first, last + 1))
    for run in Series(instrument, interval).runs(0, NOW_MS):
        found.update(range(run.first, run.last + 1))
    assert found == expected


def test_futures_trade_nothing_for_half_an_hour_and_still_have_candles() -> None:
    for market, symbol in (("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        quiet = rows(symbol, "1m", "2021-03-02 01:15", "2021-03-02 01:46", market)
        assert len(quiet) == 31
        assert {tuple(map(float, row[1:5])) for row in quiet} == {(float(quiet[0][1]),) * 4}
        assert {(float(row[5]), row[8]) for row in quiet} == {(0.0, "0")}
        (before,) = rows(symbol, "1m", "2021-03-02 01:14", "2021-03-02 01:15", market)
        assert before[4] == quiet[0][1]
        (hour,) = rows(symbol, "1h", "2021-03-02 01:00", "2021-03-02 02:00", market)
        assert float(hour[5]) > 0


def test_a_delisted_symbol_ends_where_it_was_delisted() -> None:
    assert opens("BCCUSDT", "1m", "2018-11-15 00:00", "2019-01-01 00:00")[-1] == utc_ms(
        "2018-11-15 01:59"
    )
    settled = opens("OMGUSDT", "1m", "2025-01-31 00:00", "2025-03-01 00:00", "um")
    assert settled[-1] == 1_738_314_000_000 - MINUTE_MS


def test_a_day_begun_before_the_listing_opens_at_midnight() -> None:
    first = opens("BTCUSDT", "1d", "2019-01-01 00:00", "2019-10-01 00:00", "um")[0]
    assert first == 1_567_900_800_000, "what the exchange answers for this contract"


def test_prices_go_on_where_they_left_off() -> None:
    candles = rows("SIM001USDT", "1m", "2024-05-01 00:00", "2024-05-08 00:00")
    assert all(before[4] == after[1] for before, after in pairwise(candles))
    for row in candles:
        open_, high, low, close = map(float, row[1:5])
        assert low <= min(open_, close) <= max(open_, close) <= high
        assert float(row[9]) <= float(row[5])


@pytest.mark.parametrize("market", list(Market))
def test_no_two_candles_of_a_series_are_alike_in_thirty_years_of_minutes(market: Market) -> None:
    made_of = tables(market)
    assert len(set(made_of.prices)) == PRICES
    assert len(set(made_of.flows)) == FLOWS
    assert lcm(PRICES, FLOWS) * MINUTE_MS > 30 * 366 * DAY_MS


def test_no_two_symbols_or_intervals_begin_at_the_same_place() -> None:
    for market in Market:
        shifts = [
            pen(Series(instrument, interval)).shift
            for instrument in catalogue(market, 600)
            for interval in RULES[market].intervals
        ]
        assert len(set(shifts)) > 0.999 * len(shifts)
        minutes = {pen(Series(instrument, "1m")).shift for instrument in catalogue(market, 600)}
        assert len(minutes) == len(catalogue(market, 600))


def test_a_generated_symbol_does_not_depend_on_the_size_of_the_catalogue() -> None:
    small, large = catalogue(Market.SPOT, 50), catalogue(Market.SPOT, 500)
    assert large[: len(small)] == small
    assert len(large) == 500
    assert all(
        find(instrument.market, instrument.name) == instrument for instrument in [*large, *NAMED]
    )
    assert {
        instrument.listed_ms // (366 * DAY_MS)
        for instrument in large
        if instrument.base.startswith("SIM")
    }


def test_an_unknown_symbol_has_no_truth() -> None:
    with pytest.raises(KeyError, match="NOSUCH"):
        truth("spot", "NOSUCH", "1m", 0, NOW_MS, now_ms=NOW_MS)
