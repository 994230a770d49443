from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from deploy.simulator import truth
from deploy.simulator.archive.calendar import published_ms
from deploy.simulator.archive.names import Cycle, File, Folder, parse
from deploy.simulator.archive.shelf import FUNDING_HEADER, KLINES_HEADER
from deploy.simulator.kinds import PRICES, Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, MINUTE_MS, SECOND_MS, utc_ms
from deploy.simulator.source import Generated
from tests.unit.helpers.simulator_client import CHECKSUM, all_listed, lines_of, listed, raw, rows_of
from tests.unit.simulator.test_http import NOW_MS, Client, with_exchange

SHELF = Generated(symbols=30).shelf
SPOT_DAY = "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.zip"
USD_M_DAY = "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.zip"
MONTHS = [f"{year}-{month:02d}" for year in range(2018, 2027) for month in range(1, 13)]


def file_of(market: str, kind: str, symbol: str, interval: str, period: str) -> File:
    cycle = Cycle.DAILY if period.count("-") > 1 else Cycle.MONTHLY
    return File(Folder(Market(market), cycle, Kind(kind), symbol, interval), period)


def told_by_truth(file: File) -> list[str]:
    """The truth of a file's time as lines of that file: in milliseconds, without a line of names."""
    folder = file.folder
    text = truth(
        folder.market,
        folder.symbol,
        folder.interval,
        file.start_ms,
        file.end_ms,
        now_ms=NOW_MS,
        kind=folder.kind,
    )
    rows = [line.split(",") for line in text.decode().splitlines()]
    if folder.kind is Kind.FUNDING:
        return [",".join(row[:3]) for row in rows]
    if folder.kind in PRICES:
        return [",".join([*row[:5], "0", row[5], "0", "60", "0", "0", "0"]) for row in rows]
    return [",".join([*row, "0"]) for row in rows]


def in_milliseconds(line: str) -> str:
    fields = line.split(",")
    assert fields[0].endswith("000")
    assert fields[6].endswith("999")
    return ",".join([fields[0][:-3], *fields[1:6], fields[6][:-3], *fields[7:]])


def data_of(lines: list[str]) -> list[str]:
    return [line for line in lines if line[0].isdigit()]


def test_a_file_is_one_csv_under_its_own_name() -> None:
    async def scenario(client: Client) -> None:
        for path in (
            SPOT_DAY,
            "data/futures/um/monthly/markPriceKlines/ETHUSDT/1d/ETHUSDT-1d-2023-07.zip",
            "data/futures/um/monthly/fundingRate/ETHUSDT/ETHUSDT-fundingRate-2023-07.zip",
            "data/futures/cm/daily/indexPriceKlines/BTCUSD/4h/BTCUSD-4h-2023-07-01.zip",
            "data/futures/cm/daily/premiumIndexKlines/BTCUSD_PERP/4h/BTCUSD_PERP-4h-2023-07-01.zip",
            "data/spot/daily/klines/币安人生USDT/1h/币安人生USDT-1h-2026-03-05.zip",
        ):
            answer = await raw(client, path)
            stem = path.rpartition("/")[2].removesuffix(".zip")
            assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
            assert lines_of(answer.body, f"{stem}.csv")

    with_exchange(scenario)


def test_a_checksum_is_that_of_the_bytes_and_ends_without_a_newline() -> None:
    async def scenario(client: Client) -> None:
        for path in (
            SPOT_DAY,
            "data/spot/monthly/klines/币安人生USDT/1d/币安人生USDT-1d-2026-03.zip",
        ):
            told = await raw(client, path + CHECKSUM)
            body = (await raw(client, path)).body
            assert told.status == 200
            assert (
                told.body.decode()
                == f"{hashlib.sha256(body).hexdigest()}  {path.rpartition('/')[2]}"
            )

    with_exchange(scenario)


def test_a_file_and_the_listing_never_tell_a_different_edition() -> None:
    async def scenario(client: Client) -> None:
        for path in (
            SPOT_DAY,
            "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip",
        ):
            before = (await listed(client, path)).keys[0]
            answer, head = await raw(client, path), await raw(client, path, "HEAD")
            zipped, checksum = (await listed(client, path)).keys
            assert (zipped.path, checksum.path) == (path, path + CHECKSUM)
            assert (
                answer.headers["etag"]
                == head.headers["etag"]
                == before.etag
                == zipped.etag
                != checksum.etag
            )
            modified = parsedate_to_datetime(answer.headers["last-modified"])
            assert before.modified == zipped.modified == modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            assert zipped.size == len(answer.body) == int(head.headers["content-length"])
            assert checksum.size == len((await raw(client, path + CHECKSUM)).body)
            assert head.body == b""

    with_exchange(scenario)


def test_no_two_files_share_an_etag() -> None:
    async def scenario(client: Client) -> None:
        pages = await all_listed(client, "data/futures/cm/monthly/klines/BTCUSD_PERP/1d/")
        etags = [key.etag for page in pages for key in page.keys]
        assert len(set(etags)) == len(etags) > 100

    with_exchange(scenario)


