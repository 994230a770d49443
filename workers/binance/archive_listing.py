"""The archive's listing: pages of keys, as the bucket's XML has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from klinefleet.workers.binance.archive_names import ArchiveFile, folder
from klinefleet.workers.domain.errors import BadAnswer
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span

#: Keys of one page: the bucket returns no more.
PAGE_KEYS = 1000
#: Keys among which the first file is: CHECKSUM files are listed too, and objects of other names.
FIRST_KEYS = 4
#: Pages of one listing; the daily files of one symbol have a dozen.
MAX_PAGES = 1000
NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
LISTING = f"{{{NAMESPACE['s3']}}}ListBucketResult"


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One object of the bucket."""

    key: str
    etag: str
    modified_ms: int
    size: int


@dataclass(frozen=True, slots=True)
class Published:
    """An archive file, as it is listed."""

    file: ArchiveFile
    etag: str
    modified_ms: int
    size: int


def parse_listed_key(entry: ElementTree.Element) -> ListedKey:
    """Return one object of a page; BadAnswer where it has no key or no valid time."""
    fields = {child.tag.rpartition("}")[2]: child.text or "" for child in entry}
    modified = fields.get("LastModified")
    try:
        return ListedKey(
            fields["Key"],
            fields.get("ETag", "").strip('"'),
            int(datetime.fromisoformat(modified).timestamp() * 1000) if modified else 0,
            int(fields.get("Size") or 0),
        )
    except (KeyError, ValueError) as error:
        raise BadAnswer(
            f"the archive's list has an object without a key, or with a size or time that is none "
            f"({fields}); the list was not used"
        ) from error


def is_truncated(page: ElementTree.Element) -> bool:
    return page.findtext("s3:IsTruncated", "false", NAMESPACE) == "true"


def first_file(listed: Iterable[ListedKey]) -> ArchiveFile | None:
    """Return the first archive file of some listed keys; None without one."""
    return next((file for one in listed if (file := ArchiveFile.parse(one.key))), None)


def last_file(listed: Sequence[ListedKey]) -> ArchiveFile | None:
    """Return the last archive file of some listed keys; None without one."""
    return next((file for one in reversed(listed) if (file := ArchiveFile.parse(one.key))), None)


def days_from(series: Series, month: str | None) -> tuple[str, str]:
    """Return the prefix and the marker that list a series' days from a month (YYYY-MM) on."""
    prefix = folder(series, Source.DAILY)
    return prefix, f"{prefix}{ArchiveFile(series, Source.DAILY, month).stem}-" if month else ""


def earlier_file(day: Span | None, month: Span | None) -> Span | None:
    """Return the time of the first file, of a series' first daily and its first monthly one.

    It is the day where daily files reach as far back: the archive has one of each day with rows.
    """
    if day is None or month is None:
        return day or month
    return day if day.start_ms < month.end_ms else month
