"""Fundings of the stand-in exchange: which are told, when, and how many calls may ask for them."""

from __future__ import annotations

from http import HTTPStatus
from itertools import pairwise

import pytest

from deploy.simulator import truth
from deploy.simulator.funding import (
    FOUR_HOURLY_MS,
    JITTER_MS,
    MARK_TOLD_MS,
    TYPE_TOLD_MS,
    events,
    is_four_hourly,
)
from deploy.simulator.funding_books import FundingBooks
from deploy.simulator.markets import Market, Pool
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from deploy.simulator.symbols import catalogue
from tests.unit.helpers.kinds_client import (
    COIN_M_FUNDING,
    FUNDING,
    MARK,
    WEIGHT,
    refused,
    rows,
    times,
    url,
)
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange


@pytest.mark.parametrize(
    ("market", "name"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP"), ("um", "币安人生USDT")]
)
def test_fundings_are_told_in_order_and_soon_after_the_full_hour(market: str, name: str) -> None:
    async def scenario(client: Client) -> None:
        page = await rows(
            client, url(market, "fundingRate", name, startTime=utc_ms("2026-01-01"), limit=1_000)
        )
        found = [row["fundingTime"] for row in page]
        assert all(before < after for before, after in pairwise(found))
        assert all(moment % (4 * HOUR_MS) < JITTER_MS == 13 for moment in found)
        assert len({moment % HOUR_MS for moment in found}) > 3
        assert {row["symbol"] for row in page} == {name}
        assert all(isinstance(row["fundingRate"], str) for row in page)
        rates = [float(row["fundingRate"]) for row in page]
        assert min(rates) < 0 < max(rates)
        assert (
            await rows(client, url(market, "fundingRate", name, startTime=found[0], limit=1_000))
            == page
        )

    with_exchange(scenario)


def test_fundings_are_the_truth() -> None:
    async def scenario(client: Client) -> None:
        for market, name in (("um", "ETHUSDT"), ("cm", "ETHUSD_PERP")):
            start_ms = utc_ms("2023-09-01")
            page = await rows(
                client, url(market, "fundingRate", name, startTime=start_ms, limit=1_000)
            )
            end_ms = page[-1]["fundingTime"] + 1
            told = (
                truth(market, name, "", start_ms, end_ms, now_ms=NOW_MS, kind="fundingRate")
                .decode()
                .splitlines()
            )
            assert len(page) == 1_000
            columns = [line.split(",") for line in told]
            assert [
                [str(row["fundingTime"]), row["fundingRate"], row["markPrice"]] for row in page
            ] == [[row[0], row[2], row[3]] for row in columns]
            hours = [int(row[1]) for row in columns]
            floors = [row["fundingTime"] // HOUR_MS for row in page]
            assert [after - before for before, after in pairwise(floors)] == hours[1:]

    with_exchange(scenario)


def test_both_ends_of_a_window_of_fundings_are_inclusive() -> None:
    async def scenario(client: Client) -> None:
        for path in (FUNDING, COIN_M_FUNDING):
            first, *_, last = found = await times(
                client, f"{path}&startTime={utc_ms('2022-03-01')}&limit=10"
            )
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
        assert (
            await times(client, f"{FUNDING}&startTime={start_ms}&endTime={end_ms}&limit=7")
            == whole[:7]
        )
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
def test_fundings_are_100_where_times_are_sent_200_where_none_are_and_1000_at_most(
    path: str,
) -> None:
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
        if (
            instrument.name == "BTCUSDT_261225"
            or instrument.listed_ms > utc_ms("2023-01-01")
            or instrument.ends_ms
        ):
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
        assert {event.hours for event in found if event.at_ms > FOUR_HOURLY_MS + HOUR_MS} == gaps[
            True
        ]
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
            assert row.get("rateType") == (
                "Regular" if row["fundingTime"] >= TYPE_TOLD_MS else None
            )
        page = await rows(client, f"{COIN_M_FUNDING}&limit=40")
        assert all(
            set(row) == {"symbol", "fundingTime", "fundingRate", "markPrice"} for row in page
        )

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
        answers = [
            await client.get(f"{COIN_M_FUNDING}{more}")
            for more in ("", "&limit=1000", "&limit=1001")
        ]
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
    assert [verdict.status for verdict in verdicts] == [HTTPStatus.OK] * 500 + [
        HTTPStatus.TOO_MANY_REQUESTS
    ]
    assert verdicts[-1].until_ms == begins_ms + 5 * MINUTE_MS
    assert books.count("2.2.2.2", begins_ms).status is HTTPStatus.OK
    assert books.count("1.1.1.1", begins_ms - 1).status is HTTPStatus.OK
    assert books.count("1.1.1.1", begins_ms + 5 * MINUTE_MS).status is HTTPStatus.OK


def test_who_is_banned_from_futures_gets_no_fundings_and_counts_none() -> None:
    async def scenario(client: Client) -> None:
        await client.call(
            "POST", "/sim/ban", {"address": "127.0.0.1", "pool": "futures", "seconds": 60}
        )
        for path in (FUNDING, COIN_M_FUNDING, MARK):
            answer = await client.get(path)
            assert refused(answer) == (418, -1003)
            assert f"banned until {NOW_MS + 60_000}" in answer.body["msg"]
        assert (await client.get("/sim/books")).body["funding"] == []

    with_exchange(scenario)


def test_calls_for_fundings_can_be_made_to_fail_and_faults_of_the_front_door_are_not_counted() -> (
    None
):
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
