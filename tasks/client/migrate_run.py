"""Leads a migration: what must hold before it, its pieces, and its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from klinefleet.tasks.client.job import Job, work_by_fleet, work_here
from klinefleet.tasks.client.progress_bar import ProgressDisplay
from klinefleet.tasks.migration.rewrite import Migrated, migrate_piece
from klinefleet.tasks.migration.scope import MigrationPiece, list_pieces
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import LakeFormat, RequestError, UnsafeStore
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.identity import FORMAT
from klinefleet.workers.services import Services


def begin(services: Services, *, is_local: bool) -> bool:
    """Return whether there is anything to migrate, after the store has got an identity.

    RequestError if the lake is of a newer format, or a run is active that may write into it.
    """
    if not is_local and (active := Runs(services.redis).active()):
        raise RequestError(
            f"run {active[0]} is active: wait for its end, or `klines cancel {active[0]}`"
        )
    try:
        return services.identity.begin_migration().format < FORMAT
    except (LakeFormat, UnsafeStore) as error:
        raise RequestError(str(error)) from error


def migrate(services: Services, display: ProgressDisplay, *, is_local: bool) -> Migrated:
    """Rewrite the lake and return what came of it; if nothing failed, it is of this format then.

    Raw objects of earlier versions are deleted, or kept elsewhere if the settings say so: what they
    hold is fetched again.
    """
    pieces = list_pieces(services)
    job = _job(pieces, display)
    done = work_here(services, job) if is_local else work_by_fleet(services, job, display)
    # A worker of an older version may have written one meanwhile.
    for key in _months_left(services):
        done.failed.setdefault(key, "it is still there: migrate again")
    if not done.failed:
        _clear_raw(services)
        services.identity.end_migration()
    return done


def _clear_raw(services: Services) -> None:
    """Empty the raw zone of what this version cannot use."""
    for entry in services.store.list("raw"):
        if keys.is_raw(entry.key):
            continue
        if services.settings.keep_raw:
            services.store.put(keys.kept(entry.key), services.store.read(entry.key) or b"")
        services.store.delete([entry.key])


def _months_left(services: Services) -> Iterator[str]:
    """Yield the keys of partitions that are of format 1 by their names."""
    for entry in services.store.list("lake"):
        partition = keys.partition_of(entry.key)
        if partition and not partition.is_of_this_format:
            yield entry.key


def _job(
    pieces: Sequence[MigrationPiece], display: ProgressDisplay
) -> Job[MigrationPiece, Migrated]:
    total = sum(len(piece.months) for piece in pieces)

    def show(done: Migrated) -> None:
        display.show(done.partitions, total, "migrate: ", lambda: progress_line(done, total))

    return Job(pieces, migrate_piece, Migrated(), Migrated.from_json, show)


def progress_line(done: Migrated, total: int) -> str:
    """Return a migration's progress in one line."""
    return f"{done.partitions:,}/{total:,} partitions, {done.rows:,} rows"
