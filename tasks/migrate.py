"""klines.migrate: rewrites some months of format 1 as partitions of this version's format."""

from __future__ import annotations

from typing import Any

from klinefleet.tasks.jobs.work import work_piece
from klinefleet.tasks.migration.rewrite import migrate_piece
from klinefleet.tasks.migration.scope import MigrationPiece
from klinefleet.workers.app import app
from klinefleet.workers.services import Services


@app.task(name="klines.migrate", bind=True)  # type: ignore[untyped-decorator]
def migrate(self: Any, job: str, *arguments: Any) -> None:
    """Rewrite one piece and record what came of it; do nothing if no command waits for it."""
    services: Services = self.app.services
    piece = MigrationPiece.from_arguments(*arguments)
    work_piece(
        services, job, str(piece), lambda: migrate_piece(services, piece).to_json(str(piece))
    )
