from __future__ import annotations

from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest

from deploy.simulator import truth
from deploy.simulator.funding import FOUR_HOURLY_MS, JITTER_MS, MARK_TOLD_MS, TYPE_TOLD_MS, events, is_four_hourly
from deploy.simulator.funding_books import FundingBooks
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market, Pool
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from deploy.simulator.symbols import catalogue, find
from tests.unit.simulator_client import raw
from tests.unit.test_simulator_http import NOW_MS, Answer, Client, with_exchange

PATHS = {"um": "/fapi/v1", "cm": "/dapi/v1"}
MARK = "/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1m"
FUNDING = "/fapi/v1/fundingRate?symbol=BTCUSDT"
COIN_M_FUNDING = "/dapi/v1/fundingRate?symbol=BTCUSD_PERP"
WEIGHT = "x-mbx-used-weight-1m"
HOLE_MS = utc_ms("2023-11-10 03:40")
HOLE_ENDS_MS = utc_ms("2023-11-10 04:00")

PRICES = [
    ("um", "markPriceKlines", "BTCUSDT"),
    ("um", "markPriceKlines", "BTCUSDT_261225"),
    ("um", "indexPriceKlines", "ETHUSDT"),
    ("um", "premiumIndexKlines", "币安人生USDT"),
    ("cm", "markPriceKlines", "BTCUSD_PERP"),
    ("cm", "indexPriceKlines", "BTCUSD"),
    ("cm", "premiumIndexKlines", "ETHUSD_PERP"),
]


def url(market: str, kind: str, name: str, interval: str = "1h", /, **query: int) -> str:
    parameter = "pair" if kind == Kind.INDEX else "symbol"
    sent = "".join(f"&{key}={value}" for key, value in query.items())
    told = "" if kind == Kind.FUNDING else f"&interval={interval}"
    return f"{PATHS[market]}/{kind}?{parameter}={name}{told}{sent}"


async def rows(client: Client, path: str) -> list[Any]:
    answer = await client.get(path)
    assert answer.status == 200, answer.body
    assert isinstance(answer.body, list)
    return answer.body


async def opens(client: Client, path: str) -> list[int]:
    return [row[0] for row in await rows(client, path)]


async def times(client: Client, path: str) -> list[int]:
    return [row["fundingTime"] for row in await rows(client, path)]


def refused(answer: Answer) -> tuple[int, int]:
    return answer.status, answer.body["code"]


@pytest.mark.parametrize(("market", "kind", "name"), PRICES)
def test_a_candle_of_prices_has_twelve_columns_and_no_volume(market: str, kind: str, name: str) -> None:
    async def scenario(client: Client) -> None:
        page = await rows(client, url(market, kind, name, limit=3))
        assert len(page) == 3
        for row in page:
            assert len(row) == 12
            assert row[6] == row[0] + HOUR_MS - 1
            assert (row[5], row[7], row[9:]) == ("0", "0", ["0", "0", "0"])
            assert isinstance(row[8], int)
            open_, high, low, close = (float(text) for text in row[1:5])
            assert low <= min(open_, close) <= max(open_, close) <= high

    with_exchange(scenario)


@pytest.mark.parametrize(("market", "kind", "name"), PRICES)
def test_closed_candles_of_prices_are_the_truth(market: str, kind: str, name: str) -> None:
    async def scenario(client: Client) -> None:
        start_ms = NOW_MS - 150 * DAY_MS
        page = await rows(client, url(market, kind, name, "4h", startTime=start_ms, endTime=NOW_MS, limit=1_500))
        told = truth(market, name, "4h", start_ms, NOW_MS, now_ms=NOW_MS, kind=kind).decode().splitlines()
        assert [",".join(map(str, [*row[:5], row[6]])) for row in page[:-1]] == told
        assert len(told) > 800

    with_exchange(scenario)


def test_every_kind_has_prices_of_its_own() -> None:
    async def scenario(client: Client) -> None:
        pages = [
            await rows(client, url("um", kind, "BTCUSDT", startTime=utc_ms("2024-05-01"), limit=5))
            for kind in ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
        ]
        assert len({tuple(row[1] for row in page) for page in pages}) == 4
        assert len({tuple(row[0] for row in page) for page in pages}) == 1

    with_exchange(scenario)


