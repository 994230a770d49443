"""Faulty files of the stand-in's archive: which, what refuses them, and what is logged."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.simulator.archive.faults import FileFault, FilePlan
from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from tests.unit.helpers.faulty_archive import (
    DAY,
    FILES,
    MONTH,
    SHELF,
    checksum_of,
    follow,
    good,
    sha256,
    spoilt,
)
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, LIST, raw


def test_faults_are_a_pure_function_of_path_and_seed() -> None:
    rates = {FileFault.CORRUPT: 0.1, FileFault.ABSENT: 0.1, FileFault.LATE: 0.1}
    told = [FilePlan(rates, seed=1).fault_of(file) for file in FILES]
    again = FilePlan(dict(rates), seed=1)
    assert [again.fault_of(file) for file in reversed(FILES)] == told[::-1]
    different = [FilePlan(rates, seed=2).fault_of(file) for file in FILES]
    assert different != told
    for found in (told, different):
        counted = Counter(found)
        assert all(0.07 < counted[fault] / len(FILES) < 0.13 for fault in rates)


def test_the_rows_that_are_wrong_depend_on_the_seed_alone() -> None:
    for fault in (
        FileFault.SHORT,
        FileFault.SHUFFLED,
        FileFault.REPEATED,
        FileFault.CONFLICTING,
        FileFault.STALE,
    ):
        assert spoilt(fault, "1") == spoilt(fault, "1")
        assert len({tuple(spoilt(fault, str(seed))) for seed in range(5)}) > 1


def test_two_exchanges_of_one_seed_are_wrong_alike_in_whatever_order_they_are_asked() -> None:
    rates = {
        fault: 0.07
        for fault in FileFault
        if fault not in (FileFault.TRUNCATED, FileFault.TRANSIENT_CORRUPT)
    }
    folder = Folder(Market.COIN_M, Cycle.MONTHLY, Kind.KLINES, "BTCUSD_PERP", "1d")
    paths = [File(folder, period).path for period in SHELF.periods(folder, NOW_MS)]
    assert len(paths) > 60
    seen: list[dict[str, tuple[int, bytes, str | None]]] = []

    def scenario_of(seed: int, order: list[str]) -> None:
        async def scenario(client: Client) -> None:
            await client.call("PUT", "/sim/archive", {"rates": rates, "seed": seed})
            answers = {path: await raw(client, path) for path in order}
            seen.append(
                {
                    path: (one.status, one.body, one.headers.get("etag"))
                    for path, one in answers.items()
                }
            )

        with_exchange(scenario)

    scenario_of(1, paths)
    scenario_of(1, paths[::-1])
    scenario_of(2, paths)
    assert seen[0] == seen[1] != seen[2]


def test_faults_may_strike_one_cycle_only() -> None:
    for only in Cycle:
        plan = FilePlan({FileFault.CORRUPT: 1.0}, only=only)
        struck = {file.folder.cycle for file in FILES if plan.fault_of(file)}
        assert struck == {only}
    assert {
        file.folder.cycle for file in FILES if FilePlan({FileFault.CORRUPT: 1.0}).fault_of(file)
    } == set(Cycle)


def test_a_fault_of_one_cycle_leaves_the_files_of_the_other_whole() -> None:
    async def scenario(client: Client) -> None:
        for only, wrong, right in ((Cycle.DAILY, DAY, MONTH), (Cycle.MONTHLY, MONTH, DAY)):
            await follow(client, FileFault.CORRUPT, only=only)
            assert sha256((await raw(client, wrong)).body) != await checksum_of(client, wrong)
            await good(client, right)

    with_exchange(scenario)


def test_a_status_refuses_everything_until_it_is_taken_back() -> None:
    async def scenario(client: Client) -> None:
        for status in (403, 451, 503):
            await follow(client, status=status)
            for path in (
                MONTH,
                MONTH + CHECKSUM,
                "data/nothing.zip",
                f"{LIST}?prefix=data/&delimiter=/",
            ):
                answer = await raw(client, path)
                assert (answer.status, answer.headers["content-type"]) == (
                    status,
                    "application/xml",
                )
                assert b"<Error>" in answer.body
            assert (await client.get("/api/v3/time")).status == 200
        await follow(client)
        await good(client, MONTH)
        assert (await raw(client, LIST)).status == 200

    with_exchange(scenario)


def test_nonsense_told_to_the_archive_is_answered_with_a_sentence() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.CORRUPT)
        for told in (
            {"rates": {"meteor": 1}},
            {"rates": {"corrupt": -0.1}},
            {"rates": {"corrupt": 0.6, "late": 0.6}},
            {"rates": {}, "late_days": -1},
            {"status": 200},
            {"only": "weekly"},
            {"colour": "red"},
        ):
            answer = await client.call("PUT", "/sim/archive", told)
            assert answer.status == 400, told
            assert answer.body["error"]
        for key in ("data/nothing.zip", MONTH.replace("2024-03", "2027-03"), MONTH + CHECKSUM):
            answer = await client.call("POST", "/sim/archive/reissue", {"key": key})
            assert answer.status == 400, key
        assert (await client.call("POST", "/sim/archive/reissue", {})).status == 400
        assert (await client.get("/sim/archive?key=data/nothing.zip")).status == 400
        assert sha256((await raw(client, MONTH)).body) != await checksum_of(client, MONTH), (
            "the plan before stays"
        )

    with_exchange(scenario)


def test_a_file_s_fault_can_be_asked_for_without_a_trace_in_the_log() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.ABSENT)
        assert (await client.get(f"/sim/archive?key={DAY}")).body == {
            "fault": "absent",
            "out": False,
        }
        await follow(client, FileFault.SHORT)
        assert (await client.get(f"/sim/archive?key={DAY}")).body == {"fault": "short", "out": True}
        await follow(client)
        assert (await client.get(f"/sim/archive?key={DAY}")).body == {"fault": None, "out": True}
        assert (await client.get("/sim/archive")).body == {"calls": [], "faults": {}}

    with_exchange(scenario)


def test_the_log_tells_every_call_in_order_and_what_came_of_it() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.SHORT)
        answer = await raw(client, MONTH)
        await raw(client, MONTH + CHECKSUM)
        client.now_ms += 5
        await raw(client, MONTH, "HEAD")
        page = await raw(client, f"{LIST}?prefix=data/&delimiter=/")
        missing = await raw(client, "data/nothing.zip")
        report = (await client.get("/sim/archive")).body
        assert report["calls"][0] == {
            "method": "GET",
            "path": MONTH,
            "at_ms": NOW_MS,
            "status": 200,
            "bytes": len(answer.body),
            "fault": "short",
        }
        told = [
            (call["method"], call["path"], call["at_ms"], call["status"], call["bytes"])
            for call in report["calls"]
        ]
        line = len(sha256(b"")) + 2 + len("BTCUSDT-1h-2024-03.zip")
        assert told[1:] == [
            ("GET", MONTH + CHECKSUM, NOW_MS, 200, line),
            ("HEAD", MONTH, NOW_MS + 5, 200, 0),
            ("GET", f"{LIST}?prefix=data/&delimiter=/", NOW_MS + 5, 200, len(page.body)),
            ("GET", "data/nothing.zip", NOW_MS + 5, 404, len(missing.body)),
        ]
        assert report["faults"] == {"short": 1}
        await client.call("DELETE", "/sim/archive")
        assert (await client.get("/sim/archive")).body == {"calls": [], "faults": {}}

    with_exchange(scenario)


def test_the_log_tells_why_a_file_was_not_there() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.ABSENT)
        await raw(client, DAY)
        await follow(client, status=451)
        await raw(client, DAY)
        await raw(client, LIST)
        calls = (await client.get("/sim/archive")).body["calls"]
        assert [(call["status"], call["fault"]) for call in calls] == [
            (404, "absent"),
            (451, None),
            (451, None),
        ]

    with_exchange(scenario)


def test_the_faults_of_files_and_of_calls_have_nothing_to_do_with_each_other() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.CORRUPT)
        assert (await client.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1")).status == 200
        await client.call("PUT", "/sim/faults", {"rates": {"500": 1}})
        await follow(client)
        await good(client, MONTH)
        assert (await client.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1")).status == 500
        assert (await client.get("/sim/books")).body["faults"] == {"500": 1}
        assert (await client.get("/sim/archive")).body["faults"] == {}

    with_exchange(scenario)


@pytest.mark.parametrize(
    "path",
    [
        "data/spot/daily/klines/BTCUSDT/3d/BTCUSDT-3d-2024-01-01.zip",
        "data/futures/um/daily/klines/BTCUSDT/1s/BTCUSDT-1s-2024-01-01.zip",
        "data/futures/um/monthly/fundingRate/BTCUSDT/1d/BTCUSDT-1d-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/7m/BTCUSDT-7m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/BTCUSDT-klines-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1d/BTCUSDT-1d-2024-13.zip",
    ],
)
def test_what_no_listing_shows_is_not_served(path: str) -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.LATE, late_days=0)
        assert (await raw(client, path)).status == 404

    with_exchange(scenario)


def test_another_seed_spoils_a_file_in_another_way_though_it_was_served_before() -> None:
    async def scenario(client: Client) -> None:
        answers = []
        for seed in (1, 2):
            await follow(client, FileFault.SHORT, seed=seed)
            answers.append(await raw(client, MONTH))
        assert answers[0].body != answers[1].body
        assert answers[0].headers["etag"] != answers[1].headers["etag"]

    with_exchange(scenario)


def test_an_empty_page_ends_a_listing() -> None:
    async def scenario(client: Client) -> None:
        async with client.session.get(LIST, params={"max-keys": "0"}) as answer:
            assert "<IsTruncated>false</IsTruncated>" in await answer.text()

    with_exchange(scenario)
