"""Downloads a file of the archive for a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinefleet.workers.domain.errors import (
    FleetError,
    NotPublished,
)
from klinefleet.workers.services import Services

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive import Downloaded
    from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.tasks.ingest.attempts import Tally


def download_file(services: Services, file: ArchiveFile, tally: Tally) -> Downloaded:
    with services.archive_limit:
        try:
            got = services.archive.download(file)
        except NotPublished:
            raise
        except FleetError as error:
            tally.failed(error, "archive")
            services.archive_limit.failed()
            raise
    services.archive_limit.answered(rtt_ms=got.rtt_ms)
    return got
