"""Fixtures for all tests: real servers on loopback, each test with its own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from klinefleet.workers.coordination.private_redis import private_redis
from tests.harness import WARM, Fleet
from tests.servers import Exchange, RedisServer

#: The same examples on every machine, however slow. `--hypothesis-profile=default` looks for
#: others.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis, shared by the tests of one session."""
    with private_redis() as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def _no_command_outlives_the_session() -> Iterator[None]:
    yield
    WARM.close()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an empty real Redis."""
    client = Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """The stand-in exchange over HTTP."""
    with Exchange(tmp_path) as running:
        yield running


@pytest.fixture
def fleet_of(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Make a fleet without workers.

    `exchange` are options of the stand-in exchange; settings go to all processes.
    """
    made: list[Fleet] = []

    def make(*exchange: str, store_url: str | None = None, **settings: str) -> Fleet:
        fleet = Fleet(
            tmp_path,
            Exchange(tmp_path, *exchange),
            RedisServer(tmp_path / "redis"),
            store_url or str(tmp_path / "store"),
            settings,
        )
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the developer's settings, .env file or private Redis."""
    for name in [name for name in os.environ if name.startswith("KLINES_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
