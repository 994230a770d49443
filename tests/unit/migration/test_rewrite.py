"""A lake of format 1 is rewritten: every row once, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from klinefleet.tasks.client import migrate_run
from klinefleet.tasks.client.progress_bar import progress_display
from klinefleet.tasks.migration.rewrite import Migrated, migrate_piece
from klinefleet.tasks.migration.scope import MigrationPiece, list_pieces
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.identity import Identity
from klinefleet.workers.lake.integrity import check
from klinefleet.workers.lake.partition_codec import read_back
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.services import Services
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.settings import Settings
from tests.old_lakes import (
    DAMAGED,
    DyingStore,
    Killed,
    assert_true,
    copy_lake,
    files_of,
    held,
    truths,
)

#: Symbols with a year of several months, a month of seconds, and months that stay months.
FEW = ("BNBUSDT", "SOLUSDT")


def services_of(store: Path) -> Services:
    return Services(Settings(store_url=str(store)))


def migrate(store: Path, files: FolderStore | None = None) -> Migrated:
    services = services_of(store)
    if files:
        services.__dict__["store"] = files
    if not migrate_run.begin(services, is_local=True):
        return Migrated()
    with progress_display("") as display:
        return migrate_run.migrate(services, display, is_local=True)


def periods(store: Path) -> dict[str, set[int]]:
    """The lengths of the periods' names, by interval."""
    found: dict[str, set[int]] = {}
    for entry in open_store(str(store)).list("lake"):
        partition = keys.partition_of(entry.key)
        assert partition
        found.setdefault(str(partition.series.interval), set()).add(len(partition.period))
    return found


def test_a_lake_of_format_1_is_read_as_it_is(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    before = files_of(store)
    assert_true(store)
    reader = Reader(str(store), cache=False)
    for truth in truths():
        series = truth.series
        rows = reader.read(
            series.market,
            series.symbol,
            str(series.interval) if series.interval.is_grid else None,
            kind=str(series.kind),
            partial=True,
        )
        assert rows.equals(truth.rows), series
    assert files_of(store) == before


def test_every_row_and_all_covered_time_is_there_once_after_a_migration(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    done = migrate(store)
    assert (done.failed, done.set_aside) == ({}, {})
    assert_true(store)
    assert done.rows == sum(truth.rows.height for truth in truths())
    # As any other program finds it: every file below a series' folder.
    for truth in truths():
        folder = store / keys.series_folder("lake", truth.series)
        read = [pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))]
        assert pl.concat(read).equals(truth.rows), truth.series