def test_an_index_belongs_to_a_pair_and_not_to_a_symbol() -> None:
    async def scenario(client: Client) -> None:
        for path, pair, symbol in (("/fapi/v1", "BTCUSDT", "BTCUSDT_261225"), ("/dapi/v1", "BTCUSD", "BTCUSD_PERP")):
            asked = f"{path}/indexPriceKlines?interval=1h&limit=2"
            assert len(await rows(client, f"{asked}&pair={pair}")) == 2
            assert refused(await client.get(f"{asked}&pair={symbol}")) == (400, -1121)
            unnamed = await client.get(f"{asked}&symbol={pair}")
            assert refused(unnamed) == (400, -1102)
            assert "'pair'" in unnamed.body["msg"]
        for path, pair in (("/fapi/v1", "BTCUSDT"), ("/dapi/v1", "BTCUSD")):
            for kind in ("markPriceKlines", "premiumIndexKlines", "fundingRate"):
                answer = await client.get(f"{path}/{kind}?pair={pair}&interval=1h")
                assert refused(answer) == (400, -1102)
                assert "'symbol'" in answer.body["msg"]
        assert (await client.get("/sim/calls")).body[0]["symbol"] == "BTCUSDT"

    with_exchange(scenario)


def test_contracts_on_one_pair_share_its_index_and_nothing_else() -> None:
    async def scenario(client: Client) -> None:
        first = await opens(client, url("cm", "indexPriceKlines", "BTCUSD", "1d", startTime=utc_ms("2020-08-01")))
        assert first[0] == utc_ms("2020-08-10")
        window = {"startTime": utc_ms("2026-11-01"), "endTime": utc_ms("2026-11-02")}
        marks = [
            await rows(client, url("cm", "markPriceKlines", name, **window))
            for name in ("BTCUSD_PERP", "BTCUSD_261225")
        ]
        assert [row[0] for row in marks[0]] == [row[0] for row in marks[1]]
        assert [row[1] for row in marks[0]] != [row[1] for row in marks[1]]

    with_exchange(scenario)


def test_a_premium_is_small_has_eight_decimals_and_goes_below_nothing() -> None:
    window = (utc_ms("2024-01-01"), utc_ms("2025-01-01"))
    told = truth("um", "BTCUSDT", "1h", *window, now_ms=NOW_MS, kind="premiumIndexKlines")
    prices = [text for line in told.decode().splitlines() for text in line.split(",")[1:5]]
    assert all(len(text.partition(".")[2]) == 8 for text in prices)
    assert min(map(float, prices)) < 0 < max(map(float, prices))
    assert max(abs(float(text)) for text in prices) < 0.01


@pytest.mark.parametrize(("market", "symbol"), [("um", "BTCUSDT_261225"), ("cm", "BTCUSD_261225")])
def test_what_is_delivered_on_a_day_has_a_mark_price_but_no_premium_and_no_funding(market: str, symbol: str) -> None:
    async def scenario(client: Client) -> None:
        assert len(await rows(client, url(market, "markPriceKlines", symbol, limit=9))) == 9
        assert await rows(client, url(market, "premiumIndexKlines", symbol, limit=9)) == []
        assert await rows(client, url(market, "fundingRate", symbol)) == []
        assert await rows(client, url(market, "fundingRate", symbol, startTime=NOW_MS - 30 * DAY_MS, limit=9)) == []

    with_exchange(scenario)


