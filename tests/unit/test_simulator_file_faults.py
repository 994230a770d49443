from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter

import aiohttp
import pytest

from deploy.simulator.archive.build import build, change, other
from deploy.simulator.archive.faults import FileFault, FilePlan
from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, HOUR_MS, utc_ms
from deploy.simulator.source import Generated
from tests.unit.simulator_client import CHECKSUM, LIST, Raw, lines_of, listed, raw, rows_of
from tests.unit.test_simulator_http import NOW_MS, Client, with_exchange

MONTH = "data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03.zip"
OTHER_MONTH = "data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-04.zip"
DAY = "data/spot/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2024-03-05.zip"
FUNDING = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-03.zip"
SHELF = Generated(symbols=30).shelf
FILES = [
    File(Folder(Market.SPOT, cycle, Kind.KLINES, symbol, "1h"), period)
    for cycle in Cycle
    for symbol in ("BTCUSDT", "ETHUSDT")
    for period in SHELF.periods(Folder(Market.SPOT, cycle, Kind.KLINES, symbol, "1h"), NOW_MS)
]
ROWS = [f"{utc_ms('2024-03-05') + n * HOUR_MS},1.00,2.50,0.50,1.50,7,{n},9,4,1,1,0" for n in range(100)]


async def follow(client: Client, *faults: FileFault, **told: object) -> None:
    answer = await client.call("PUT", "/sim/archive", {"rates": dict.fromkeys(faults, 1 / max(1, len(faults))), **told})
    assert answer.status == 200, answer.body


async def reissue(client: Client, path: str, changed: int = 0) -> None:
    answer = await client.call("POST", "/sim/archive/reissue", {"key": path, "change": changed})
    assert answer.status == 200, answer.body


async def checksum_of(client: Client, path: str) -> str:
    answer = await raw(client, path + CHECKSUM)
    assert answer.status == 200
    digest, _, name = answer.body.decode().partition("  ")
    assert name == path.rpartition("/")[2]
    return digest


async def read_into(got: bytearray, answer: aiohttp.ClientResponse) -> None:
    async for piece in answer.content.iter_any():
        got.extend(piece)


async def good(client: Client, path: str) -> Raw:
    """The file as it is without a fault, its checksum tried."""
    answer = await raw(client, path)
    assert answer.status == 200
    assert await checksum_of(client, path) == sha256(answer.body)
    lines_of(answer.body, path.rpartition("/")[2].replace(".zip", ".csv"))
    return answer


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def spoilt(fault: FileFault, seed: str = "1", lines: list[str] | None = None) -> list[str]:
    made = build("X-1h-2024-03-05", ROWS if lines is None else lines, fault, seed)
    assert sha256(made.body) == made.sha256, "rows are wrong behind the checksum's back"
    return lines_of(made.body, "X-1h-2024-03-05.csv")


def opens(rows: list[str]) -> list[str]:
    return [row.split(",")[0] for row in rows]


@pytest.mark.parametrize("path", [MONTH, DAY])
def test_a_corrupt_file_never_matches_its_checksum_however_often_it_is_asked_for(path: str) -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, path)).body
        await follow(client, FileFault.CORRUPT)
        bodies = [(await raw(client, path)).body for _ in range(3)]
        assert len(set(bodies)) == 1
        assert len(bodies[0]) == len(whole)
        assert await checksum_of(client, path) == sha256(whole) != sha256(bodies[0])

    with_exchange(scenario)


def test_a_file_corrupted_on_the_way_is_whole_at_the_second_try() -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, MONTH)).body
        await follow(client, FileFault.TRANSIENT_CORRUPT)
        assert await checksum_of(client, MONTH) == sha256(whole)
        assert (await raw(client, MONTH, "HEAD")).status == 200
        first, second, third = [(await raw(client, MONTH)).body for _ in range(3)]
        assert sha256(first) != sha256(whole)
        assert len(first) == len(whole)
        assert second == third == whole
        assert await checksum_of(client, MONTH) == sha256(whole)
        assert (await raw(client, OTHER_MONTH)).body != (await raw(client, OTHER_MONTH)).body

    with_exchange(scenario)


def test_a_damaged_zip_matches_its_checksum_and_cannot_be_opened() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.DAMAGED_ZIP)
        body = (await raw(client, MONTH)).body
        assert await checksum_of(client, MONTH) == sha256(body)
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(body))

    with_exchange(scenario)


def test_a_wrong_member_holds_the_right_rows_under_another_name() -> None:
    async def scenario(client: Client) -> None:
        rows = lines_of((await good(client, MONTH)).body)
        await follow(client, FileFault.WRONG_MEMBER)
        body = (await raw(client, MONTH)).body
        assert await checksum_of(client, MONTH) == sha256(body)
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert "BTCUSDT-1h-2024-03.csv" not in archive.namelist()
        assert lines_of(body) == rows

    with_exchange(scenario)


