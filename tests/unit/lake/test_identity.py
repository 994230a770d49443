"""The store says which it is and of what format its lake is; nothing writes another format."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import LakeFormat
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.identity import FORMAT, Identity, StoreIdentity
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.open import open_store
from tests.answers import covering
from tests.old_lakes import copy_lake
from tests.unit.helpers.klines import MINUTES, frame, minutes, opens


def identity_of(store: Path) -> StoreIdentity:
    return StoreIdentity(open_store(str(store)))


def test_a_new_store_gets_an_identity_that_stays(tmp_path: Path) -> None:
    first = identity_of(tmp_path).require_current()
    assert first.format == FORMAT
    assert identity_of(tmp_path).require_current() == first
    written = json.loads((tmp_path / "klinefleet.json").read_text())
    assert written == {"id": first.id, "format": FORMAT}


def test_two_stores_have_two_identities(tmp_path: Path) -> None:
    one, other = (identity_of(tmp_path / name).require_current() for name in ("one", "other"))
    assert one.id != other.id


def test_many_that_come_first_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(lambda _: identity_of(tmp_path).require_current(), range(64)))
    assert len(found) == 1


def test_to_read_an_identity_writes_none(tmp_path: Path) -> None:
    assert identity_of(tmp_path).read() is None
    assert list(tmp_path.iterdir()) == []


def test_a_lake_of_format_1_gets_no_identity_and_is_not_written(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    assert identity_of(store).settle() == Identity("", 1)
    with pytest.raises(LakeFormat, match=r"is of format 1.*klines migrate"):
        identity_of(store).require_current()
    assert not (store / "klinefleet.json").exists()


def test_a_lake_of_format_1_of_months_alone_is_told_by_its_footers(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake", "SIM005USDT")
    assert identity_of(store).settle() == Identity("", 1)


def test_a_lake_that_was_copied_without_its_identity_is_of_the_format_of_its_files(
    tmp_path: Path,
) -> None:
    files = open_store(str(tmp_path))
    span = minutes(0, 60)
    Partitions(files).merge(Partition(MINUTES, "2024-01"), frame(opens(span)), covering(span))
    assert identity_of(tmp_path).require_current().format == FORMAT


def test_a_lake_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "klinefleet.json").write_text('{"id": "a1", "format": 3, "later": true}')
    with pytest.raises(LakeFormat, match=r"format 3.*newer version.*upgrade"):
        identity_of(tmp_path).require_current()
    with pytest.raises(LakeFormat, match="format 3"):
        identity_of(tmp_path).begin_migration()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "a"}', '{"id": "a", "format": "x"}'])
def test_what_is_no_identity_is_told_and_left(tmp_path: Path, text: str) -> None:
    (tmp_path / "klinefleet.json").write_text(text)
    for call in ("read", "settle", "require_current", "begin_migration"):
        with pytest.raises(LakeFormat, match=r"klinefleet\.json is not a store's identity"):
            getattr(identity_of(tmp_path), call)()
    assert (tmp_path / "klinefleet.json").read_text() == text


def test_a_migration_that_begins_twice_keeps_the_identity(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake", "BNBUSDT")
    first = identity_of(store).begin_migration()
    assert first.format == 1
    assert identity_of(store).begin_migration() == first
    with pytest.raises(LakeFormat, match="format 1"):
        identity_of(store).require_current()
    assert identity_of(store).end_migration() == Identity(first.id, FORMAT)
    assert identity_of(store).end_migration() == Identity(first.id, FORMAT)
    assert identity_of(store).require_current() == Identity(first.id, FORMAT)


def test_the_identity_is_no_partition_and_no_raw_object() -> None:
    assert keys.partition_of(keys.IDENTITY) is None
    assert not keys.is_raw(keys.IDENTITY)
