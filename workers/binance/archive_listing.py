"""The archive's listing: pages of keys, as the bucket's XML has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.errors import BadAnswer

#: Keys of one page: the bucket returns no more.
PAGE_KEYS = 1000
#: Pages of one listing; the daily files of one symbol have a dozen.
MAX_PAGES = 10_000
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
            f"the archive's list has an object {fields}: {error!r}; the list was not used"
        ) from error


def is_truncated(page: ElementTree.Element) -> bool:
    return page.findtext("s3:IsTruncated", "false", NAMESPACE) == "true"
