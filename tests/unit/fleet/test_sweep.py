"""What killed processes left in a store is deleted once a day."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from klinefleet.tasks.fleet import sweep
from klinefleet.tasks.fleet.sweep import sweep_daily
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.redis_keys import SWEPT
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.keys import FOLDERS
from tests.unit.helpers.in_process_fleet import InProcessFleet

LEFT_OVER = ".2024-01.parquet." + "a" * 32


class Once(threading.Event):
    """Stops after the first round."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def leave(one: InProcessFleet, folder: str, name: str = LEFT_OVER, age_s: float = 7200) -> Path:
    path = Path(one.services.store.address(f"{folder}/market=um/{name}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_every_folder_of_a_store_is_swept_by_age_and_its_objects_stay(one: InProcessFleet) -> None:
    old = [leave(one, folder) for folder in FOLDERS]
    young, kept = (
        leave(one, "raw", "." + LEFT_OVER, age_s=60),
        leave(one, "lake", "2024-01.parquet"),
    )
    sweep_daily(one.services, Once())
    assert not any(path.exists() for path in old)
    assert young.exists()
    assert kept.read_bytes() == b"half"


def test_a_store_is_swept_once_a_day_by_all_processes_together(one: InProcessFleet) -> None:
    sweep_daily(one.services, Once())
    assert 0 < one.services.redis.pttl(SWEPT) <= DAY_MS
    left = leave(one, "lake")
    sweep_daily(one.services, Once())
    assert left.exists()
    one.services.redis.delete(SWEPT)
    sweep_daily(one.services, Once())
    assert not left.exists()


def test_a_store_that_could_not_be_swept_is_swept_later_and_that_is_said(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(folders: object) -> None:
        raise StoreFault("could not list in the store: Input/output error")

    monkeypatch.setattr(one.services.store, "sweep", refuse)
    sweep_daily(one.services, Once())
    assert not one.services.redis.exists(SWEPT)
    assert "sweeping the store fails, trying again: StoreFault" in caplog.text
    assert sweep.PAUSE_S < DAY_MS / 1000