def test_a_year_is_one_file_and_a_day_of_seconds_is_one(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    migrate(store)
    year, month, day = len("2024"), len("2024-01"), len("2024-01-05")
    coarse = ("15m", "1h", "4h", "1d", "3d", "1w", "1M", "events")
    years = {interval: {year} for interval in coarse}
    assert periods(store) == {**years, "1s": {day}, "1m": {month}, "5m": {month}}


def test_each_partition_says_what_it_is_and_nothing_is_wrong_with_it(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    migrate(store)
    files = open_store(str(store))
    for entry, partition in keys.partitions_in(files.list("lake")).items():
        body = files.read(entry.key) or b""
        _, footer = read_back(partition.series.kind, body, entry.key)
        assert footer.partition == partition
        assert footer.proof
        assert check(partition, body).faults == []


def test_raw_objects_that_this_version_cannot_use_are_deleted(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    assert open_store(str(store)).list("raw")
    migrate(store)
    assert open_store(str(store)).list("raw") == []


def test_raw_objects_are_kept_elsewhere_where_the_settings_say_so(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    before = {key: body for key, body in files_of(store).items() if key.startswith("raw/")}
    services = Services(Settings(store_url=str(store), keep_raw=True))
    assert migrate_run.begin(services, is_local=True)
    with progress_display("") as display:
        migrate_run.migrate(services, display, is_local=True)
    after = files_of(store)
    assert {key: after[keys.kept(key)] for key in before} == before
    assert [key for key in after if key.startswith("raw/")] == []


def test_a_second_migration_changes_nothing(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake")
    migrate(store)
    before = files_of(store)
    assert migrate(store) == Migrated()
    # Also if it does not know that there was one.
    services = services_of(store)
    for piece in list_pieces(services):
        migrate_piece(services, piece)
    assert files_of(store) == before


@pytest.mark.parametrize("is_after", [False, True], ids=["before a change", "after a change"])
def test_a_migration_that_is_killed_anywhere_loses_nothing_and_goes_on(
    tmp_path: Path, is_after: bool
) -> None:
    whole = copy_lake(tmp_path / "whole", *FEW)
    migrate(whole)
    kills = 0
    while True:
        store = copy_lake(tmp_path / f"killed {kills}", *FEW)
        inner = open_store(str(store))
        assert isinstance(inner, FolderStore)
        try:
            migrate(store, DyingStore(inner, changes=kills, is_after=is_after))
            break
        except Killed:
            assert_true(store, *FEW)
        assert migrate(store).failed == {}
        assert_true(store, *FEW)
        ours, theirs = files_of(store), files_of(whole)
        assert {k for k in ours if k.startswith("lake")} == {
            k for k in theirs if k.startswith("lake")
        }
        kills += 1
    assert kills > 10


def test_a_partition_that_cannot_be_read_is_set_aside_and_its_time_is_missing(
    tmp_path: Path,
) -> None:
    store = copy_lake(tmp_path / "lake", source=DAMAGED)
    told = json.loads((DAMAGED / "truth.json").read_text())
    before = files_of(store)
    done = migrate(store)
    wrong = [one["key"] for one in told["damaged"]]
    assert sorted(done.set_aside) == sorted(wrong)
    assert done.failed == {}
    kept = {body for key, body in files_of(store).items() if key.startswith("damaged/")}
    assert kept == {before[key] for key in wrong}
    for key, sound in zip(wrong, told["sound"], strict=True):
        lost, kept_partition = keys.partition_of(key), keys.partition_of(sound)
        assert lost
        assert kept_partition
        rows, covered = held(open_store(str(store)), lost.series)
        assert rows.equals(read_back(lost.series.kind, before[sound])[0])
        assert spans.clip(covered, lost.span) == []
        assert spans.clip(covered, kept_partition.span) == covered


def test_a_month_that_is_written_meanwhile_is_left_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copy_lake(tmp_path / "lake", "BNBUSDT")
    services = services_of(store)
    piece = next(one for one in list_pieces(services) if str(one.series.interval) == "4h")
    key = keys.partition(piece.partitions[-1])
    merge = services.partitions.merge

    def merge_beside_an_older_worker(*args: object) -> object:
        body = services.store.read(key)
        services.store.put(key, body or b"")
        return merge(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(services.partitions, "merge", merge_beside_an_older_worker)
    done = migrate_piece(services, piece)
    assert "older version" in done.failed[str(piece)]
    assert services.store.read(key)


def test_a_year_that_was_damaged_after_an_interruption_is_written_again(tmp_path: Path) -> None:
    store = copy_lake(tmp_path / "lake", "BNBUSDT")
    services = services_of(store)
    piece = next(one for one in list_pieces(services) if str(one.series.interval) == "4h")
    year = Partition(piece.series, piece.months[0][:4])
    services.store.put(keys.partition(year), b"PAR1 torn PAR1")
    done = migrate_piece(services, piece)
    assert list(done.set_aside) == [keys.partition(year)]
    assert done.failed == {}
    assert_true(store, "BNBUSDT")


def test_a_newer_lake_is_not_migrated(tmp_path: Path) -> None:
    (tmp_path / "klinefleet.json").write_text('{"id": "a", "format": 3}')
    with pytest.raises(RequestError, match="format 3"):
        migrate(tmp_path)


def test_the_identity_tells_the_format_only_when_all_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copy_lake(tmp_path / "lake", "BNBUSDT")
    failed: Callable[..., Migrated] = lambda services, piece: Migrated(failed={str(piece): "no"})  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(migrate_run, "migrate_piece", failed)
        assert migrate(store).failed
    first = services_of(store).identity.read()
    assert first
    assert first.format == 1
    assert migrate(store).failed == {}
    assert services_of(store).identity.read() == Identity(first.id, 2)


def test_the_pieces_of_a_task_survive_the_way_through_a_message(tmp_path: Path) -> None:
    services = services_of(copy_lake(tmp_path / "lake"))
    pieces = list_pieces(services)
    assert pieces
    for piece in pieces:
        sent = json.loads(json.dumps(piece.to_arguments()))
        assert MigrationPiece.from_arguments(*sent) == piece
    done = Migrated(1, 2, 3, 4, {"a": "b"}, {"c": "d"})
    assert Migrated.from_json(done.to_json("piece")) == ("piece", done)