def test_a_file_without_a_checksum_is_otherwise_whole() -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, DAY)).body
        await follow(client, FileFault.NO_CHECKSUM)
        answer = await raw(client, DAY + CHECKSUM)
        assert (answer.status, b"NoSuchKey" in answer.body) == (404, True)
        assert (await raw(client, DAY)).body == whole
        assert (await listed(client, DAY)).paths == [DAY]

    with_exchange(scenario)


def test_a_truncated_download_promises_the_whole_and_ends_in_the_middle() -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, MONTH)).body
        await follow(client, FileFault.TRUNCATED)
        for _ in range(2):
            got = bytearray()
            async with client.session.get(f"/{MONTH}") as answer:
                assert answer.content_length == len(whole)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await read_into(got, answer)
            assert whole.startswith(bytes(got))
            assert len(got) <= len(whole) // 2
        assert await checksum_of(client, MONTH) == sha256(whole)
        assert (await client.get("/sim/archive")).body["calls"][-2]["bytes"] == len(whole) // 2

    with_exchange(scenario)


def test_an_absent_file_is_in_no_listing_and_never_comes() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.ABSENT)
        for _ in range(2):
            for path in (MONTH, DAY, FUNDING):
                assert (await raw(client, path)).status == 404
                assert (await raw(client, path + CHECKSUM)).status == 404
                assert (await listed(client, path)).paths == []
            client.now_ms += 400 * DAY_MS

    with_exchange(scenario)


@pytest.mark.parametrize(("late_days", "comes"), [(2, "2024-03-08 08:30"), (0.5, "2024-03-06 20:30")])
def test_a_late_file_comes_so_many_days_later_and_is_whole(late_days: float, comes: str) -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, DAY)).body
        await follow(client, FileFault.LATE, late_days=late_days)
        client.now_ms = utc_ms(comes) - 1
        assert (await raw(client, DAY)).status == 404
        assert (await raw(client, DAY + CHECKSUM)).status == 404
        assert (await listed(client, DAY)).paths == []
        client.now_ms += 1
        assert (await good(client, DAY)).body == whole
        assert (await listed(client, DAY)).paths == [DAY, DAY + CHECKSUM]

    with_exchange(scenario)


def test_a_late_file_is_four_days_late_unless_told_otherwise() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.LATE)
        client.now_ms = utc_ms("2024-03-10 08:29")
        assert (await raw(client, DAY)).status == 404
        client.now_ms = utc_ms("2024-03-10 08:30")
        assert (await raw(client, DAY)).status == 200

    with_exchange(scenario)


@pytest.mark.parametrize(
    "fault", [FileFault.SHORT, FileFault.SHUFFLED, FileFault.REPEATED, FileFault.CONFLICTING, FileFault.STALE]
)
@pytest.mark.parametrize("path", [MONTH, FUNDING])
def test_wrong_rows_come_with_a_right_checksum_under_the_same_line_of_names(path: str, fault: FileFault) -> None:
    async def scenario(client: Client) -> None:
        names, *rows = lines_of((await good(client, path)).body)
        await follow(client, fault)
        answer = await good(client, path)
        wrong_names, *wrong = lines_of(answer.body)
        assert wrong_names == names
        assert wrong != rows
        assert (await raw(client, path)).body == answer.body

    with_exchange(scenario)


def test_a_short_file_lacks_a_stretch_and_has_nothing_else() -> None:
    rows = spoilt(FileFault.SHORT)
    missing = [number for number, row in enumerate(ROWS) if row not in rows]
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert rows == [row for row in ROWS if row in rows]
    assert len(missing) == 2


def test_a_shuffled_file_has_every_row_once_out_of_order() -> None:
    rows = spoilt(FileFault.SHUFFLED)
    assert rows != ROWS
    assert sorted(rows) == sorted(ROWS)


def test_a_repeated_stretch_says_the_same_twice() -> None:
    rows = spoilt(FileFault.REPEATED)
    assert list(dict.fromkeys(rows)) == ROWS
    assert sorted(Counter(rows).values())[-2:] == [2, 2]
    assert len(rows) == len(ROWS) + 2


def test_conflicting_rows_share_their_times_with_the_right_ones() -> None:
    rows = spoilt(FileFault.CONFLICTING)
    wrong = [row for row in rows if row not in ROWS]
    assert [row for row in rows if row in ROWS] == ROWS
    assert len(wrong) == 2
    assert set(opens(wrong)) < set(opens(ROWS))


