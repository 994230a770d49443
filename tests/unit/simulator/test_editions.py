"""Files of the stand-in's archive that are published anew."""

from __future__ import annotations

import pytest

from deploy.simulator.archive.faults import FileFault
from deploy.simulator.moments import utc_ms
from tests.unit.helpers.faulty_archive import (
    DAY,
    FUNDING,
    MONTH,
    checksum_of,
    follow,
    good,
    opens,
    reissue,
    sha256,
)
from tests.unit.helpers.simulated_exchange import Client, with_exchange
from tests.unit.helpers.simulator_client import CHECKSUM, listed, raw, rows_of


@pytest.mark.parametrize(
    "fault", [fault for fault in FileFault if fault is not FileFault.TRUNCATED]
)
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
        assert [keys[0].modified for keys in told[1:]] == [
            "2026-11-22T17:05:09.000Z",
            "2026-11-23T03:00:00.000Z",
        ]
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
