"""Downloads the archive files of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinefleet.tasks.ingest.attempts import WindowCounts
from klinefleet.workers.domain.errors import FleetError, NotPublished
from klinefleet.workers.services import Services

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive import Downloaded
    from klinefleet.workers.binance.archive_names import ArchiveFile


def download_file(services: Services, file: ArchiveFile, counts: WindowCounts) -> Downloaded:
    """Return one archive file, downloaded within the limit of concurrent downloads.

    NotPublished where there is no such file; other errors are counted as tries that failed.
    """
    with services.archive_limit:
        try:
            downloaded = services.archive.download(file)
        except NotPublished:
            raise
        except FleetError as error:
            counts.add_failed_try(error, "archive")
            services.archive_limit.record_failure()
            raise
    services.archive_limit.record_success(rtt_ms=downloaded.rtt_ms)
    return downloaded
