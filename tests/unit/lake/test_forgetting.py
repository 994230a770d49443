"""Time that is forgotten is missing afterwards, and the other rows stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.lake.footers.footer import parse_footer
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import encode, read_back
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.answers import footer_of
from tests.unit.helpers.klines import JANUARY, MINUTES, covered, frame, minutes, opens
from tests.unit.helpers.partitions import KEY, VersionedStore, held, put, spoilt


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))


@pytest.fixture
def lake(files: ObjectStore) -> Partitions:
    return Partitions(files)


def test_what_is_forgotten_is_missing_and_the_rest_stays_as_it_was(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    before = files.read(KEY)
    assert lake.forget(JANUARY, [minutes(3, 5)]) == [minutes(3, 5)]
    assert held(files) == [*opens(minutes(0, 3)), *opens(minutes(5, 10))]
    assert covered(files, MINUTES) == [minutes(0, 3), minutes(5, 10)]
    assert parse_footer(files.read(KEY) or b"").proof == prove(
        MINUTES, read_back(KLINES, files.read(KEY) or b"")[0], covered(files, MINUTES)
    )
    (kept,) = files.list("damaged")
    assert files.read(kept.key) == before
    put(lake, minutes(3, 5))
    assert files.read(KEY) == before


def test_forgetting_twice_is_forgetting_once(lake: Partitions, files: ObjectStore) -> None:
    put(lake, minutes(0, 10))
    lake.forget(JANUARY, [minutes(3, 5)])
    first, etag = files.read(KEY), files.etag(KEY)
    assert lake.forget(JANUARY, [minutes(3, 5)]) == [minutes(3, 5)]
    assert (files.read(KEY), files.etag(KEY)) == (first, etag)
    assert len(files.list("damaged")) == 1


def test_of_rows_that_are_not_those_that_were_proved_everything_is_forgotten(
    lake: Partitions, files: ObjectStore
) -> None:
    put(lake, minutes(0, 10))
    files.put(KEY, spoilt(files.read(KEY) or b""))
    assert lake.forget(JANUARY, [minutes(3, 5)]) == [minutes(0, 10)]
    assert (held(files), covered(files, MINUTES)) == ([], [])


@pytest.mark.parametrize("bad", [b"", b"PAR1 no Parquet at all PAR1"])
def test_a_file_that_does_not_decode_is_kept_aside_and_its_month_is_missing(
    lake: Partitions, files: ObjectStore, bad: bytes
) -> None:
    files.put(KEY, bad)
    assert lake.forget(JANUARY, [minutes(3, 5)]) == [JANUARY.span]
    assert covered(files, MINUTES) == []
    assert [files.read(entry.key) for entry in files.list("damaged")] == [bad]
    assert put(lake, minutes(0, 10)) == 10


def test_a_forgetting_whose_answer_was_lost_tells_just_what_was_covered() -> None:
    class Deaf(VersionedStore):
        def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
            super().publish(key, body, replaces=replaces)
            if self.published == 2:
                raise VersionConflict("the second try met the first")

    files = Deaf()
    put(Partitions(files), minutes(0, 10))
    assert Partitions(files).forget(JANUARY) == [minutes(0, 10)]
    assert (held(files), covered(files, MINUTES)) == ([], [])
    assert Partitions(files).forget(JANUARY) == []


def test_what_another_publishes_while_time_is_forgotten_is_not_lost() -> None:
    files = VersionedStore()
    put(Partitions(files), minutes(0, 10))
    files.meddle = lambda store: put(Partitions(store), minutes(10, 20)) and None
    Partitions(files).forget(JANUARY, [minutes(3, 5)])
    assert covered(files, MINUTES) == [minutes(0, 3), minutes(5, 20)]


def test_rows_out_of_order_are_put_in_order_where_time_is_forgotten(
    lake: Partitions, files: ObjectStore
) -> None:
    rows = frame(opens(minutes(0, 10)))
    files.put(KEY, encode(rows.reverse(), footer_of(minutes(0, 10))))
    lake.forget(JANUARY, [minutes(3, 5)])
    assert held(files) == [*opens(minutes(0, 3)), *opens(minutes(5, 10))]