def test_the_same_file_has_the_same_bytes_on_every_exchange() -> None:
    bodies: list[bytes] = []

    async def scenario(client: Client) -> None:
        bodies.append((await raw(client, USD_M_DAY)).body)

    with_exchange(scenario)
    with_exchange(scenario)
    assert bodies[0] == bodies[1]


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


@pytest.mark.parametrize(
    ("market", "kind", "symbol"),
    [
        ("um", "klines", "BTCUSDT"),
        ("um", "markPriceKlines", "BTCUSDT"),
        ("um", "indexPriceKlines", "BTCUSDT"),
        ("um", "premiumIndexKlines", "BTCUSDT"),
        ("cm", "klines", "BTCUSD_PERP"),
        ("cm", "indexPriceKlines", "BTCUSD"),
    ],
)
def test_futures_name_their_columns_from_may_2022_on_and_not_before(
    market: str, kind: str, symbol: str
) -> None:
    for period in ("2021-11", "2022-04", "2022-04-30"):
        assert SHELF.csv(file_of(market, kind, symbol, "1d", period))[0][0].isdigit(), period
    for period in ("2022-05", "2022-05-01", "2026-10"):
        lines = SHELF.csv(file_of(market, kind, symbol, "1d", period))
        assert lines[0] == KLINES_HEADER
        assert all(line[0].isdigit() for line in lines[1:])


