"""Publishing a partition beside others, and to stores that fail: nothing unproved counts."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import (
    ReadBackMismatch,
    StoreFault,
    VersionConflict,
)
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.answers import footer_of
from tests.unit.helpers.klines import MINUTES, covered, frame, minutes, opens
from tests.unit.helpers.partitions import KEY, VersionedStore, held, put


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


def test_what_another_publishes_between_reading_and_publishing_is_not_lost() -> None:
    files = VersionedStore(lambda store: put(Partitions(store), minutes(10, 20)) and None)
    assert put(Partitions(files), minutes(0, 10)) == 10
    assert held(files) == list(opens(minutes(0, 20)))
    assert covered(files, MINUTES) == [minutes(0, 20)]


def test_what_another_publishes_on_top_before_it_is_read_back_is_not_lost() -> None:
    class Overtaken(VersionedStore):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 1:
                put(Partitions(self), minutes(10, 20))

    files = Overtaken()
    assert put(Partitions(files), minutes(0, 10)) == 10
    assert held(files) == list(opens(minutes(0, 20)))


def test_threads_that_merge_at_once_lose_nothing(tmp_path: Path) -> None:
    parts = [minutes(n * 50, n * 50 + 60) for n in range(4)]
    gained: list[int] = []
    threads = [
        threading.Thread(
            target=lambda part=part: gained.append(put(Partitions(open_store(str(tmp_path))), part))
        )
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = open_store(str(tmp_path))
    assert held(files) == list(opens(minutes(0, 210)))
    assert covered(files, MINUTES) == [minutes(0, 210)]
    assert sum(gained) == 210


def test_a_publish_whose_answer_was_lost_counts_as_published() -> None:
    class Deaf(VersionedStore):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 1:
                # The store has taken it; the second try of the same call finds its own version
                # there.
                raise VersionConflict("the second try met the first")

    files = Deaf()
    put(Partitions(files), minutes(0, 10))
    assert files.published == 1
    assert held(files) == list(opens(minutes(0, 10)))
    assert covered(files, MINUTES) == [minutes(0, 10)]


def test_a_partition_that_vanishes_while_it_is_read_is_made_anew() -> None:
    class Vanishing(VersionedStore):
        reads = 0

        def read(self, key: str) -> bytes | None:
            self.reads += 1
            if self.reads == 1:
                self.held.pop(key)
            return super().read(key)

    files = Vanishing()
    files.publish(KEY, encode(frame(opens(minutes(0, 5))), Footer()), replaces=None)
    assert put(Partitions(files), minutes(5, 10)) == 5
    assert held(files) == list(opens(minutes(5, 10)))


class Forgetful(VersionedStore):
    """Takes every publish, and gives back an older version ever after."""

    def read(self, key: str) -> bytes | None:
        return (
            encode(frame(opens(minutes(0, 3))), footer_of(minutes(0, 3)))
            if key in self.held
            else None
        )


def test_a_store_that_gives_back_another_version_is_never_believed() -> None:
    with pytest.raises(ReadBackMismatch, match="the raw objects are kept"):
        put(Partitions(Forgetful()), minutes(0, 10))


class Rotting(VersionedStore):
    """Takes every publish, and gives half of it back."""

    def read(self, key: str) -> bytes | None:
        body = super().read(key)
        return body and body[: len(body) // 2]


def test_a_store_that_gives_back_damaged_bytes_is_never_believed() -> None:
    with pytest.raises(ReadBackMismatch):
        put(Partitions(Rotting()), minutes(0, 200))


def test_a_store_that_takes_no_version_is_given_up_after_a_bounded_number_of_rounds() -> None:
    tried = []

    class Refusing(VersionedStore):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            tried.append(replaces)
            raise VersionConflict(key)

    with pytest.raises(ReadBackMismatch):
        put(Partitions(Refusing()), minutes(0, 10))
    assert 1 < len(tried) <= 50


def test_a_store_that_fails_while_publishing_leaves_the_old_version(
    files: ObjectStore, tmp_path: Path
) -> None:
    put(Partitions(files), minutes(0, 10))
    before = files.read(KEY)

    class Full(FolderStore):
        def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
            raise OSError("no space left")

    full = Full(files._fs, str(tmp_path), sleep=lambda _: None)
    with pytest.raises(StoreFault), suppress(ReadBackMismatch):
        put(Partitions(full), minutes(10, 20))
    assert files.read(KEY) == before
