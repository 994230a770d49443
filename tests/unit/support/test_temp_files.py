"""Temporary folders: nothing of a killed process stays, nothing of a living one goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from klinefleet.workers.support.temp_files import temp_folder

_HOLD = """
import sys
from klinefleet.workers.support.temp_files import temp_folder
with temp_folder("sql") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def make_old(folder: Path, age_s: float = 7200) -> None:
    os.utime(folder, (time.time() - age_s,) * 2)


def test_a_folder_is_gone_after_its_use(tmp_path: Path) -> None:
    with temp_folder("sql") as folder:
        (folder / "spilled").write_bytes(b"rows")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_deleted_by_age_and_what_lives_stays(tmp_path: Path) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path)}
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for _ in range(3)
    ]
    folders = [Path(one.stdout.readline().strip()) for one in holders if one.stdout]
    alive, killed, young = folders
    (killed / "spilled").write_bytes(b"rows")
    for one in holders[1:]:
        one.kill()
        one.wait()
    other = tmp_path / "klinefleet-redis-other"
    other.mkdir()
    for folder in (alive, killed, other):
        make_old(folder)
    try:
        with temp_folder("sql"):
            assert [path.exists() for path in (alive, killed, young, other)] == [
                True,
                False,
                True,
                True,
            ]
    finally:
        holders[0].communicate()
        for one in holders:
            if one.stdout:
                one.stdout.close()
            if one.stdin:
                one.stdin.close()
