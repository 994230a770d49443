"""Which files the simulated archive has, and from when on."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from deploy.simulator import truth
from deploy.simulator.archive.calendar import published_ms
from deploy.simulator.archive.names import Cycle, Folder
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, SECOND_MS, utc_ms
from tests.unit.helpers.simulated_archive import SHELF, SPOT_DAY, USD_M_DAY, expected_lines, file_of
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, listed, raw, rows_of

MONTHS = [f"{year}-{month:02d}" for year in range(2018, 2027) for month in range(1, 13)]


@pytest.mark.parametrize(
    "path",
    [
        "data/spot/daily/klines/NOSUCHUSDT/1h/NOSUCHUSDT-1h-2024-03-05.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2017-08-16.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-11-21.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-02-30.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-02.zip",
        "data/spot/daily/klines/BTCUSDT/1h/ETHUSDT-1h-2024-03-05.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1d-2024-03-05.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.csv",
        "data/spot/daily/klines/BTCUSDT/1h/",
        "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.zip",
        "data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2024-03.zip",
        "data/spot/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-03.zip",
        "data/spot/monthly/markPriceKlines/BTCUSDT/1h/BTCUSDT-1h-2024-03.zip",
        "data/futures/um/daily/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-03-05.zip",
        "data/futures/um/monthly/fundingRate/BTCUSDT_261225/BTCUSDT_261225-fundingRate-2026-08.zip",
        "data/futures/um/monthly/premiumIndexKlines/BTCUSDT_261225/1h/BTCUSDT_261225-1h-2026-08.zip",
        "data/futures/cm/monthly/indexPriceKlines/BTCUSD_PERP/1h/BTCUSD_PERP-1h-2024-03.zip",
        "data/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2024-03-05.zip",
        "data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-03-05.zip",
    ],
)
def test_what_was_never_published_is_a_404_in_xml_and_so_is_its_checksum(path: str) -> None:
    async def scenario(client: Client) -> None:
        for asked in (path, path + CHECKSUM):
            answer = await raw(client, asked)
            assert (answer.status, answer.headers["content-type"]) == (404, "application/xml"), (
                asked
            )
            assert b"<Code>NoSuchKey</Code>" in answer.body
        assert (await listed(client, path)).paths == [] or path.endswith("/")

    with_exchange(scenario)


def test_candles_longer_than_a_day_have_no_daily_files_and_seconds_only_spot() -> None:
    async def scenario(client: Client) -> None:
        for market, symbol, seconds in (
            ("spot", "BTCUSDT", {"1s"}),
            ("futures/um", "BTCUSDT", set[str]()),
        ):
            found: dict[str, set[str]] = {}
            for cycle in ("daily", "monthly"):
                prefix = f"data/{market}/{cycle}/klines/{symbol}/"
                folders = (await listed(client, prefix, delimiter="/")).folders
                found[cycle] = {folder.removeprefix(prefix).strip("/") for folder in folders} - {""}
            assert found["monthly"] - found["daily"] == {"3d", "1w", "1mo"}
            shorter = {"1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"}
            assert found["daily"] == shorter | seconds

    with_exchange(scenario)


@pytest.mark.parametrize(
    ("path", "published"),
    [
        (SPOT_DAY, "2024-03-06 08:30"),
        (USD_M_DAY, "2024-03-06 08:30"),
        ("data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-02-29.zip", "2024-03-01 08:30"),
        ("data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2023-12.zip", "2024-01-01 08:30"),
        ("data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip", "2024-02-05 08:30"),
        ("data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-08.zip", "2024-09-02 08:30"),
        (
            "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-09.zip",
            "2024-10-07 08:30",
        ),
    ],
)
def test_a_file_appears_when_it_is_published_and_not_a_moment_earlier(
    path: str, published: str
) -> None:
    async def scenario(client: Client) -> None:
        client.now_ms = utc_ms(published) - 1
        assert (await raw(client, path)).status == 404
        assert (await raw(client, path + CHECKSUM)).status == 404
        assert (await listed(client, path)).paths == []
        client.now_ms += 1
        answer = await raw(client, path)
        assert answer.status == 200
        told = parsedate_to_datetime(answer.headers["last-modified"])
        assert int(told.timestamp()) * SECOND_MS == utc_ms(published)
        assert (await raw(client, path + CHECKSUM)).status == 200
        assert (await listed(client, path)).paths == [path, path + CHECKSUM]

    with_exchange(scenario)


def test_every_month_comes_on_the_first_monday_of_the_next() -> None:
    for period in MONTHS:
        file = file_of("spot", "klines", "BTCUSDT", "1d", period)
        at = datetime.fromtimestamp(published_ms(file) / SECOND_MS, UTC)
        after = datetime.fromtimestamp(file.end_ms / SECOND_MS, UTC)
        assert (at.year, at.month) == (after.year, after.month)
        assert (at.weekday(), at.hour, at.minute) == (0, 8, 30)
        assert at.day <= 7


def periods_of(
    market: str, kind: str, symbol: str, cycle: Cycle, now_ms: int = NOW_MS
) -> list[str]:
    interval = "" if kind == Kind.FUNDING else "1d"
    return list(SHELF.periods(Folder(Market(market), cycle, Kind(kind), symbol, interval), now_ms))


def test_the_archive_of_usd_m_begins_later_than_its_rest() -> None:
    for kind in ("klines", "markPriceKlines", "indexPriceKlines"):
        assert periods_of("um", kind, "BTCUSDT", Cycle.DAILY)[0] == "2019-12-31"
        assert periods_of("um", kind, "BTCUSDT", Cycle.MONTHLY)[0] == "2020-01"
    assert periods_of("um", "fundingRate", "BTCUSDT", Cycle.MONTHLY)[0] == "2020-01"
    earlier = truth("um", "BTCUSDT", "1d", 0, utc_ms("2019-12-31"), now_ms=NOW_MS)
    assert len(earlier.splitlines()) > 100
    assert periods_of("um", "klines", "SOLUSDT", Cycle.MONTHLY)[0] == "2020-09"


def test_other_archives_begin_with_the_listing_and_end_with_the_trading() -> None:
    assert periods_of("spot", "klines", "BTCUSDT", Cycle.DAILY)[0] == "2017-08-17"
    assert periods_of("spot", "klines", "BTCUSDT", Cycle.MONTHLY)[0] == "2017-08"
    assert periods_of("cm", "klines", "BTCUSD_PERP", Cycle.DAILY)[0] == "2020-08-10"
    assert periods_of("spot", "klines", "BCCUSDT", Cycle.DAILY)[-1] == "2018-11-15"
    assert periods_of("spot", "klines", "BCCUSDT", Cycle.MONTHLY)[-1] == "2018-11"
    assert periods_of("spot", "klines", "BTCUSDT", Cycle.DAILY)[-1] == "2026-11-19"
    assert periods_of("spot", "klines", "BTCUSDT", Cycle.MONTHLY)[-1] == "2026-10"
    assert periods_of("spot", "klines", "BTCUSDT", Cycle.DAILY, utc_ms("2017-08-18 08:29")) == []


def test_no_day_and_no_month_is_missing_between_the_first_and_the_last() -> None:
    for market, symbol in (("spot", "BTCUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        days = [utc_ms(day) for day in periods_of(market, "klines", symbol, Cycle.DAILY)]
        assert days == list(range(days[0], days[-1] + 1, DAY_MS))
        months = [
            int(month[:4]) * 12 + int(month[5:])
            for month in periods_of(market, "klines", symbol, Cycle.MONTHLY)
        ]
        assert months == list(range(months[0], months[-1] + 1))


@pytest.mark.parametrize(
    ("market", "rest", "symbol", "period"),
    [
        ("spot", "/api/v3", "BTTUSDT", "2022-01"),
        ("um", "/fapi/v1", "SRMUSDT", "2022-11"),
        ("um", "/fapi/v1", "CTKUSDTSETTLED", "2023-11"),
    ],
)
def test_what_rest_has_forgotten_the_archive_still_serves(
    market: str, rest: str, symbol: str, period: str
) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.get(f"{rest}/klines?symbol={symbol}&interval=1h&limit=1")
        assert (answer.status, answer.body["code"]) == (400, -1121)
        info = (await client.get(f"{rest}/exchangeInfo")).body
        assert symbol not in {one["symbol"] for one in info["symbols"]}
        file = file_of(market, "klines", symbol, "1h", period)
        assert file.path in (await listed(client, file.folder.path)).paths
        rows = rows_of((await raw(client, file.path)).body)
        assert rows == expected_lines(file) != []
        folders = (
            await listed(client, f"{file.folder.path.rpartition(symbol)[0]}{symbol}", delimiter="/")
        ).folders
        assert folders == [file.folder.path.removesuffix("1h/")]

    with_exchange(scenario)


def test_kinds_of_a_forgotten_contract_are_in_the_archive_and_not_on_rest() -> None:
    async def scenario(client: Client) -> None:
        for kind in (Kind.MARK, Kind.PREMIUM, Kind.FUNDING):
            answer = await client.get(f"/fapi/v1/{kind}?symbol=SRMUSDT&interval=1h&limit=1")
            assert (answer.status, answer.body["code"]) == (400, -1121)
            file = file_of("um", kind, "SRMUSDT", "" if kind is Kind.FUNDING else "1h", "2022-11")
            assert rows_of((await raw(client, file.path)).body) == expected_lines(file) != []

    with_exchange(scenario)


def test_asking_the_archive_costs_no_weight_and_is_no_call_to_a_market() -> None:
    async def scenario(client: Client) -> None:
        await raw(client, SPOT_DAY)
        await raw(client, SPOT_DAY + CHECKSUM)
        await listed(client, "data/spot/", delimiter="/")
        books = (await client.get("/sim/books")).body
        assert (books["minutes"], books["calls"]) == ([], 0)
        assert (await client.get("/sim/calls")).body == []

    with_exchange(scenario)
