"""Mark, index and premium prices of the stand-in exchange."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.simulator import truth
from deploy.simulator.kinds import Kind
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from tests.unit.helpers.kinds_client import (
    HOLE_ENDS_MS,
    HOLE_MS,
    MARK,
    PRICES,
    WEIGHT,
    opens,
    refused,
    rows,
    url,
)
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange


@pytest.mark.parametrize(("market", "kind", "name"), PRICES)
def test_a_candle_of_prices_has_twelve_columns_and_no_volume(
    market: str, kind: str, name: str
) -> None:
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
        page = await rows(
            client, url(market, kind, name, "4h", startTime=start_ms, endTime=NOW_MS, limit=1_500)
        )
        told = (
            truth(market, name, "4h", start_ms, NOW_MS, now_ms=NOW_MS, kind=kind)
            .decode()
            .splitlines()
        )
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
        for path, pair, symbol in (
            ("/fapi/v1", "BTCUSDT", "BTCUSDT_261225"),
            ("/dapi/v1", "BTCUSD", "BTCUSD_PERP"),
        ):
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
        first = await opens(
            client, url("cm", "indexPriceKlines", "BTCUSD", "1d", startTime=utc_ms("2020-08-01"))
        )
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
def test_what_is_delivered_on_a_day_has_a_mark_price_but_no_premium_and_no_funding(
    market: str, symbol: str
) -> None:
    async def scenario(client: Client) -> None:
        assert len(await rows(client, url(market, "markPriceKlines", symbol, limit=9))) == 9
        assert await rows(client, url(market, "premiumIndexKlines", symbol, limit=9)) == []
        assert await rows(client, url(market, "fundingRate", symbol)) == []
        assert (
            await rows(
                client, url(market, "fundingRate", symbol, startTime=NOW_MS - 30 * DAY_MS, limit=9)
            )
            == []
        )

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
            assert refused(await client.get(url(market, kind, name, startTime=2, endTime=1))) == (
                400,
                -1023,
            )
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
            for start, end, count in (
                (0, 0, 1),
                (0, HOUR_MS, 2),
                (0, HOUR_MS - 1, 1),
                (1, HOUR_MS, 1),
                (1, 2, 0),
            ):
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
            alone = await opens(
                client, url("cm", kind, name, "1d", startTime=start_ms, limit=1_500)
            )
            assert (alone[0], alone[-1]) == (start_ms, start_ms + 200 * DAY_MS)
        long = url(
            "cm",
            "premiumIndexKlines",
            "BTCUSD_PERP",
            "1d",
            startTime=start_ms,
            endTime=start_ms + 900 * DAY_MS,
        )
        assert len(await opens(client, f"{long}&limit=1500")) == 901
        assert (await opens(client, f"{long}&limit=2"))[-1] == start_ms + 900 * DAY_MS
        usd_m = url(
            "um",
            "markPriceKlines",
            "BTCUSDT",
            "1d",
            startTime=start_ms,
            endTime=start_ms + 900 * DAY_MS,
        )
        assert len(await opens(client, f"{usd_m}&limit=1500")) == 901

    with_exchange(scenario)


@pytest.mark.parametrize(("interval", "step_ms"), [("1m", MINUTE_MS), ("5m", 5 * MINUTE_MS)])
def test_mark_prices_of_usd_m_lack_the_hole_and_no_candle_beside_it(
    interval: str, step_ms: int
) -> None:
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
            assert await opens(client, url(market, kind, name, interval, **window)) == list(
                wanted
            ), kind

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
        assert await opens(client, f"{MARK}&endTime={HOLE_ENDS_MS - 1}&limit=1") == [
            HOLE_MS - MINUTE_MS
        ]

    with_exchange(scenario)


@pytest.mark.parametrize(("market", "kind", "name"), PRICES)
def test_a_forming_candle_does_not_tell_what_it_will_become(
    market: str, kind: str, name: str
) -> None:
    async def scenario(client: Client) -> None:
        client.now_ms = utc_ms("2026-11-21 01:00:00")
        path = url(market, kind, name, "1m", limit=1)
        seen: list[Any] = []
        for _ in range(4):
            (forming,) = await rows(client, path)
            assert forming[0] == client.now_ms
            assert len(set(forming[1:5])) == 1
            told = truth(
                market,
                name,
                "1m",
                forming[0],
                forming[0] + MINUTE_MS,
                now_ms=client.now_ms,
                kind=kind,
            )
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
