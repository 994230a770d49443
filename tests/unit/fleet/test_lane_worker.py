"""What a lane says as it starts."""

from __future__ import annotations

import os
import warnings

import pytest
from celery.exceptions import SecurityWarning
from celery.platforms import check_privileges

from klinefleet.tasks.fleet.lane_worker import ignore_superuser_warning
from klinefleet.workers.support.settings import Settings


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, name, lambda: 0)


@pytest.mark.usefixtures("root")
def test_root_is_not_warned_of_a_redis_that_takes_tasks_of_root_alone() -> None:
    with warnings.catch_warnings():
        ignore_superuser_warning(Settings(redis_url="unix:///run/klinefleet-0/redis.sock"))
        check_privileges({"json"})


@pytest.mark.usefixtures("root")
def test_root_is_warned_of_a_redis_that_others_reach() -> None:
    with warnings.catch_warnings():
        ignore_superuser_warning(Settings(redis_url="redis://10.0.0.1"))
        with pytest.warns(SecurityWarning, match="superuser"):
            check_privileges({"json"})
