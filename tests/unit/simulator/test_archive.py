"""The files of the simulated archive: their bytes, checksums, columns and rows."""

from __future__ import annotations

import hashlib
from email.utils import parsedate_to_datetime

import pytest

from deploy.simulator.archive.names import Cycle, File, Folder, parse
from deploy.simulator.archive.shelf import FUNDING_HEADER, KLINES_HEADER
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, MINUTE_MS, utc_ms
from tests.unit.helpers.simulated_archive import SHELF, SPOT_DAY, USD_M_DAY, expected_lines, file_of
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, all_listed, lines_of, listed, raw, rows_of


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
        assert rows == expected_lines(file) != []

    with_exchange(scenario)


@pytest.mark.parametrize("period", ["2025-01", "2025-06-30", "2026-10"])
def test_a_spot_file_in_microseconds_holds_the_truth_too(period: str) -> None:
    file = file_of("spot", "klines", "BTCUSDT", "30m", period)
    assert [in_milliseconds(line) for line in SHELF.csv(file)] == expected_lines(file) != []


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
        assert rows == [row for file in files for row in expected_lines(file)]
        opens = [int(row.split(",")[0]) for row in rows]
        assert opens == sorted(set(opens))
        assert opens[-1] >= utc_ms("2026-11-01") - DAY_MS // 2 - MINUTE_MS
