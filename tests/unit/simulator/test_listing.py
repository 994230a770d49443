from __future__ import annotations

from itertools import pairwise

import pytest

from deploy.simulator.archive.listing import KeyPage, list_keys
from deploy.simulator.archive.state import Archive
from deploy.simulator.moments import utc_ms
from deploy.simulator.source import Generated
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, LIST, all_listed, listed, page_of, raw

SPOT = "data/spot/daily/klines/"
USD_M = "data/futures/um/monthly/klines/"
DAYS = f"{SPOT}BTCUSDT/1d/"
COIN_M = "data/futures/cm/monthly/"


def pages_of(archive: Archive, prefix: str, most: int, *, rolled_up: bool) -> list[KeyPage]:
    pages = [list_keys(archive, prefix, "", most, rolled_up=rolled_up)]
    while pages[-1].is_truncated:
        pages.append(list_keys(archive, prefix, pages[-1].last, most, rolled_up=rolled_up))
    return pages


def rolled(paths: list[str], prefix: str, marker: str, most: int) -> tuple[list[str], bool]:
    """Return what S3 lists of these keys with the delimiter, and whether more follow."""
    found: list[str] = []
    for path in paths:
        head, slash, _ = path.removeprefix(prefix).partition("/")
        told = f"{prefix}{head}{slash}" if slash else path
        if path.startswith(prefix) and told > marker and told not in found[-1:]:
            found.append(told)
    return found[:most], len(found) > most


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(lambda: NOW_MS, Generated(symbols=12).shelf)


@pytest.fixture(scope="module")
def coin_m_paths(archive: Archive) -> list[str]:
    return [
        entry.path
        for page in pages_of(archive, COIN_M, 1_000, rolled_up=False)
        for entry in page.keys
    ]


def test_a_page_ends_at_a_thousand_keys_and_the_next_goes_on_after_its_last() -> None:
    async def scenario(client: Client) -> None:
        pages = await all_listed(client, DAYS)
        assert [len(page.keys) for page in pages[:-1]] == [1_000] * (len(pages) - 1)
        assert 0 < len(pages[-1].keys) <= 1_000
        assert [page.is_truncated for page in pages] == [True] * (len(pages) - 1) + [False]
        paths = [path for page in pages for path in page.paths]
        assert paths == sorted(set(paths))
        assert paths[0] == f"{DAYS}BTCUSDT-1d-2017-08-17.zip"
        assert paths[-1] == f"{DAYS}BTCUSDT-1d-2026-11-19.zip{CHECKSUM}"
        days = (utc_ms("2026-11-20") - utc_ms("2017-08-17")) // 86_400_000
        assert len(paths) == 2 * days
        assert [path + CHECKSUM for path in paths[::2]] == paths[1::2]

    with_exchange(scenario)


def test_without_a_delimiter_no_next_marker_is_told_however_much_follows() -> None:
    async def scenario(client: Client) -> None:
        pages = await all_listed(client, f"{COIN_M}klines/BTCUSD_PERP/", most=500)
        assert len(pages) > 3
        assert [page.next_marker for page in pages] == [None] * len(pages)
        assert all(page.folders == [] for page in pages)

    with_exchange(scenario)


def test_with_a_delimiter_the_next_marker_is_the_last_that_was_told_until_nothing_follows() -> None:
    async def scenario(client: Client) -> None:
        keys = await all_listed(client, DAYS, delimiter="/")
        assert [page.next_marker for page in keys[:-1]] == [page.paths[-1] for page in keys[:-1]]
        assert keys[-1].next_marker is None
        assert [page.paths for page in keys] == [
            page.paths for page in await all_listed(client, DAYS)
        ]
        folders = await all_listed(client, SPOT, delimiter="/", most=7)
        assert [page.next_marker for page in folders[:-1]] == [
            page.folders[-1] for page in folders[:-1]
        ]
        assert folders[-1].next_marker is None
        assert [len(page.folders) for page in folders[:-1]] == [7] * (len(folders) - 1)
        (whole,) = await all_listed(client, SPOT, delimiter="/")
        assert [folder for page in folders for folder in page.folders] == whole.folders
        assert len(whole.folders) == 31

    with_exchange(scenario)


