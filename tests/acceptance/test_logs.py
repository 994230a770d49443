"""What workers write: nothing at rest, JSON where nobody watches, sentences on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from klinefleet.workers.coordination.private_redis import die_with_parent
from tests.acceptance.beats import await_beats
from tests.harness import KLINES, Fleet
from tests.processes import ROOT, Process, until

DAY = (
    "--market",
    "um",
    "--symbols",
    "BTCUSDT",
    "--interval",
    "1m",
    "--start",
    "2024-01-01",
    "--end",
    "2024-01-02",
)
#: Between three of them each lane has looked for lost work twice, and for new runs at least once.
BEATS = 3


def test_a_worker_at_rest_writes_nothing_and_of_a_run_only_how_it_began_and_ended(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of()
    fleet.start_worker()
    until(
        "all lanes are connected",
        lambda: [line["event"][:9] for line in fleet.log_lines()].count("Connected") == 6,
    )
    started = fleet.log_lines()
    await_beats(fleet, BEATS)
    assert fleet.log_lines() == started
    run = fleet.download(*DAY)["run"]
    # The command may end before the line is written.
    until("the end is logged", lambda: len(fleet.log_lines()) >= len(started) + 2)
    written = fleet.log_lines()[len(started) :]
    assert [line["event"] for line in written] == [f"run {run} begins", f"run {run} is complete"]
    assert all(line["level"] == "info" and line["lane"].startswith("plan@") for line in written)
    assert written[1]["run"] == run


def test_at_debug_each_window_has_a_line_and_none_of_them_has_a_secret(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(AWS_SECRET_ACCESS_KEY="not-to-be-read", AWS_ACCESS_KEY_ID="key")
    fleet.start_worker("--queues", "plan,rest.futures,compact", "--loglevel", "debug")
    fleet.download(*DAY, "--source", "rest")
    fetched = [line for line in fleet.log_lines() if line["event"].startswith("fetched")]
    assert [(line["series"], line["window"]) for line in fetched] == [
        ("um/klines/1m/BTCUSDT", "2024-01-01..2024-01-02")
    ]
    assert "not-to-be-read" not in fleet.log(1_000_000)


@pytest.mark.parametrize(("form", "is_json"), [("auto", False), ("json", True)])
def test_a_terminal_gets_sentences_unless_json_is_asked_for(
    fleet_of: Callable[..., Fleet], form: str, is_json: bool
) -> None:
    fleet = replace(fleet_of(), settings={"KLINES_LOG": form})
    ours, theirs = pty.openpty()
    worker = Process()
    worker.process = subprocess.Popen(
        [str(KLINES), "worker", "--queues", "plan"],
        cwd=ROOT,
        env=fleet.env,
        stdin=theirs,
        stderr=theirs,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    os.close(theirs)
    try:
        written = b""
        while b"serving plan" not in written:
            written += os.read(ours, 4096)
    finally:
        worker.stop()
        os.close(ours)
    assert written.startswith(b"{") is is_json


def test_a_command_speaks_to_a_person_also_into_a_pipe(fleet_of: Callable[..., Fleet]) -> None:
    done = fleet_of(KLINES_REDIS_URL="http://:sesame-open@host").klines("status")
    assert done.returncode == 2
    assert done.stderr.startswith("klines: KLINES_REDIS_URL was")
    assert "sesame-open" not in done.stderr