@pytest.mark.parametrize("kind", ["markPriceKlines", "indexPriceKlines", "premiumIndexKlines"])
@pytest.mark.parametrize(("market", "name"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")])
def test_prices_weigh_what_klines_weigh(market: str, name: str, kind: str) -> None:
    async def scenario(client: Client) -> None:
        thing = name.partition("_")[0] if kind == Kind.INDEX else name
        used = 0
        for limit, weight in ((99, 1), (499, 2), (1_000, 5), (1_500, 10)):
            used += weight
            answer = await client.get(url(market, kind, thing, limit=limit))
            assert (answer.status, answer.headers[WEIGHT]) == (200, str(used))
        answer = await client.get(url(market, kind, thing, limit=1_501))
        assert refused(answer) == (400, -1130)
        assert answer.headers[WEIGHT] == str(used + 10)
        assert (await client.get(url(market, kind, thing))).headers[WEIGHT] == str(used + 15)

    with_exchange(scenario)


def test_prices_refuse_what_klines_refuse() -> None:
    async def scenario(client: Client) -> None:
        for market, kind, name in PRICES:
            assert refused(await client.get(url(market, kind, name, "1s"))) == (400, -1120)
            assert refused(await client.get(url(market, kind, "NOSUCH"))) == (400, -1121)
            assert refused(await client.get(url(market, kind, name, startTime=2, endTime=1))) == (400, -1023)
        assert (await client.get("/sim/books")).body["klines"] == 0

    with_exchange(scenario)


def test_prices_of_usd_m_come_oldest_first_and_those_of_coin_m_newest_first() -> None:
    async def scenario(client: Client) -> None:
        start_ms, end_ms = utc_ms("2024-05-01"), utc_ms("2024-05-02")
        window = {"startTime": start_ms, "endTime": end_ms, "limit": 3}
        for market, kind, name in PRICES:
            if name in ("BTCUSDT_261225", "币安人生USDT"):
                continue
            found = await opens(client, url(market, kind, name, **window))
            first_ms = start_ms if market == "um" else end_ms - 2 * HOUR_MS
            assert found == [first_ms + n * HOUR_MS for n in range(3)], kind

    with_exchange(scenario)


def test_ends_of_a_window_are_inclusive_for_prices_too() -> None:
    async def scenario(client: Client) -> None:
        start_ms = utc_ms("2024-05-01")
        for market, kind, name in (PRICES[0], PRICES[5], PRICES[6]):
            for start, end, count in ((0, 0, 1), (0, HOUR_MS, 2), (0, HOUR_MS - 1, 1), (1, HOUR_MS, 1), (1, 2, 0)):
                window = {"startTime": start_ms + start, "endTime": start_ms + end}
                assert len(await opens(client, url(market, kind, name, **window))) == count

    with_exchange(scenario)


def test_coin_m_answers_200_days_at_most_except_of_premiums() -> None:
    async def scenario(client: Client) -> None:
        start_ms = utc_ms("2022-01-01")
        for kind, name in (
            ("klines", "BTCUSD_PERP"),
            ("markPriceKlines", "BTCUSD_PERP"),
            ("indexPriceKlines", "BTCUSD"),
        ):
            window = {"startTime": start_ms, "endTime": start_ms + 200 * DAY_MS}
            assert len(await opens(client, url("cm", kind, name, "1d", **window))) == 201
            window["endTime"] += 1
            answer = await client.get(url("cm", kind, name, "1d", **window))
            assert refused(answer) == (400, -4088)
            assert answer.body["msg"] == "Maximum time interval is 200 days."
            alone = await opens(client, url("cm", kind, name, "1d", startTime=start_ms, limit=1_500))
            assert (alone[0], alone[-1]) == (start_ms, start_ms + 200 * DAY_MS)
        long = url("cm", "premiumIndexKlines", "BTCUSD_PERP", "1d", startTime=start_ms, endTime=start_ms + 900 * DAY_MS)
        assert len(await opens(client, f"{long}&limit=1500")) == 901
        assert (await opens(client, f"{long}&limit=2"))[-1] == start_ms + 900 * DAY_MS
        usd_m = url("um", "markPriceKlines", "BTCUSDT", "1d", startTime=start_ms, endTime=start_ms + 900 * DAY_MS)
        assert len(await opens(client, f"{usd_m}&limit=1500")) == 901

    with_exchange(scenario)


@pytest.mark.parametrize(("interval", "step_ms"), [("1m", MINUTE_MS), ("5m", 5 * MINUTE_MS)])
def test_mark_prices_of_usd_m_lack_the_hole_and_no_candle_beside_it(interval: str, step_ms: int) -> None:
    async def scenario(client: Client) -> None:
        window = {"startTime": HOLE_MS - HOUR_MS, "endTime": HOLE_ENDS_MS + HOUR_MS}
        wanted = range(window["startTime"], window["endTime"] + 1, step_ms)
        found = await opens(client, url("um", "markPriceKlines", "ETHUSDT", interval, **window))
        assert found == [open_ms for open_ms in wanted if not HOLE_MS <= open_ms < HOLE_ENDS_MS]
        assert found[found.index(HOLE_ENDS_MS) - 1] == HOLE_MS - step_ms
        for market, kind, name in (
            ("um", "klines", "ETHUSDT"),
            ("um", "indexPriceKlines", "ETHUSDT"),
            ("um", "premiumIndexKlines", "ETHUSDT"),
            ("cm", "markPriceKlines", "ETHUSD_PERP"),
        ):
            assert await opens(client, url(market, kind, name, interval, **window)) == list(wanted), kind

    with_exchange(scenario)


def test_the_hole_takes_nothing_from_a_page_and_a_page_inside_it_is_empty() -> None:
    async def scenario(client: Client) -> None:
        start_ms = HOLE_MS - 5 * MINUTE_MS
        found = await opens(client, f"{MARK}&startTime={start_ms}&limit=10")
        assert len(found) == 10
        assert found[4:6] == [HOLE_MS - MINUTE_MS, HOLE_ENDS_MS]
        found = await opens(client, f"{MARK}&endTime={HOLE_ENDS_MS + 4 * MINUTE_MS}&limit=10")
        assert len(found) == 10
        assert found[4:6] == [HOLE_MS - MINUTE_MS, HOLE_ENDS_MS]
        assert await opens(client, f"{MARK}&startTime={HOLE_MS}&endTime={HOLE_ENDS_MS - 1}") == []
        assert await opens(client, f"{MARK}&startTime={HOLE_MS}&limit=1") == [HOLE_ENDS_MS]
        assert await opens(client, f"{MARK}&endTime={HOLE_ENDS_MS - 1}&limit=1") == [HOLE_MS - MINUTE_MS]

    with_exchange(scenario)


@pytest.mark.parametrize(("market", "kind", "name"), PRICES)
def test_a_forming_candle_does_not_tell_what_it_will_become(market: str, kind: str, name: str) -> None:
    async def scenario(client: Client) -> None:
        client.now_ms = utc_ms("2026-11-21 01:00:00")
        path = url(market, kind, name, "1m", limit=1)
        seen: list[Any] = []
        for _ in range(4):
            (forming,) = await rows(client, path)
            assert forming[0] == client.now_ms
            assert len(set(forming[1:5])) == 1
            told = truth(market, name, "1m", forming[0], forming[0] + MINUTE_MS, now_ms=client.now_ms, kind=kind)
            assert told == b""
            client.now_ms += MINUTE_MS - 1
            (last,) = await rows(client, path)
            assert last == forming
            client.now_ms += 1
            (closed, _) = await rows(client, path.replace("limit=1", "limit=2"))
            assert (closed[0], closed[1], closed[6]) == (forming[0], forming[1], forming[6])
            seen.append(closed[1:5] != forming[1:5])
        assert any(seen)

    with_exchange(scenario)


@pytest.mark.parametrize(("market", "name"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP"), ("um", "币安人生USDT")])
def test_fundings_are_told_in_order_and_soon_after_the_full_hour(market: str, name: str) -> None:
    async def scenario(client: Client) -> None:
        page = await rows(client, url(market, "fundingRate", name, startTime=utc_ms("2026-01-01"), limit=1_000))
        found = [row["fundingTime"] for row in page]
        assert all(before < after for before, after in pairwise(found))
        assert all(moment % (4 * HOUR_MS) < JITTER_MS == 13 for moment in found)
        assert len({moment % HOUR_MS for moment in found}) > 3
        assert {row["symbol"] for row in page} == {name}
        assert all(isinstance(row["fundingRate"], str) for row in page)
        rates = [float(row["fundingRate"]) for row in page]
        assert min(rates) < 0 < max(rates)
        assert await rows(client, url(market, "fundingRate", name, startTime=found[0], limit=1_000)) == page

    with_exchange(scenario)


def test_fundings_are_the_truth() -> None:
    async def scenario(client: Client) -> None:
        for market, name in (("um", "ETHUSDT"), ("cm", "ETHUSD_PERP")):
            start_ms = utc_ms("2023-09-01")
            page = await rows(client, url(market, "fundingRate", name, startTime=start_ms, limit=1_000))
            end_ms = page[-1]["fundingTime"] + 1
            told = truth(market, name, "", start_ms, end_ms, now_ms=NOW_MS, kind="fundingRate").decode().splitlines()
            assert len(page) == 1_000
            columns = [line.split(",") for line in told]
            assert [[str(row["fundingTime"]), row["fundingRate"], row["markPrice"]] for row in page] == [
                [row[0], row[2], row[3]] for row in columns
            ]
            hours = [int(row[1]) for row in columns]
            floors = [row["fundingTime"] // HOUR_MS for row in page]
            assert [after - before for before, after in pairwise(floors)] == hours[1:]

    with_exchange(scenario)


def test_both_ends_of_a_window_of_fundings_are_inclusive() -> None:
    async def scenario(client: Client) -> None:
        for path in (FUNDING, COIN_M_FUNDING):
            first, *_, last = found = await times(client, f"{path}&startTime={utc_ms('2022-03-01')}&limit=10")
            assert await times(client, f"{path}&startTime={first}&endTime={last}") == found
            assert await times(client, f"{path}&startTime={first + 1}&endTime={last}") == found[1:]
            assert await times(client, f"{path}&startTime={first}&endTime={last - 1}") == found[:-1]
            assert await times(client, f"{path}&startTime={first}&endTime={first}") == [first]
            assert await times(client, f"{path}&startTime={first + 1}&endTime={found[1] - 1}") == []

    with_exchange(scenario)


def test_from_a_start_the_oldest_are_told_and_without_one_the_newest() -> None:
    async def scenario(client: Client) -> None:
        start_ms, end_ms = utc_ms("2022-03-01"), utc_ms("2022-06-01")
        whole = await times(client, f"{FUNDING}&startTime={start_ms}&endTime={end_ms}&limit=1000")
        assert len(whole) > 100
        assert await times(client, f"{FUNDING}&startTime={start_ms}&endTime={end_ms}&limit=7") == whole[:7]
        assert await times(client, f"{FUNDING}&startTime={start_ms}&limit=7") == whole[:7]
        assert await times(client, f"{FUNDING}&endTime={end_ms}&limit=7") == whole[-7:]
        newest = await times(client, f"{FUNDING}&limit=3")
        assert newest[-1] // HOUR_MS == utc_ms("2026-11-21 00:00") // HOUR_MS
        assert await times(client, f"{FUNDING}&startTime={newest[-1] + 1}") == []

    with_exchange(scenario)


def test_a_start_of_zero_is_answered_with_the_newest_fundings() -> None:
    async def scenario(client: Client) -> None:
        newest = await times(client, f"{FUNDING}&limit=5")
        assert await times(client, f"{FUNDING}&startTime=0&limit=5") == newest
        assert await times(client, f"{FUNDING}&startTime=0&limit=1") == newest[-1:]
        first = await times(client, f"{FUNDING}&startTime=1568102400000&limit=1")
        assert first[0] // HOUR_MS == 1568102400000 // HOUR_MS
        assert (await times(client, f"{FUNDING}&startTime=1&limit=1"))[0] < first[0]

    with_exchange(scenario)


@pytest.mark.parametrize("path", [FUNDING, COIN_M_FUNDING])
def test_fundings_are_100_where_times_are_sent_200_where_none_are_and_1000_at_most(path: str) -> None:
    async def scenario(client: Client) -> None:
        start_ms = utc_ms("2022-03-01")
        assert len(await times(client, path)) == 200
        assert len(await times(client, f"{path}&startTime={start_ms}")) == 100
        assert len(await times(client, f"{path}&endTime={NOW_MS}")) == 100
        assert len(await times(client, f"{path}&startTime={start_ms}&limit=1000")) == 1_000
        for limit in (0, 1_001):
            assert refused(await client.get(f"{path}&limit={limit}")) == (400, -1130)
        assert refused(await client.get(f"{path}&startTime=2&endTime=1")) == (400, -1023)
        assert refused(await client.get(path.partition("=")[0] + "=NOSUCH")) == (400, -1121)

    with_exchange(scenario)


def test_no_funding_is_told_before_it_happens_or_after_the_trading() -> None:
    async def scenario(client: Client) -> None:
        last = (await times(client, f"{FUNDING}&limit=1"))[-1]
        client.now_ms = last - 1
        before = await times(client, f"{FUNDING}&endTime={NOW_MS + DAY_MS}&limit=1")
        assert before[0] < last
        client.now_ms = last
        assert await times(client, f"{FUNDING}&limit=1") == [last]
        client.now_ms = NOW_MS
        settled = (await times(client, "/fapi/v1/fundingRate?symbol=OMGUSDT&limit=1"))[-1]
        assert 1_738_314_000_000 - 8 * HOUR_MS < settled <= 1_738_314_000_000

    with_exchange(scenario)


def test_some_symbols_are_funded_every_four_hours_from_march_2024_on_and_never_before() -> None:
    counted = dict.fromkeys((True, False), 0)
    for instrument in catalogue(Market.USD_M, 40):
        if instrument.name == "BTCUSDT_261225" or instrument.listed_ms > utc_ms("2023-01-01") or instrument.ends_ms:
            continue
        found = events(instrument, FOUR_HOURLY_MS - 60 * DAY_MS, FOUR_HOURLY_MS + 60 * DAY_MS)
        gaps = {
            is_late: {
                after.at_ms // HOUR_MS - before.at_ms // HOUR_MS
                for before, after in pairwise(found)
                if (before.at_ms >= FOUR_HOURLY_MS) is is_late
            }
            for is_late in (True, False)
        }
        assert gaps[False] == {8}
        assert gaps[True] == {4 if is_four_hourly(instrument) else 8}
        assert {event.hours for event in found if event.at_ms > FOUR_HOURLY_MS + HOUR_MS} == gaps[True]
        counted[is_four_hourly(instrument)] += 1
    assert min(counted.values()) > 3


def test_a_mark_price_is_told_with_fundings_from_november_2023_on() -> None:
    async def scenario(client: Client) -> None:
        for path in (FUNDING, COIN_M_FUNDING):
            page = await rows(client, f"{path}&startTime={MARK_TOLD_MS - 5 * DAY_MS}&limit=40")
            told = [(row["fundingTime"] >= MARK_TOLD_MS, row["markPrice"] != "") for row in page]
            assert {is_late == is_told for is_late, is_told in told} == {True}
            assert {is_late for is_late, _ in told} == {True, False}
            assert all(float(row["markPrice"]) > 0 for row in page[-10:])

    with_exchange(scenario)


def test_whether_a_rate_is_regular_is_told_by_usd_m_only_and_since_july_2026() -> None:
    async def scenario(client: Client) -> None:
        page = await rows(client, f"{FUNDING}&startTime={TYPE_TOLD_MS - 5 * DAY_MS}&limit=40")
        assert page[0]["fundingTime"] < TYPE_TOLD_MS < page[-1]["fundingTime"]
        for row in page:
            assert row.get("rateType") == ("Regular" if row["fundingTime"] >= TYPE_TOLD_MS else None)
        page = await rows(client, f"{COIN_M_FUNDING}&limit=40")
        assert all(set(row) == {"symbol", "fundingTime", "fundingRate", "markPrice"} for row in page)

    with_exchange(scenario)


def test_fundings_of_usd_m_cost_no_weight_and_tell_none() -> None:
    async def scenario(client: Client) -> None:
        for path in (FUNDING, f"{FUNDING}&limit=1001", "/fapi/v1/fundingRate?symbol=NOSUCH"):
            answer = await client.get(path)
            assert not [name for name in answer.headers if name.startswith("x-mbx-used-weight")]
        assert (await client.get("/fapi/v1/ping")).headers[WEIGHT] == "1"

    with_exchange(scenario, limits={Pool.SPOT: 1, Pool.FUTURES: 1})


def test_fundings_of_coin_m_weigh_one_in_the_pool_of_both() -> None:
    async def scenario(client: Client) -> None:
        answers = [await client.get(f"{COIN_M_FUNDING}{more}") for more in ("", "&limit=1000", "&limit=1001")]
        assert [answer.headers[WEIGHT] for answer in answers] == ["1", "2", "3"]
        assert (await client.get("/fapi/v1/ping")).headers[WEIGHT] == "4"
        assert (await client.get("/sim/books")).body["funding"] == []

    with_exchange(scenario)


def test_the_501st_call_for_fundings_in_five_minutes_is_429_and_stops_nothing_else() -> None:
    async def scenario(client: Client) -> None:
        path = f"{FUNDING}&startTime={NOW_MS - DAY_MS}&limit=1"
        statuses = [(await client.get(path)).status for _ in range(500)]
        assert set(statuses) == {200}
        for _ in range(15):
            refusal = await client.get(path)
            assert refused(refusal) == (429, -1003)
            assert not {WEIGHT, "retry-after"} & set(refusal.headers)
        assert (await client.get(MARK)).status == 200
        assert (await client.get(COIN_M_FUNDING)).status == 200
        (stretch,) = (await client.get("/sim/books")).body["funding"]
        assert stretch == {
            "address": "127.0.0.1",
            "minute_ms": utc_ms("2026-11-21 01:00"),
            "limit": 500,
            "calls": 515,
            "refused": 15,
        }
        client.now_ms = utc_ms("2026-11-21 01:05") - 1
        assert (await client.get(path)).status == 429
        client.now_ms += 1
        assert (await client.get(path)).status == 200
        told = (await client.get("/sim/books")).body["funding"]
        assert [(one["minute_ms"], one["calls"]) for one in told] == [
            (utc_ms("2026-11-21 01:00"), 516),
            (utc_ms("2026-11-21 01:05"), 1),
        ]
        await client.call("DELETE", "/sim/books")
        assert (await client.get("/sim/books")).body["funding"] == []

    with_exchange(scenario)


def test_calls_for_fundings_are_counted_by_address_and_calendar() -> None:
    books = FundingBooks()
    begins_ms = utc_ms("2026-11-21 01:05")
    verdicts = [books.count("1.1.1.1", begins_ms + n) for n in range(501)]
    assert [verdict.status for verdict in verdicts] == [HTTPStatus.OK] * 500 + [HTTPStatus.TOO_MANY_REQUESTS]
    assert verdicts[-1].until_ms == begins_ms + 5 * MINUTE_MS
    assert books.count("2.2.2.2", begins_ms).status is HTTPStatus.OK
    assert books.count("1.1.1.1", begins_ms - 1).status is HTTPStatus.OK
    assert books.count("1.1.1.1", begins_ms + 5 * MINUTE_MS).status is HTTPStatus.OK


def test_who_is_banned_from_futures_gets_no_fundings_and_counts_none() -> None:
    async def scenario(client: Client) -> None:
        await client.call("POST", "/sim/ban", {"address": "127.0.0.1", "pool": "futures", "seconds": 60})
        for path in (FUNDING, COIN_M_FUNDING, MARK):
            answer = await client.get(path)
            assert refused(answer) == (418, -1003)
            assert f"banned until {NOW_MS + 60_000}" in answer.body["msg"]
        assert (await client.get("/sim/books")).body["funding"] == []

    with_exchange(scenario)


def test_calls_for_fundings_can_be_made_to_fail_and_faults_of_the_front_door_are_not_counted() -> None:
    async def scenario(client: Client) -> None:
        await client.call("PUT", "/sim/faults", {"rates": {"503": 1}})
        assert (await client.get(FUNDING)).status == 503
        assert (await client.get("/sim/books")).body["funding"] == []
        await client.call("PUT", "/sim/faults", {"rates": {"500": 1}})
        answer = await client.get(FUNDING)
        assert answer.status == 500
        assert WEIGHT not in answer.headers
        books = (await client.get("/sim/books")).body
        assert (books["funding"][0]["calls"], books["faults"]) == (1, {"503": 1, "500": 1})

    with_exchange(scenario)


def test_the_log_tells_the_kind_of_every_call() -> None:
    async def scenario(client: Client) -> None:
        asked = [("um", kind, "BTCUSDT") for kind in Kind] + [("cm", "indexPriceKlines", "BTCUSD")]
        for market, kind, name in asked:
            await client.get(url(market, kind, name, limit=2))
        calls = (await client.get("/sim/calls")).body
        assert [(call["market"], call["kind"], call["symbol"]) for call in calls] == asked
        assert [call["interval"] for call in calls] == ["1h", "1h", "1h", "1h", None, "1h"]
        assert {(call["status"], call["rows"], call["limit"]) for call in calls} == {(200, 2, "2")}

    with_exchange(scenario)


@pytest.mark.parametrize("kind", ["markPriceKlines", "indexPriceKlines", "premiumIndexKlines", "fundingRate"])
def test_spot_has_klines_and_nothing_else(kind: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await raw(client, f"/api/v3/{kind}?symbol=BTCUSDT&pair=BTCUSDT&interval=1h")
        assert answer.status == 404
        assert (await client.get("/sim/calls")).body == []

    with_exchange(scenario)


def test_the_truth_knows_forgotten_contracts_and_ends_with_them() -> None:
    instrument = find(Market.USD_M, "SRMUSDT")
    assert instrument is not None
    assert instrument.ends_ms == utc_ms("2022-11-28 05:00")
    for kind in Kind:
        told = truth("um", "SRMUSDT", "1h", utc_ms("2022-11-01"), NOW_MS, now_ms=NOW_MS, kind=kind).splitlines()
        last_ms = int(told[-1].split(b",")[0])
        assert instrument.ends_ms - 8 * HOUR_MS <= last_ms < instrument.ends_ms + HOUR_MS
    with pytest.raises(KeyError, match="NOSUCH"):
        truth("cm", "NOSUCH", "1h", 0, NOW_MS, now_ms=NOW_MS, kind="indexPriceKlines")