def test_a_page_of_exactly_what_there_is_says_that_nothing_follows() -> None:
    async def scenario(client: Client) -> None:
        prefix = f"{DAYS}BTCUSDT-1d-2024-02"
        page = await listed(client, prefix, most=58)
        assert (len(page.keys), page.is_truncated) == (58, False)
        page = await listed(client, prefix, most=57)
        assert (len(page.keys), page.is_truncated) == (57, True)
        rest = await listed(client, prefix, marker=page.paths[-1])
        assert rest.paths == [f"{prefix}-29.zip{CHECKSUM}"]
        nothing = await listed(client, prefix, marker=rest.paths[-1])
        assert (nothing.paths, nothing.is_truncated) == ([], False)

    with_exchange(scenario)


def test_a_marker_need_not_be_a_key() -> None:
    async def scenario(client: Client) -> None:
        for marker, first in (
            (f"{DAYS}BTCUSDT-1d-2024-02-1", "2024-02-10"),
            (f"{DAYS}BTCUSDT-1d-2024-02-30.zip", "2024-03-01"),
            (f"{DAYS}BTCUSDT-1d-2024-02-10.zip.", "2024-02-10"),
            (DAYS, "2017-08-17"),
            ("data/", "2017-08-17"),
            (f"{SPOT}BTCUSDT/15m/zzz", "2017-08-17"),
        ):
            page = await listed(client, DAYS, marker=marker, most=1)
            assert f"BTCUSDT-1d-{first}.zip" in page.paths[0], marker
        assert (await listed(client, DAYS, marker=f"{SPOT}BTCUSDT/1h/")).paths == []

    with_exchange(scenario)


def test_no_page_is_longer_than_a_thousand_keys_whatever_is_asked_for() -> None:
    async def scenario(client: Client) -> None:
        page = await listed(client, DAYS, most=5_000)
        assert (len(page.keys), page.is_truncated) == (1_000, True)
        assert len((await listed(client, DAYS, most=1)).keys) == 1
        for query in ("max-keys=many", "delimiter=-"):
            assert (await raw(client, f"{LIST}?prefix={DAYS}&{query}")).status == 400

    with_exchange(scenario)


def test_every_symbol_with_intervals_has_the_empty_key_that_ends_in_two_slashes() -> None:
    async def scenario(client: Client) -> None:
        page = await listed(client, f"{SPOT}BTCUSDT/", delimiter="/")
        assert page.keys == []
        assert page.folders[0] == f"{SPOT}BTCUSDT//"
        assert page.folders[1] == f"{SPOT}BTCUSDT/12h/"
        page = await listed(client, f"{SPOT}BTCUSDT/", most=2)
        assert page.paths == [f"{SPOT}BTCUSDT//", f"{SPOT}BTCUSDT/12h/BTCUSDT-12h-2017-08-17.zip"]
        assert page.keys[0].size == 0
        page = await listed(client, f"{SPOT}BTCUSDT//")
        assert page.paths == [f"{SPOT}BTCUSDT//"]
        assert (await listed(client, f"{SPOT}BTCUSDT//", marker=f"{SPOT}BTCUSDT//")).paths == []

    with_exchange(scenario)


def test_fundings_lie_in_their_symbol_s_folder_itself() -> None:
    async def scenario(client: Client) -> None:
        prefix = "data/futures/um/monthly/fundingRate/"
        page = await listed(client, f"{prefix}BTCUSDT/", delimiter="/", most=2)
        name = f"{prefix}BTCUSDT/BTCUSDT-fundingRate-2020-01.zip"
        assert (page.folders, page.paths) == ([], [name, name + CHECKSUM])
        folders = (await listed(client, prefix, delimiter="/")).folders
        assert f"{prefix}BTCUSDT/" in folders
        assert f"{prefix}BTCUSDT_261225/" not in folders
        assert (await listed(client, "data/futures/um/daily/fundingRate/")).paths == []

    with_exchange(scenario)


def test_symbols_in_chinese_letters_are_listed_and_come_last() -> None:
    async def scenario(client: Client) -> None:
        for prefix in (SPOT, USD_M):
            assert (await listed(client, prefix, delimiter="/")).folders[
                -1
            ] == f"{prefix}币安人生USDT/"
            page = await listed(client, f"{prefix}币安", delimiter="/")
            assert page.folders == [f"{prefix}币安人生USDT/"]
            page = await listed(client, f"{prefix}币安人生USDT/1d/", most=2)
            assert page.paths[0].startswith(f"{prefix}币安人生USDT/1d/币安人生USDT-1d-202")
            rest = await listed(client, f"{prefix}币安人生USDT/1d/", marker=page.paths[-1])
            assert rest.paths[0] > page.paths[-1]
            assert (await raw(client, page.paths[0])).status == 200

    with_exchange(scenario)


