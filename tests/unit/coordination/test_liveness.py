"""Health by files that lanes touch: who is silent, who is stuck, and who ended in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.coordination import liveness
from klinefleet.workers.coordination.liveness import (
    MAX_SILENCE_S,
    MAX_TASK_S,
    HealthFile,
    find_problem,
)

#: Longest that Redis may be away while another one takes its place.
FAILOVER_S = 180.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lane_that_beats_is_well_and_one_that_falls_silent_is_named(
    tmp_path: Path, clock: Clock
) -> None:
    plan, archive = (HealthFile(name, folder=tmp_path, clock=clock) for name in ("plan", "archive"))
    plan.touch()
    archive.touch()
    clock.now_s += MAX_SILENCE_S
    assert find_problem(tmp_path, clock.now_s) is None
    clock.now_s += 1
    plan.touch()
    assert find_problem(tmp_path, clock.now_s) == "no heartbeat from archive for 241 s"


def test_redis_may_be_replaced_before_a_lane_counts_as_silent(tmp_path: Path, clock: Clock) -> None:
    HealthFile("plan", folder=tmp_path, clock=clock).touch()
    assert find_problem(tmp_path, clock.now_s + FAILOVER_S + 3 * liveness.TOUCH_INTERVAL_S) is None


def test_a_lane_whose_oldest_task_hangs_gives_no_sign_of_life(tmp_path: Path, clock: Clock) -> None:
    lane, began_s = HealthFile("compact", folder=tmp_path, clock=clock), clock.now_s
    clock.now_s += MAX_TASK_S
    lane.touch([began_s, clock.now_s])
    assert find_problem(tmp_path, clock.now_s) is None
    clock.now_s += MAX_SILENCE_S + 1
    lane.touch([began_s, clock.now_s])
    assert find_problem(tmp_path, clock.now_s)
    lane.touch([clock.now_s])
    assert find_problem(tmp_path, clock.now_s) is None


def test_a_task_that_was_received_and_has_not_begun_is_not_old(
    tmp_path: Path, clock: Clock
) -> None:
    HealthFile("plan", folder=tmp_path, clock=clock).touch([None])
    assert find_problem(tmp_path, clock.now_s) is None


def test_a_worker_none_of_whose_lanes_has_begun_is_not_well(tmp_path: Path, clock: Clock) -> None:
    assert (
        find_problem(tmp_path / "nothing", clock.now_s)
        == f"no lane is running: no files in {tmp_path / 'nothing'}"
    )


def test_a_lane_that_fails_again_and_again_before_it_can_take_tasks_is_never_well(
    tmp_path: Path, clock: Clock
) -> None:
    lane = HealthFile("plan", folder=tmp_path, clock=clock)
    lane.expect()
    assert find_problem(tmp_path, clock.now_s) == "no heartbeat from plan since it started"
    lane.touch()
    assert find_problem(tmp_path, clock.now_s) is None


def test_a_lane_that_ended_in_order_is_not_missed(tmp_path: Path, clock: Clock) -> None:
    plan, archive = (HealthFile(name, folder=tmp_path, clock=clock) for name in ("plan", "archive"))
    plan.touch()
    archive.touch()
    archive.remove()
    archive.remove()
    clock.now_s += MAX_SILENCE_S + 1
    plan.touch()
    assert find_problem(tmp_path, clock.now_s) is None


def test_a_folder_that_cannot_be_written_stops_no_lane(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    HealthFile("plan", folder=tmp_path / "file" / "alive", clock=clock).touch()


def test_the_command_says_in_one_line_who_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert liveness.main() == 1
    HealthFile("plan").touch()
    assert liveness.main() == 0
    HealthFile("rest.spot", clock=lambda: 1_000_000_000.0).touch()
    capsys.readouterr()
    assert liveness.main() == 1
    message = capsys.readouterr().err
    assert message.startswith("no heartbeat from rest.spot for ")
    assert message.count("\n") == 1
