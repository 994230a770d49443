"""A store that refuses: a run ends with the reason, and leaves nothing half-written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.expected import Wanted
from tests.harness import Command, Fleet
from tests.processes import until
from tests.servers import ObjectStore

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-03-01")
SLOW_MS, SOON_MS = 1_000, 20
#: Warnings of the lanes of one worker, for a state that lasts a minute.
MOST_LINES = 250


def begin(fleet: Fleet) -> Command:
    """Start a run and return once it is at work, and slow."""
    fleet.start_worker()
    fleet.klines("catalog", "update", "--market", "spot")
    fleet.exchange.hold_back(SLOW_MS)
    calls = len(fleet.exchange.calls())
    command = fleet.start("download", "--json", *WANTED.arguments)
    until("it is at work", lambda: len(fleet.exchange.calls()) >= calls + 10)
    return command


def refused(fleet: Fleet, command: Command, reason: str) -> dict[str, Any]:
    """Return the summary of a run that the store refuses, told with the reason and in bounds."""
    done = command.result()
    assert done.returncode == 1, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["state"] == "incomplete"
    assert reason in told["failed"]["plan"], told["failed"]
    assert told["failed"]["plan"].endswith("what had not begun was not fetched")
    text = fleet.klines("status", told["run"]).stdout
    assert reason in text
    lines = fleet.log_lines()
    assert len(lines) < MOST_LINES
    assert not [line for line in lines if "exception" in line]
    nothing = fleet.klines("download", *WANTED.arguments)
    (line,) = nothing.stderr.splitlines()
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert reason in line
    assert line.endswith("nothing was queued")
    return told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB. A run needs up to 8 MB of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_a_disk_that_fills_up_ends_a_run_with_that_reason_though_no_report_can_be_written(
    fleet_of: Callable[..., Fleet], small_disk: Path
) -> None:
    fleet = fleet_of(store_url=str(small_disk / "store"))
    command = begin(fleet)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    told = refused(fleet, command, "No space left on device")
    assert told["failed"]["report"].startswith("its report could not be stored: StoreFault")
    assert not list(small_disk.rglob("report.csv"))
    assert not temporary_files(small_disk)
    ballast.unlink()
    fleet.exchange.hold_back(SOON_MS)
    assert fleet.download(*WANTED.arguments)["state"] == "complete"
    WANTED.assert_held(fleet)
    fleet.assert_nobody_refused()


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Returns what writes an access key into the credentials file of what is started next."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(key: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
        new.replace(file)

    return write


def test_credentials_that_expire_under_a_run_are_taken_up_from_disk_and_it_goes_on(
    fleet_of: Callable[..., Fleet],
    store: ObjectStore,
    keys: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    keys("first")
    fleet = fleet_of(store_url="s3://lake/klines")
    command = begin(fleet)
    store.faults(refused={"first": "ExpiredToken"})
    until("a lane notices", lambda: "they are read again" in fleet.log(60_000))
    keys("second")
    fleet.exchange.hold_back(SOON_MS)
    done = command.result()
    assert done.returncode == 0, done.stdout + done.stderr + fleet.log()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "second")  # for the test's own reader
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    WANTED.assert_held(fleet)