def test_folders_come_in_the_order_of_their_bytes() -> None:
    async def scenario(client: Client) -> None:
        for prefix in (
            SPOT,
            USD_M,
            f"{SPOT}BTCUSDT/",
            f"{USD_M}BTCUSDT/",
            "data/futures/um/monthly/",
        ):
            folders = (await listed(client, prefix, delimiter="/")).folders
            assert folders == sorted(folders, key=str.encode)
            assert len(set(folders)) == len(folders) >= 5
        months = (await listed(client, "data/spot/monthly/klines/BTCUSDT/", delimiter="/")).folders
        told = " ".join(folder.split("/")[-2] for folder in months[1:])
        assert told == "12h 15m 1d 1h 1m 1mo 1s 1w 2h 30m 3d 3m 4h 5m 6h 8h"
        contracts = (await listed(client, f"{USD_M}BTC", delimiter="/")).folders
        assert [folder.split("/")[-2] for folder in contracts] == [
            "BTCUSDC",
            "BTCUSDT",
            "BTCUSDT_261225",
        ]

    with_exchange(scenario)


def test_keys_of_a_whole_market_come_in_the_order_of_their_bytes(coin_m_paths: list[str]) -> None:
    assert all(before.encode() < after.encode() for before, after in pairwise(coin_m_paths))
    assert len(coin_m_paths) > 10_000


def test_a_prefix_may_end_in_the_middle_of_a_name() -> None:
    async def scenario(client: Client) -> None:
        page = await listed(client, f"{DAYS}BTCUSDT-1d-2024-02-0", delimiter="/")
        assert [path[-14:-4] for path in page.paths[::2]] == [
            f"2024-02-0{day}" for day in range(1, 10)
        ]
        assert len(page.paths) == 18
        page = await listed(client, f"{DAYS}BTCUSDT-1d-2024-02-01.zip.")
        assert page.paths == [f"{DAYS}BTCUSDT-1d-2024-02-01.zip{CHECKSUM}"]
        for prefix, folders in (
            ("d", ["data/"]),
            ("data", ["data/"]),
            ("data/f", ["data/futures/"]),
            ("data/spot", ["data/spot/"]),
            ("data/futures/u", ["data/futures/um/"]),
            ("data/futures/um/month", ["data/futures/um/monthly/"]),
            ("data/futures/um/daily/p", ["data/futures/um/daily/premiumIndexKlines/"]),
            (f"{SPOT}BTC", [f"{SPOT}BTCUSDC/", f"{SPOT}BTCUSDT/"]),
            (f"{SPOT}BTCUSDT", [f"{SPOT}BTCUSDT/"]),
            (
                "data/spot/monthly/klines/BTCUSDT/1m",
                [f"data/spot/monthly/klines/BTCUSDT/1m{o}/" for o in ("", "o")],
            ),
        ):
            page = await listed(client, prefix, delimiter="/")
            assert (page.folders, page.keys) == (folders, []), prefix
        page = await listed(client, f"{SPOT}BTCUSDT/1", most=1)
        assert page.paths == [f"{SPOT}BTCUSDT/12h/BTCUSDT-12h-2017-08-17.zip"]

    with_exchange(scenario)


def test_nothing_under_a_prefix_is_an_empty_page_and_no_error() -> None:
    async def scenario(client: Client) -> None:
        for prefix in (
            "x",
            "data/option/",
            "/data/",
            "data//",
            f"{SPOT}NOSUCHUSDT/",
            f"{SPOT}BTCUSDT/7m/",
            f"{SPOT}BTCUSDT/1w/",
            f"{SPOT}BTCUSDT//x",
            f"{DAYS}BTCUSDT-1d-2016",
            "data/spot/monthly/markPriceKlines/",
            f"{DAYS}BTCUSDT-1d-2024-02-01.zip/",
        ):
            for delimiter in ("", "/"):
                page = await listed(client, prefix, delimiter=delimiter)
                assert (page.keys, page.folders, page.is_truncated) == ([], [], False), prefix

    with_exchange(scenario)


def test_the_folders_lead_from_the_top_to_every_kind() -> None:
    async def scenario(client: Client) -> None:
        async def below(prefix: str) -> list[str]:
            page = await listed(client, prefix, delimiter="/")
            assert page.keys == []
            return [folder.removeprefix(prefix).rstrip("/") for folder in page.folders]

        assert await below("") == ["data"]
        assert await below("data/") == ["futures", "spot"]
        assert await below("data/futures/") == ["cm", "um"]
        prices = ["indexPriceKlines", "klines", "markPriceKlines", "premiumIndexKlines"]
        for market in ("data/futures/um/", "data/futures/cm/", "data/spot/"):
            assert await below(market) == ["daily", "monthly"]
            is_spot = market == "data/spot/"
            assert await below(f"{market}daily/") == (["klines"] if is_spot else prices)
            assert await below(f"{market}monthly/") == (
                ["klines"] if is_spot else ["fundingRate", *prices]
            )
        assert await below("data/futures/cm/daily/indexPriceKlines/") == ["BTCUSD", "ETHUSD"]

    with_exchange(scenario)


