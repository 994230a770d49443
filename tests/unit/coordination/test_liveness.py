"""Health by files that lanes touch: who is silent, who is stuck, and who ended in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from klinefleet.workers.coordination import liveness
from klinefleet.workers.coordination.liveness import (
    MAX_SILENCE_S,
    MAX_TASK_S,
    HealthFile,
    WorkerHealth,
    find_problem,
    find_problem_of_worker,
)
from klinefleet.workers.support.folders import runtime_folder
from tests.processes import ROOT

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
    assert find_problem_of_worker(tmp_path, clock.now_s) is None
    clock.now_s += 1
    plan.touch()
    assert find_problem_of_worker(tmp_path, clock.now_s) == "no heartbeat from archive for 241 s"


def test_redis_may_be_replaced_before_a_lane_counts_as_silent(tmp_path: Path, clock: Clock) -> None:
    HealthFile("plan", folder=tmp_path, clock=clock).touch()
    assert (
        find_problem_of_worker(tmp_path, clock.now_s + FAILOVER_S + 3 * liveness.TOUCH_INTERVAL_S)
        is None
    )


def test_a_lane_whose_oldest_task_hangs_gives_no_sign_of_life(tmp_path: Path, clock: Clock) -> None:
    lane, began_s = HealthFile("compact", folder=tmp_path, clock=clock), clock.now_s
    clock.now_s += MAX_TASK_S
    lane.touch([began_s, clock.now_s])
    assert find_problem_of_worker(tmp_path, clock.now_s) is None
    clock.now_s += MAX_SILENCE_S + 1
    lane.touch([began_s, clock.now_s])
    assert find_problem_of_worker(tmp_path, clock.now_s)
    lane.touch([clock.now_s])
    assert find_problem_of_worker(tmp_path, clock.now_s) is None


def test_a_task_that_was_received_and_has_not_begun_is_not_old(
    tmp_path: Path, clock: Clock
) -> None:
    HealthFile("plan", folder=tmp_path, clock=clock).touch([None])
    assert find_problem_of_worker(tmp_path, clock.now_s) is None


def test_a_worker_none_of_whose_lanes_has_begun_is_not_well(tmp_path: Path, clock: Clock) -> None:
    assert (
        find_problem_of_worker(tmp_path / "nothing", clock.now_s)
        == f"no lane is running: no files in {tmp_path / 'nothing'}"
    )


def test_a_lane_that_fails_again_and_again_before_it_can_take_tasks_is_never_well(
    tmp_path: Path, clock: Clock
) -> None:
    lane = HealthFile("plan", folder=tmp_path, clock=clock)
    lane.expect()
    assert (
        find_problem_of_worker(tmp_path, clock.now_s) == "no heartbeat from plan since it started"
    )
    lane.touch()
    assert find_problem_of_worker(tmp_path, clock.now_s) is None


def test_a_lane_that_ended_in_order_is_not_missed(tmp_path: Path, clock: Clock) -> None:
    plan, archive = (HealthFile(name, folder=tmp_path, clock=clock) for name in ("plan", "archive"))
    plan.touch()
    archive.touch()
    archive.remove()
    archive.remove()
    clock.now_s += MAX_SILENCE_S + 1
    plan.touch()
    assert find_problem_of_worker(tmp_path, clock.now_s) is None


def test_a_folder_that_cannot_be_written_stops_no_lane(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    HealthFile("plan", folder=tmp_path / "file" / "alive", clock=clock).touch()


def test_the_command_says_in_one_line_who_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert liveness.main() == 1
    worker = WorkerHealth()
    worker.lane("plan").touch()
    assert liveness.main() == 0
    HealthFile("rest.spot", worker.folder, clock=lambda: 1_000_000_000.0).touch()
    capsys.readouterr()
    assert liveness.main() == 1
    message = capsys.readouterr().err
    assert message.startswith(f"worker {os.getpid()}: no heartbeat from rest.spot for ")
    assert message.count("\n") == 1
    worker.close()
    assert liveness.main() == 1


def test_two_workers_of_one_machine_never_vouch_for_each_other(
    tmp_path: Path, clock: Clock
) -> None:
    ours, theirs = WorkerHealth(tmp_path, clock=clock), WorkerHealth(tmp_path, clock=clock)
    for worker in (ours, theirs):
        worker.lane("plan").touch()
    clock.now_s += MAX_SILENCE_S + 1
    ours.lane("plan").touch()
    found = f"worker {os.getpid()}: no heartbeat from plan for 241 s"
    assert find_problem(tmp_path, clock.now_s) == found
    theirs.lane("plan").touch()
    assert find_problem(tmp_path, clock.now_s) is None


def test_a_worker_that_was_killed_counts_neither_for_nor_against_another(tmp_path: Path) -> None:
    """Nothing has its folder locked any more, though its files are fresh."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from klinefleet.workers.coordination.liveness import WorkerHealth\n"
        "WorkerHealth(Path(sys.argv[1])).lane('plan').touch()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    assert killed.wait(60) == 0
    (left,) = tmp_path.iterdir()
    assert (left / "plan").exists()
    now_s = time.time()
    assert str(find_problem(tmp_path, now_s)).startswith("no worker is running")
    ours = WorkerHealth(tmp_path)
    ours.lane("plan").touch()
    assert find_problem(tmp_path, now_s + MAX_SILENCE_S - 60) is None
    assert find_problem(tmp_path, now_s, os.getpid()) is None
    assert find_problem(tmp_path, now_s, killed.pid) == (
        f"worker {killed.pid} does not run: no files of it in {tmp_path}"
    )
    assert left.exists(), "it might be a worker that starts at this moment"
    os.utime(left, (0, 0))
    WorkerHealth(tmp_path).close()
    assert not left.exists()


def test_a_folder_of_another_user_is_no_place_for_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    runtime_folder().mkdir(mode=0o777)
    runtime_folder().chmod(0o777)
    WorkerHealth().lane("plan").touch()
    assert list(runtime_folder().iterdir()) == []
    assert liveness.main() == 1