def test_spot_never_names_its_columns_and_funding_always_does() -> None:
    for period in ("2018-01", "2022-05", "2024-12", "2025-01", "2026-10-01"):
        lines = SHELF.csv(file_of("spot", "klines", "BTCUSDT", "1d", period))
        assert all(line[0].isdigit() for line in lines), period
    for market, symbol in (("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        for period in ("2021-01", "2026-10"):
            assert (
                SHELF.csv(file_of(market, "fundingRate", symbol, "", period))[0] == FUNDING_HEADER
            )


def test_every_row_has_the_twelve_columns_of_a_page() -> None:
    for market, kind, symbol in (
        ("spot", "klines", "BTCUSDT"),
        ("um", "klines", "BTCUSDT"),
        ("um", "premiumIndexKlines", "BTCUSDT"),
        ("cm", "klines", "BTCUSD_PERP"),
    ):
        for period in ("2021-01", "2024-12-31", "2025-01-01"):
            rows = data_of(SHELF.csv(file_of(market, kind, symbol, "4h", period)))
            assert {line.count(",") for line in rows} == {11}
            assert {line.rpartition(",")[2] for line in rows} == {"0"}


def test_spot_tells_microseconds_from_2025_on_and_futures_never() -> None:
    last = SHELF.csv(file_of("spot", "klines", "BTCUSDT", "12h", "2024-12-31"))
    first = SHELF.csv(file_of("spot", "klines", "BTCUSDT", "12h", "2025-01-01"))
    assert [line.split(",")[0] for line in last] == ["1735603200000", "1735646400000"]
    assert [line.split(",")[0] for line in first] == ["1735689600000000", "1735732800000000"]
    assert last[1].split(",")[6] == "1735689599999"
    assert first[1].split(",")[6] == "1735775999999999"
    month = SHELF.csv(file_of("spot", "klines", "BTCUSDT", "12h", "2025-01"))
    assert month[:2] == first
    for market, symbol in (("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        row = SHELF.csv(file_of(market, "klines", symbol, "12h", "2025-01-01"))[1].split(",")
        assert (row[0], row[6]) == ("1735689600000", "1735732799999")


def test_a_month_is_spelled_1mo_in_folder_file_and_member() -> None:
    async def scenario(client: Client) -> None:
        path = "data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-03.zip"
        (row,) = lines_of((await raw(client, path)).body, "BTCUSDT-1mo-2024-03.csv")
        assert row.startswith(f"{utc_ms('2024-03-01')},")
        assert int(row.split(",")[6]) == utc_ms("2024-04-01") - 1
        assert (await raw(client, path.replace("1mo", "1M"))).status == 404
        folders = (await listed(client, "data/spot/monthly/klines/BTCUSDT/", delimiter="/")).folders
        assert "data/spot/monthly/klines/BTCUSDT/1mo/" in folders
        assert "data/spot/monthly/klines/BTCUSDT/1M/" not in folders

    with_exchange(scenario)
    parsed = parse("data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-03.zip")
    assert parsed == file_of("spot", "klines", "BTCUSDT", "1M", "2024-03")


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
        assert rows == told_by_truth(file) != []
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
            assert rows_of((await raw(client, file.path)).body) == told_by_truth(file) != []

    with_exchange(scenario)


@pytest.mark.parametrize(
    ("market", "kind", "symbol", "interval", "period"),
    [
        ("spot", "klines", "BTCUSDT", "1h", "2017-08"),
        ("spot", "klines", "BTCUSDT", "1m", "2018-02"),
        ("spot", "klines", "BTCUSDT", "1s", "2017-12-18"),
        ("spot", "klines", "BCCUSDT", "5m", "2018-11"),
        ("spot", "klines", "SIM007USDT", "15m", "2023-03"),
        ("spot", "klines", "BTCUSDT", "1w", "2024-02"),
        ("spot", "klines", "BTCUSDT", "3d", "2020-02"),
        ("spot", "klines", "BTCUSDT", "1M", "2020-02"),
        ("um", "klines", "BTCUSDT", "1m", "2021-03"),
        ("um", "klines", "OMGUSDT", "15m", "2025-01"),
        ("um", "klines", "BTCUSDT_261225", "1h", "2026-06"),
        ("um", "klines", "币安人生USDT", "1h", "2025-10"),
        ("um", "markPriceKlines", "BTCUSDT", "1m", "2023-11"),
        ("um", "markPriceKlines", "BTCUSDT", "5m", "2023-11-10"),
        ("um", "indexPriceKlines", "BTCUSDT", "1h", "2021-03"),
        ("um", "premiumIndexKlines", "ETHUSDT", "1h", "2021-03"),
        ("um", "fundingRate", "BTCUSDT", "", "2020-01"),
        ("um", "fundingRate", "ETHUSDT", "", "2024-03"),
        ("cm", "klines", "BTCUSD_PERP", "4h", "2021-03"),
        ("cm", "markPriceKlines", "BTCUSD_PERP", "1m", "2023-11-10"),
        ("cm", "indexPriceKlines", "BTCUSD", "1h", "2024-01"),
        ("cm", "premiumIndexKlines", "ETHUSD_PERP", "1h", "2024-01"),
        ("cm", "fundingRate", "ETHUSD_PERP", "", "2023-10"),
    ],
)
def test_a_file_holds_the_truth_and_nothing_else(
    market: str, kind: str, symbol: str, interval: str, period: str
) -> None:
    async def scenario(client: Client) -> None:
        file = file_of(market, kind, symbol, interval, period)
        rows = rows_of((await raw(client, file.path)).body)
        assert rows == told_by_truth(file) != []

    with_exchange(scenario)


@pytest.mark.parametrize("period", ["2025-01", "2025-06-30", "2026-10"])
def test_a_spot_file_in_microseconds_holds_the_truth_too(period: str) -> None:
    file = file_of("spot", "klines", "BTCUSDT", "30m", period)
    assert [in_milliseconds(line) for line in SHELF.csv(file)] == told_by_truth(file) != []


@pytest.mark.parametrize(
    ("market", "kind", "symbol", "interval", "month"),
    [
        ("spot", "klines", "BTCUSDT", "1h", "2017-08"),
        ("spot", "klines", "BTCUSDT", "1m", "2018-02"),
        ("spot", "klines", "BTCUSDT", "1d", "2020-12"),
        ("spot", "klines", "BTCUSDT", "5m", "2025-01"),
        ("spot", "klines", "BTTUSDT", "1h", "2022-01"),
        ("um", "klines", "BTCUSDT", "1m", "2021-03"),
        ("um", "klines", "OMGUSDT", "15m", "2025-01"),
        ("um", "markPriceKlines", "BTCUSDT", "1m", "2023-11"),
        ("um", "indexPriceKlines", "ETHUSDT", "12h", "2022-05"),
        ("cm", "klines", "BTCUSD_PERP", "1h", "2022-04"),
        ("cm", "premiumIndexKlines", "BTCUSD_PERP", "1h", "2022-05"),
    ],
)
def test_a_month_holds_what_its_days_hold(
    market: str, kind: str, symbol: str, interval: str, month: str
) -> None:
    whole = file_of(market, kind, symbol, interval, month)
    days = SHELF.periods(Folder(Market(market), Cycle.DAILY, Kind(kind), symbol, interval), NOW_MS)
    parts: list[str] = []
    for day in days:
        if day.startswith(month):
            rows = data_of(SHELF.csv(file_of(market, kind, symbol, interval, day)))
            assert rows, day
            parts += rows
    assert parts == data_of(SHELF.csv(whole))


def test_a_series_is_put_together_from_its_files_without_a_seam() -> None:
    for kind, interval in ((Kind.KLINES, "12h"), (Kind.MARK, "12h"), (Kind.FUNDING, "")):
        folder = Folder(Market.USD_M, Cycle.MONTHLY, kind, "ETHUSDT", interval)
        files = [File(folder, period) for period in SHELF.periods(folder, NOW_MS)]
        rows = [row for file in files for row in data_of(SHELF.csv(file))]
        assert rows == [row for file in files for row in told_by_truth(file)]
        opens = [int(row.split(",")[0]) for row in rows]
        assert opens == sorted(set(opens))
        assert opens[-1] >= utc_ms("2026-11-01") - DAY_MS // 2 - MINUTE_MS


def test_asking_the_archive_costs_no_weight_and_is_no_call_to_a_market() -> None:
    async def scenario(client: Client) -> None:
        await raw(client, SPOT_DAY)
        await raw(client, SPOT_DAY + CHECKSUM)
        await listed(client, "data/spot/", delimiter="/")
        books = (await client.get("/sim/books")).body
        assert (books["minutes"], books["calls"]) == ([], 0)
        assert (await client.get("/sim/calls")).body == []

    with_exchange(scenario)