def test_a_file_is_listed_from_its_publication_on() -> None:
    async def scenario(client: Client) -> None:
        prefix = f"{DAYS}BTCUSDT-1d-2024-02-2"
        client.now_ms = utc_ms("2024-02-24 08:29:59")
        before = await listed(client, prefix)
        client.now_ms = utc_ms("2024-02-24 08:30")
        after = await listed(client, prefix)
        new = f"{prefix}3.zip"
        assert after.paths == [*before.paths, new, new + CHECKSUM]
        assert {key.modified for key in after.keys[-2:]} == {"2024-02-24T08:30:00.000Z"}
        assert after.keys[:-2] == before.keys

    with_exchange(scenario)


def test_a_page_repeats_what_was_asked_for() -> None:
    async def scenario(client: Client) -> None:
        marker = f"{DAYS}BTCUSDT-1d-2024-02-01.zip"
        answer = await raw(client, f"{LIST}?prefix={DAYS}&marker={marker}&delimiter=/&max-keys=3")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/xml")
        text = answer.body.decode()
        for told in (
            "<Name>data.binance.vision</Name>",
            f"<Prefix>{DAYS}</Prefix>",
            f"<Marker>{marker}</Marker>",
            "<MaxKeys>3</MaxKeys>",
            "<Delimiter>/</Delimiter>",
        ):
            assert text.count(told) == 1
        assert page_of(text).paths[0] == marker + CHECKSUM
        assert (
            page_of((await raw(client, f"{LIST}/?prefix={DAYS}")).body.decode())
            .paths[0]
            .startswith(DAYS)
        )
        plain = (await raw(client, f"{LIST}?prefix={DAYS}")).body.decode()
        assert "<MaxKeys>1000</MaxKeys>" in plain
        assert "<Delimiter>" not in plain

    with_exchange(scenario)


def test_letters_that_xml_keeps_for_itself_do_not_spoil_a_page() -> None:
    async def scenario(client: Client) -> None:
        for prefix in ("<&>", '"', "data/spot/daily/klines/A&B"):
            assert (await listed(client, prefix, marker="<b>&", delimiter="/")).paths == []

    with_exchange(scenario)


@pytest.mark.parametrize("most", [1, 3, 89, 1_000])
@pytest.mark.parametrize(
    "prefix",
    [
        "data/futures/cm/monthly/klines/BTCUSD_PERP/1mo/",
        f"{COIN_M}fundingRate/",
        f"{COIN_M}klines/BTCUSD_2",
    ],
)
def test_the_length_of_pages_changes_nothing_about_what_is_listed(
    archive: Archive, coin_m_paths: list[str], prefix: str, most: int
) -> None:
    pages = pages_of(archive, prefix, most, rolled_up=False)
    assert [entry.path for page in pages for entry in page.keys] == [
        path for path in coin_m_paths if path.startswith(prefix)
    ]


@pytest.mark.parametrize("most", [1, 4, 1_000])
@pytest.mark.parametrize(
    "deeper",
    [
        "",
        "k",
        "klines/",
        "klines/BTC",
        "klines/BTCUSD_PERP",
        "klines/BTCUSD_PERP/",
        "klines/BTCUSD_PERP/1",
        "klines/BTCUSD_PERP//",
        "klines/BTCUSD_PERP/1mo/",
        "klines/BTCUSD_PERP/1mo/BTCUSD_PERP-1mo-2021-1",
        "fundingRate/ETHUSD_PERP",
        "fundingRate/ETHUSD_PERP/",
        "indexPriceKlines/BTCUSD",
    ],
)
def test_folders_are_what_the_delimiter_makes_of_the_keys(
    archive: Archive, coin_m_paths: list[str], deeper: str, most: int
) -> None:
    prefix, marker = COIN_M + deeper, ""
    for _ in range(12):
        page = list_keys(archive, prefix, marker, most, rolled_up=True)
        told = sorted([*page.folders, *(entry.path for entry in page.keys)])
        assert (told, page.is_truncated) == rolled(coin_m_paths, prefix, marker, most)
        if not page.is_truncated:
            return
        marker = page.last