def test_stale_rows_stand_in_the_place_of_the_right_ones() -> None:
    rows = spoilt(FileFault.STALE)
    assert opens(rows) == opens(ROWS)
    assert sum(wrong != right for wrong, right in zip(rows, ROWS, strict=True)) == 2


@pytest.mark.parametrize("fault", [FileFault.CONFLICTING, FileFault.STALE])
def test_changed_values_cannot_be_told_from_real_ones(fault: FileFault) -> None:
    file = next(file for file in FILES if file.period == "2024-03")
    right = SHELF.csv(file)
    wrong = [row for row in spoilt(fault, lines=right) if row not in right]
    assert wrong
    for row in wrong:
        open_, high, low, close = map(float, row.split(",")[1:5])
        assert low <= min(open_, close) <= max(open_, close) <= high
        assert row.count(",") == 11


@pytest.mark.parametrize(
    ("before", "after"),
    [("1,2,3.10,4", "1,2,3.11,4"), ("1,8,0.00009999", "1,8,0.00010000"), ("1,8,-0.00010000", "1,8,-0.00009999")],
)
def test_another_value_keeps_its_digits_and_its_sign(before: str, after: str) -> None:
    assert other(before) == after


def test_a_file_of_one_row_or_none_can_be_wrong_without_a_stumble() -> None:
    assert spoilt(FileFault.SHORT, lines=ROWS[:1]) == []
    assert spoilt(FileFault.STALE, lines=ROWS[:1]) != ROWS[:1]
    for fault in (FileFault.SHORT, FileFault.SHUFFLED, FileFault.REPEATED, FileFault.CONFLICTING, FileFault.STALE):
        assert spoilt(fault, lines=[]) == []
        assert spoilt(fault, lines=["open_time,open,high"]) == ["open_time,open,high"]


def test_a_changed_edition_differs_in_its_last_rows_only() -> None:
    assert change(ROWS, 0) == ROWS
    changed = change(ROWS, 3)
    assert changed[:-3] == ROWS[:-3]
    assert opens(changed) == opens(ROWS)
    assert all(new != old for new, old in zip(changed[-3:], ROWS[-3:], strict=True))


def test_only_a_month_can_be_stale() -> None:
    plan = FilePlan({FileFault.STALE: 1.0})
    assert {plan.fault_of(file) for file in FILES if file.folder.cycle is Cycle.DAILY} == {None}
    assert {plan.fault_of(file) for file in FILES if file.folder.cycle is Cycle.MONTHLY} == {FileFault.STALE}


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
    for fault in (FileFault.SHORT, FileFault.SHUFFLED, FileFault.REPEATED, FileFault.CONFLICTING, FileFault.STALE):
        assert spoilt(fault, "1") == spoilt(fault, "1")
        assert len({tuple(spoilt(fault, str(seed))) for seed in range(5)}) > 1


def test_two_exchanges_of_one_seed_are_wrong_alike_in_whatever_order_they_are_asked() -> None:
    rates = {fault: 0.09 for fault in FileFault if fault not in (FileFault.TRUNCATED, FileFault.TRANSIENT_CORRUPT)}
    folder = Folder(Market.COIN_M, Cycle.MONTHLY, Kind.KLINES, "BTCUSD_PERP", "1d")
    paths = [File(folder, period).path for period in SHELF.periods(folder, NOW_MS)]
    assert len(paths) > 60
    seen: list[dict[str, tuple[int, bytes, str | None]]] = []

    def scenario_of(seed: int, order: list[str]) -> None:
        async def scenario(client: Client) -> None:
            await client.call("PUT", "/sim/archive", {"rates": rates, "seed": seed})
            answers = {path: await raw(client, path) for path in order}
            seen.append({path: (one.status, one.body, one.headers.get("etag")) for path, one in answers.items()})

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
    assert {file.folder.cycle for file in FILES if FilePlan({FileFault.CORRUPT: 1.0}).fault_of(file)} == set(Cycle)


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
            for path in (MONTH, MONTH + CHECKSUM, "data/nothing.zip", f"{LIST}?prefix=data/&delimiter=/"):
                answer = await raw(client, path)
                assert (answer.status, answer.headers["content-type"]) == (status, "application/xml")
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
        assert sha256((await raw(client, MONTH)).body) != await checksum_of(client, MONTH), "the plan before stays"

    with_exchange(scenario)


