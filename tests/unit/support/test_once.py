"""What several threads of one process share: made on first use, and only once."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import klinefleet.workers.services
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.lake.catalog import Catalog, Catalogs
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.services import Services
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.once import once
from klinefleet.workers.support.settings import Settings
from klinefleet.workers.support.threads import Threads
from tests.unit.helpers.catalogs import UM, catalog

ROOT = Path(__file__).resolve().parents[3]
THREADS = 8


class Makings:
    """Counts makings, each of which waits a moment for a second one to begin beside it."""

    def __init__(self) -> None:
        self.count = 0
        self._both = threading.Barrier(2)

    def __call__(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def making(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            with suppress(threading.BrokenBarrierError):
                self._both.wait(0.05)
            return make(*args, **kwargs)

        return making


def at_once(ask: Callable[[], Any]) -> list[Any]:
    """What several threads get that ask at the same moment."""
    barrier = threading.Barrier(THREADS)

    def one(_: int) -> Any:
        barrier.wait(10)
        return ask()

    with Threads(THREADS) as threads:
        return threads.map_all(one, range(THREADS))


class Box:
    """Properties of which one needs the other."""

    def __init__(self, makings: Makings) -> None:
        self._made = makings(object)

    @once
    def inner(self) -> object:
        """What is inside."""
        return self._made()

    @once
    def outer(self) -> list[object]:
        return [self.inner]


def test_threads_that_ask_at_once_share_one_thing() -> None:
    makings = Makings()
    box = Box(makings)
    got = at_once(lambda: box.outer[0])
    assert makings.count == 1
    assert set(got) == {box.inner}


def test_two_instances_never_wait_for_each_other() -> None:
    both = threading.Barrier(2)

    class Slow:
        @once
        def thing(self) -> int:
            return both.wait(10)

    boxes = [Slow(), Slow()]
    with Threads(2) as threads:
        assert sorted(threads.map_all(lambda box: box.thing, boxes)) == [0, 1]


def test_what_was_put_in_its_place_stands_and_a_failure_is_not_kept() -> None:
    box = Box(Makings())
    box.__dict__["inner"] = "mine"
    assert box.outer == ["mine"]
    asked: list[int] = []

    class Fails:
        @once
        def thing(self) -> int:
            asked.append(1)
            return 1 // (len(asked) - 1)

    fails = Fails()
    with pytest.raises(ZeroDivisionError):
        _ = fails.thing
    assert fails.thing == 1
    assert Box.inner.__doc__ == "What is inside."


def test_a_process_never_makes_two_archives_or_sessions(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    makings = Makings()
    monkeypatch.setattr(
        "klinefleet.workers.binance.calls.session.pooled_session", makings(lambda *_: object())
    )
    services = Services(Settings(redis_url="redis://nowhere"))
    assert len({id(archive) for archive in at_once(lambda: services.archive)}) == 1
    assert makings.count == 1


def test_a_process_never_makes_two_budgets_of_a_pool(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    makings = Makings()
    monkeypatch.setattr(klinefleet.workers.services, "RedisBudget", makings(RedisBudget))
    services = Services(Settings())
    services.__dict__["redis"] = redis
    assert len({id(budget) for budget in at_once(lambda: services.budget(Pool.SPOT))}) == 1
    assert makings.count == 1


def test_threads_that_look_for_a_catalog_read_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makings, catalogs = Makings(), Catalogs(open_store(str(tmp_path)))
    made = Catalog(UM, catalogs._clock.now_ms(), catalog().entries())
    catalogs.store(made)
    monkeypatch.setattr(catalogs, "newest", makings(catalogs.newest))
    assert len({id(found) for found in at_once(lambda: catalogs.fresh(UM))}) == 1
    assert makings.count == 1


@pytest.mark.parametrize("package", ["workers", "tasks"])
def test_nothing_that_threads_may_share_is_kept_by_what_has_no_lock(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        imported = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        ]
        named = {
            alias.name for node in imported if node.module == "functools" for alias in node.names
        }
        assert "cached_property" not in named, path
