"""Running fleets for all modules that kill nothing and need no settings of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.expected import RECORDED
from tests.harness import AMPLE, Fleet, running_fleet
from tests.invariants import checked_after_every_download
from tests.servers import ObjectStore

#: Weight that lets REST answer eight years in one minute, and leaves it slower than files.
REPLAYED_SPOT_LIMIT = "12000"


@pytest.fixture(scope="session", autouse=True)
def _complete_means_held() -> Iterator[None]:
    """Check after every download that exits with 0 that nothing is missing from the lake.

    Nothing may be left behind in Redis either.
    """
    with checked_after_every_download():
        yield


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with more weight than it needs; whoever takes it leaves no fault behind."""
    with running_fleet(tmp_path_factory.mktemp("shared"), *AMPLE) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def replaying_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose exchange tells what is recorded."""
    with running_fleet(
        tmp_path_factory.mktemp("replaying"),
        "--replay",
        str(RECORDED),
        "--spot-limit",
        REPLAYED_SPOT_LIMIT,
    ) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """The shared fleet, with a lake that holds nothing yet as the module begins."""
    shared_fleet.empty()
    yield shared_fleet
    shared_fleet.assert_nobody_refused()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 server in memory, named in the environment of what is started next."""
    with ObjectStore(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Another fleet, with a lake of its own, that has asked for no funding yet."""
    with running_fleet(tmp_path_factory.mktemp("second"), *AMPLE) as fleet:
        yield fleet
