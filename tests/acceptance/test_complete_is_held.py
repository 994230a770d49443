"""A run is complete only when the lake holds the requested range.

What is missing is fetched again, or named.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.domain.timestamps import DAY_MS, iso
from klinefleet.workers.lake import keys
from tests.expected import Wanted
from tests.harness import AMPLE, Fleet
from tests.invariants import assert_complete_means_held, assert_nothing_left, lacking_parts
from tests.processes import until

TODAY_MS = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
#: The newest days, of which an exchange whose clock is ten days behind tells a third.
DAYS = Wanted("um", ("BTCUSDT", "ETHUSDT"), iso(TODAY_MS - 15 * DAY_MS), iso(TODAY_MS), "1h")
BEHIND_DAYS = 10
#: One partition in several windows.
PARTITION = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-02", "2024-01-25")


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of(*AMPLE)


def assert_complete_and_held(fleet: Fleet, wanted: Wanted, summary: dict[str, Any]) -> None:
    """The run has ended complete, and rightly so."""
    assert_complete_means_held(fleet, wanted.arguments, summary)
    wanted.assert_held(fleet)
    with fleet.redis.client() as client:
        assert_nothing_left(client)


def assert_the_lack_is_named(fleet: Fleet, wanted: Wanted) -> None:
    """A download exits with 1 and names the series and time of every missing part."""
    done = fleet.klines("download", "--json", *wanted.arguments, timeout_s=120)
    summary = json.loads(done.stdout)
    lacking = lacking_parts(fleet, wanted.arguments, summary)
    assert lacking, "nothing is missing: the test proves nothing"
    assert done.returncode == 1, (
        f"exit {done.returncode}, {summary['state']} with {summary['rows_gained']}: {lacking}"
    )
    assert summary["state"] == "incomplete"
    for symbol in wanted.symbols:
        assert any(symbol in name for name in summary["failed"]), summary["failed"]
    unnamed = [part for part in lacking if not part.endswith(" is failed")]
    assert not unnamed, f"missing, and not named in {summary['failed']}: {unnamed}"


def test_answers_of_a_clock_that_was_behind_for_a_moment_leave_no_day_out(fleet: Fleet) -> None:
    fleet.start_worker()
    fleet.exchange.lag_date(BEHIND_DAYS, answers=2)
    summary = fleet.download(*DAYS.arguments)
    assert_complete_and_held(fleet, DAYS, summary)


def test_days_that_a_clock_far_behind_leaves_out_are_named_and_fetched_once_it_is_right(
    fleet: Fleet,
) -> None:
    fleet.start_worker()
    fleet.exchange.lag_date(BEHIND_DAYS)
    assert_the_lack_is_named(fleet, DAYS)
    fleet.exchange.lag_date(0)
    assert_complete_and_held(fleet, DAYS, fleet.download(*DAYS.arguments))


@pytest.mark.parametrize("elsewhere", ["compact", "rest.futures"])
def test_workers_of_a_stores_copy_never_call_a_run_complete_whose_rows_are_in_neither_lake(
    fleet: Fleet, tmp_path: Path, elsewhere: str
) -> None:
    """A copy has the same id: its workers are not refused."""
    here = [queue for queue in ("plan", "rest.futures", "compact") if queue != elsewhere]
    fleet.start_worker("--queues", ",".join(here))
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(Path(fleet.store_url, keys.IDENTITY), tmp_path / "elsewhere")
    stray = fleet.start_worker("--queues", elsewhere, KLINES_STORE_URL=str(tmp_path / "elsewhere"))
    assert_the_lack_is_named(fleet, PARTITION)
    stray.stop()
    fleet.start_worker("--queues", elsewhere)
    assert_complete_and_held(fleet, PARTITION, fleet.download(*PARTITION.arguments))


@pytest.mark.parametrize("is_all", [True, False], ids=["all", "one"])
def test_raw_objects_lost_before_their_compaction_are_fetched_once_more(
    fleet: Fleet, is_all: bool
) -> None:
    fleet.start_worker("--queues", "plan,rest.futures")
    run = fleet.detach(*PARTITION.arguments)
    until("all windows are fetched", lambda: fleet.status(run)["klines"] == PARTITION.klines)
    raw = Path(fleet.store_url, "raw")
    objects = [path for path in raw.rglob("*") if path.is_file()]
    assert len(objects) > len(PARTITION.symbols), (
        "a single window each: losing one of several is not tested"
    )
    if is_all:
        shutil.rmtree(raw)
    else:
        objects[0].unlink()
    fleet.start_worker("--queues", "compact")
    assert_complete_and_held(fleet, PARTITION, fleet.ended(run))
    assert max(fleet.exchange.pages().values()) <= 2, "a page was fetched again more than once"
