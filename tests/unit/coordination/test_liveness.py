"""Health by files that lanes touch: who is silent, who is stuck, and who ended in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.coordination import liveness
from klinefleet.workers.coordination.liveness import LONGEST_TASK_S, SILENT_S, Alive, verdict

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
    plan, archive = (Alive(name, folder=tmp_path, clock=clock) for name in ("plan", "archive"))
    plan.beat()
    archive.beat()
    clock.now_s += SILENT_S
    assert verdict(tmp_path, clock.now_s) is None
    clock.now_s += 1
    plan.beat()
    assert verdict(tmp_path, clock.now_s) == "no sign of life of archive for 241 s"


def test_redis_may_be_replaced_before_a_lane_counts_as_silent(tmp_path: Path, clock: Clock) -> None:
    Alive("plan", folder=tmp_path, clock=clock).beat()
    assert verdict(tmp_path, clock.now_s + FAILOVER_S + 3 * liveness.BEAT_S) is None


def test_a_lane_whose_oldest_task_hangs_gives_no_sign_of_life(tmp_path: Path, clock: Clock) -> None:
    lane, began_s = Alive("compact", folder=tmp_path, clock=clock), clock.now_s
    clock.now_s += LONGEST_TASK_S
    lane.beat([began_s, clock.now_s])
    assert verdict(tmp_path, clock.now_s) is None
    clock.now_s += SILENT_S + 1
    lane.beat([began_s, clock.now_s])
    assert verdict(tmp_path, clock.now_s)
    lane.beat([clock.now_s])
    assert verdict(tmp_path, clock.now_s) is None


def test_a_task_that_was_received_and_has_not_begun_is_not_old(
    tmp_path: Path, clock: Clock
) -> None:
    Alive("plan", folder=tmp_path, clock=clock).beat([None])
    assert verdict(tmp_path, clock.now_s) is None


def test_a_worker_none_of_whose_lanes_has_begun_is_not_well(tmp_path: Path, clock: Clock) -> None:
    assert (
        verdict(tmp_path / "nothing", clock.now_s)
        == f"no lane runs here: nothing in {tmp_path / 'nothing'}"
    )


def test_a_lane_that_fails_again_and_again_before_it_can_take_tasks_is_never_well(
    tmp_path: Path, clock: Clock
) -> None:
    lane = Alive("plan", folder=tmp_path, clock=clock)
    lane.expect()
    assert verdict(tmp_path, clock.now_s) == "no sign of life of plan since it was started"
    lane.beat()
    assert verdict(tmp_path, clock.now_s) is None


def test_a_lane_that_ended_in_order_is_not_missed(tmp_path: Path, clock: Clock) -> None:
    plan, archive = (Alive(name, folder=tmp_path, clock=clock) for name in ("plan", "archive"))
    plan.beat()
    archive.beat()
    archive.end()
    archive.end()
    clock.now_s += SILENT_S + 1
    plan.beat()
    assert verdict(tmp_path, clock.now_s) is None


def test_a_folder_that_cannot_be_written_stops_no_lane(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    Alive("plan", folder=tmp_path / "file" / "alive", clock=clock).beat()


def test_the_command_says_in_one_line_who_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert liveness.main() == 1
    Alive("plan").beat()
    assert liveness.main() == 0
    Alive("rest.spot", clock=lambda: 1_000_000_000.0).beat()
    capsys.readouterr()
    assert liveness.main() == 1
    told = capsys.readouterr().err
    assert told.startswith("no sign of life of rest.spot for ")
    assert told.count("\n") == 1
