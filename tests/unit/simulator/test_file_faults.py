"""Each way in which a file of the stand-in's archive can be wrong: so much, and no more."""

from __future__ import annotations

import io
import zipfile
from collections import Counter

import aiohttp
import pytest

from deploy.simulator.archive.build import change, other
from deploy.simulator.archive.faults import FileFault, FilePlan
from deploy.simulator.archive.names import Cycle
from deploy.simulator.moments import DAY_MS, utc_ms
from tests.unit.helpers.faulty_archive import (
    DAY,
    FILES,
    FUNDING,
    MONTH,
    OTHER_MONTH,
    ROWS,
    SHELF,
    checksum_of,
    follow,
    good,
    opens,
    read_into,
    sha256,
    spoilt,
)
from tests.unit.helpers.simulated_exchange import Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, lines_of, listed, raw


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


@pytest.mark.parametrize(
    ("late_days", "comes"), [(2, "2024-03-08 08:30"), (0.5, "2024-03-06 20:30")]
)
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
    "fault",
    [
        FileFault.SHORT,
        FileFault.SHUFFLED,
        FileFault.REPEATED,
        FileFault.CONFLICTING,
        FileFault.STALE,
    ],
)
@pytest.mark.parametrize("path", [MONTH, FUNDING])
def test_wrong_rows_come_with_a_right_checksum_under_the_same_line_of_names(
    path: str, fault: FileFault
) -> None:
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
    [
        ("1,2,3.10,4", "1,2,3.11,4"),
        ("1,8,0.00009999", "1,8,0.00010000"),
        ("1,8,-0.00010000", "1,8,-0.00009999"),
    ],
)
def test_another_value_keeps_its_digits_and_its_sign(before: str, after: str) -> None:
    assert other(before) == after


def test_a_file_of_one_row_or_none_can_be_wrong_without_a_stumble() -> None:
    assert spoilt(FileFault.SHORT, lines=ROWS[:1]) == []
    assert spoilt(FileFault.STALE, lines=ROWS[:1]) != ROWS[:1]
    for fault in (
        FileFault.SHORT,
        FileFault.SHUFFLED,
        FileFault.REPEATED,
        FileFault.CONFLICTING,
        FileFault.STALE,
    ):
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
    assert {plan.fault_of(file) for file in FILES if file.folder.cycle is Cycle.MONTHLY} == {
        FileFault.STALE
    }


def test_more_changed_rows_than_a_file_has_leave_its_line_of_names() -> None:
    assert change(["names,of,columns", *ROWS[:3]], 25)[0] == "names,of,columns"
    assert change(ROWS[:3], 1, 2)[2] == other(other(ROWS[2]))


def test_a_late_file_says_the_day_it_came() -> None:
    async def scenario(client: Client) -> None:
        await follow(client, FileFault.LATE, late_days=2)
        assert (await raw(client, DAY)).headers["last-modified"] == "Fri, 08 Mar 2024 08:30:00 GMT"
        assert (await client.get("/sim/archive")).body["faults"] == {}

    with_exchange(scenario)