@pytest.mark.parametrize("fault", [fault for fault in FileFault if fault is not FileFault.TRUNCATED])
def test_a_new_edition_mends_whatever_was_wrong(fault: FileFault) -> None:
    async def scenario(client: Client) -> None:
        whole = (await good(client, MONTH)).body
        client.now_ms = utc_ms("2024-04-02")
        await follow(client, fault)
        before = (await listed(client, MONTH)).keys
        await reissue(client, MONTH)
        assert (await good(client, MONTH)).body == whole
        after = (await listed(client, MONTH)).keys
        assert [key.path for key in after] == [MONTH, MONTH + CHECKSUM]
        assert after[0].etag not in [key.etag for key in before]
        assert (await client.get(f"/sim/archive?key={MONTH}")).body == {"fault": None, "out": True}

    with_exchange(scenario)


def test_a_new_edition_has_a_new_etag_and_the_time_of_its_publication() -> None:
    async def scenario(client: Client) -> None:
        first = await good(client, MONTH)
        told = [(await listed(client, MONTH)).keys]
        client.now_ms = utc_ms("2026-11-22 17:05:09")
        await reissue(client, MONTH)
        second = await good(client, MONTH)
        told.append((await listed(client, MONTH)).keys)
        client.now_ms = utc_ms("2026-11-23 03:00")
        await reissue(client, MONTH, 2)
        third = await good(client, MONTH)
        told.append((await listed(client, MONTH)).keys)
        assert [answer.headers["last-modified"] for answer in (second, third)] == [
            "Sun, 22 Nov 2026 17:05:09 GMT",
            "Mon, 23 Nov 2026 03:00:00 GMT",
        ]
        assert [keys[0].modified for keys in told[1:]] == ["2026-11-22T17:05:09.000Z", "2026-11-23T03:00:00.000Z"]
        assert [keys[0].modified == keys[1].modified for keys in told] == [True] * 3
        etags = [answer.headers["etag"] for answer in (first, second, third)]
        assert etags == [keys[0].etag for keys in told]
        assert len(set(etags)) == len({keys[1].etag for keys in told}) == 3

    with_exchange(scenario)


@pytest.mark.parametrize("path", [MONTH, DAY, FUNDING])
def test_a_new_edition_may_change_values_but_never_times(path: str) -> None:
    async def scenario(client: Client) -> None:
        before = rows_of((await good(client, path)).body)
        await reissue(client, path, 3)
        answer = await good(client, path)
        after = rows_of(answer.body)
        assert after[:-3] == before[:-3]
        assert opens(after) == opens(before)
        assert [new != old for new, old in zip(after[-3:], before[-3:], strict=True)] == [True] * 3
        assert (await raw(client, path)).body == answer.body
        await reissue(client, path)
        assert rows_of((await good(client, path)).body) == before

    with_exchange(scenario)


def test_several_files_can_be_published_anew_at_once_and_others_stay_as_they_are() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.CORRUPT)
        before = (await listed(client, FUNDING)).keys
        told = [{"key": MONTH}, {"key": DAY, "change": 1}]
        assert (await client.call("POST", "/sim/archive/reissue", told)).status == 200
        await good(client, MONTH)
        await good(client, DAY)
        assert (await listed(client, FUNDING)).keys == before
        assert sha256((await raw(client, FUNDING)).body) != await checksum_of(client, FUNDING)

    with_exchange(scenario)


def test_a_file_that_never_came_can_be_published_later() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.ABSENT)
        assert (await raw(client, DAY)).status == 404
        await reissue(client, DAY)
        await good(client, DAY)
        assert DAY in (await listed(client, DAY)).paths

    with_exchange(scenario)


def test_a_file_s_fault_can_be_asked_for_without_a_trace_in_the_log() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.ABSENT)
        assert (await client.get(f"/sim/archive?key={DAY}")).body == {"fault": "absent", "out": False}
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
            (call["method"], call["path"], call["at_ms"], call["status"], call["bytes"]) for call in report["calls"]
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
        assert [(call["status"], call["fault"]) for call in calls] == [(404, "absent"), (451, None), (451, None)]

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


def test_more_changed_rows_than_a_file_has_leave_its_line_of_names() -> None:
    assert change(["names,of,columns", *ROWS[:3]], 25)[0] == "names,of,columns"
    assert change(ROWS[:3], 1, 2)[2] == other(other(ROWS[2]))


def test_a_late_file_says_the_day_it_came() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.LATE, late_days=2)
        assert (await raw(client, DAY)).headers["last-modified"] == "Fri, 08 Mar 2024 08:30:00 GMT"
        assert (await client.get("/sim/archive")).body["faults"] == {}

    with_exchange(scenario)


def test_an_empty_page_ends_a_listing() -> None:
    async def scenario(client: Client) -> None:
        async with client.session.get(LIST, params={"max-keys": "0"}) as answer:
            assert "<IsTruncated>false</IsTruncated>" in await answer.text()

    with_exchange(scenario)
