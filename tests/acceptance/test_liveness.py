"""The health check of a real worker: fails while a lane's loop stands still, then recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from klinefleet.tasks.fleet.lanes import LANES
from klinefleet.workers.coordination.liveness import MAX_SILENCE_S, health_folder
from tests.harness import Fleet
from tests.processes import ROOT, until

LONG_AGO_S = MAX_SILENCE_S + 60


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    fleet = fleet_of()
    fleet.start_worker()
    return fleet


def test_a_lane_whose_loop_stands_still_turns_the_health_bad_until_it_goes_on(fleet: Fleet) -> None:
    assert sorted(file.name for file in health_folder().glob("*/*")) == sorted(
        lane.queue for lane in LANES
    )
    until("every lane has beaten", lambda: _health().returncode == 0)
    lane = fleet.lanes_of(fleet.workers[0])["rest.spot"]
    os.kill(lane, signal.SIGSTOP)
    # So much time passes for every lane; the others make up for it at their next beat.
    for file in health_folder().glob("*/*"):
        _age(file)
    until("only the lane that stands still is silent", lambda: _silent() == {"rest.spot"})
    ill = _health()
    assert ill.returncode == 1
    assert ill.stderr.startswith(f"worker {fleet.workers[0].pid}: no heartbeat from rest.spot for ")
    os.kill(lane, signal.SIGCONT)
    until("the lane beats again", lambda: _health().returncode == 0)


def test_lanes_beat_on_after_their_redis_was_away(fleet: Fleet) -> None:
    fleet.redis.stop()
    until("every lane has noticed", lambda: _without_redis(fleet) == {lane.queue for lane in LANES})
    fleet.redis.start()
    until("the lanes are back", lambda: len(fleet.lanes_of(fleet.workers[0])) == len(LANES))
    for file in health_folder().glob("*/*"):
        _age(file)
    until("every lane beats", lambda: _health().returncode == 0)


def test_a_second_worker_does_not_vouch_for_the_first(fleet: Fleet) -> None:
    until("every lane has beaten", lambda: _health().returncode == 0)
    second = fleet.start_worker()
    until("both have beaten", lambda: _health().returncode == 0)
    os.kill(fleet.lanes_of(fleet.workers[0])["plan"], signal.SIGSTOP)
    for file in health_folder().glob("*/*"):
        _age(file)
    until("one lane is silent", lambda: len(_silent_files()) == 1)
    assert _health().returncode == 1
    assert _health(str(second.pid)).returncode == 0
    assert _health(str(fleet.workers[0].pid)).returncode == 1


def test_a_worker_that_stops_leaves_no_sign_of_life(fleet: Fleet) -> None:
    fleet.workers[0].stop()
    assert list(health_folder().glob("*/*")) == []
    assert _health().returncode == 1


def _without_redis(fleet: Fleet) -> set[str]:
    """Return the lanes that have tried in vain to connect again."""
    lines = [line for line in fleet.log_lines() if "taking tasks fails" in line["event"]]
    return {line["lane"].partition("@")[0] for line in lines}


def _age(file: Path) -> None:
    long_ago_s = time.time() - LONG_AGO_S
    os.utime(file, (long_ago_s, long_ago_s))


def _silent() -> set[str]:
    return {file.name for file in _silent_files()}


def _silent_files() -> list[Path]:
    now_s = time.time()
    return [
        file for file in health_folder().glob("*/*") if now_s - file.stat().st_mtime > MAX_SILENCE_S
    ]


def _health(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "klinefleet.workers.coordination.liveness", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
