"""The archive client: lists the bucket, and downloads files that are what their CHECKSUM says."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import quote
from xml.etree import ElementTree

import requests
from urllib3.exceptions import HTTPError

from klinefleet.workers.binance.archive_listing import (
    LISTING,
    MOST_PAGES,
    NAMESPACE,
    PAGE_KEYS,
    ListedKey,
    Published,
    is_truncated,
    parse_listed_key,
)
from klinefleet.workers.binance.archive_names import ArchiveFile, folder
from klinefleet.workers.domain.errors import (
    BadAnswer,
    ChecksumMismatch,
    ChecksumMissing,
    Firewalled,
    FleetError,
    NotPublished,
    Restricted,
    ServerFault,
    Unreachable,
)
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.support import metrics

#: What is read at most: of a page of keys (a thousand of up to 1,024 characters, with their facts),
#: of a CHECKSUM (a line), and of a file (months of 1s have 100 MB).
_MOST_LISTING_BYTES, _MOST_CHECKSUM_BYTES, _MOST_FILE_BYTES = 16 << 20, 1 << 16, 2 << 30
#: `<64 hex digits><two spaces><name>`, usually without a newline.
_CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)\s*")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds of one listing or download."""

    piece_bytes: int = 1 << 18
    """Bodies are read in pieces, so that a slow answer is noticed between pieces."""
    timeouts_per_file: int = 30
    """Timeouts that a whole file may last while bytes keep coming: months of 1s have 100 MB."""
    most_pages: int = MOST_PAGES


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file's bytes, which are those of its CHECKSUM."""

    body: bytes
    etag: str
    modified_ms: int | None
    sha256: str
    rtt_ms: int
    """Until its first byte came."""


class Archive:
    """Asks the archive; every failure is one error of the tree, and nothing is tried twice here."""

    def __init__(
        self,
        base_url: str,
        list_url: str,
        *,
        session: requests.Session,
        timeout_s: float = 20.0,
        limits: ArchiveLimits = DEFAULT_LIMITS,
    ) -> None:
        self._base_url = base_url
        self._list_url = list_url
        self._session = session
        self._timeout_s = timeout_s
        self._limits = limits

    def keys(
        self, prefix: str, *, marker: str = "", most: int | None = None
    ) -> Iterator[ListedKey]:
        """Yield the objects below a prefix after `marker`, in the order of their keys, at most
        `most`.
        """
        left = most
        for _ in range(self._limits.most_pages):
            asked = {
                "prefix": prefix,
                "marker": marker,
                "max-keys": str(min(PAGE_KEYS, left or PAGE_KEYS)),
            }
            page = self._page(asked)
            found = [parse_listed_key(entry) for entry in page.iterfind("s3:Contents", NAMESPACE)]
            yield from found[:left]
            left = None if left is None else left - len(found)
            if not found or (left is not None and left <= 0) or not is_truncated(page):
                return
            marker = found[-1].key
        raise BadAnswer(
            f"{prefix}: more than {self._limits.most_pages} pages of keys; the listing was given up"
        )

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders below a prefix; a nameless one (`BTCUSDT//` exists) is
        left out.
        """
        names, marker = list[str](), ""
        for _ in range(self._limits.most_pages):
            page = self._page({"prefix": prefix, "delimiter": "/", "marker": marker})
            found = [
                entry.text or ""
                for entry in page.iterfind("s3:CommonPrefixes/s3:Prefix", NAMESPACE)
            ]
            names += [name for path in found if (name := path[len(prefix) :].rstrip("/"))]
            marker = page.findtext("s3:NextMarker", "", NAMESPACE) or (found[-1] if found else "")
            if not is_truncated(page) or not marker:
                return names
        raise BadAnswer(
            f"{prefix}: more than {self._limits.most_pages} pages of folders; the listing was given up"
        )

    def published(self, series: Series, source: Source, month: str = "") -> dict[str, Published]:
        """Return the files of a series by their period; with `month` (YYYY-MM) only the daily files
        of it.
        """
        prefix = folder(series, source)
        if month:
            prefix += ArchiveFile(series, source, month).stem + "-"
        found = ((ArchiveFile.parse(listed.key), listed) for listed in self.keys(prefix))
        return {
            file.period: Published(file, listed.etag, listed.modified_ms, listed.size)
            for file, listed in found
            if file and file.series == series
        }

    def download(self, file: ArchiveFile) -> Downloaded:
        """Return a file whose bytes have the SHA-256 of its CHECKSUM.

        The CHECKSUM is asked for first: of a file that is being replaced the newer checksum then
        meets the newer bytes or fails, and a file without one is never downloaded in vain.
        """
        with metrics.outcome(metrics.ARCHIVE_FILES, source=file.source):
            expected = self._checksum(file)
            body, headers, rtt_ms = self._get(f"{self._base_url}/{quote(file.key)}", file.key)
            got = hashlib.sha256(body).hexdigest()
            if got != expected:
                raise ChecksumMismatch(
                    f"{file.key}: sha256 is {got[:12]}…, its CHECKSUM says {expected[:12]}…; "
                    "nothing was kept"
                )
        return Downloaded(
            body, headers.get("ETag", "").strip('"'), _modified_ms(headers), got, rtt_ms
        )

    def _checksum(self, file: ArchiveFile) -> str:
        key = f"{file.key}.CHECKSUM"
        try:
            body, _, _ = self._get(f"{self._base_url}/{quote(key)}", key, _MOST_CHECKSUM_BYTES)
        except NotPublished:
            if self._exists(file.key):
                raise ChecksumMissing(
                    f"{key} does not exist, the file does; it was not asked for"
                ) from None
            raise NotPublished(f"{file.key}: the archive has no such file") from None
        found = _CHECKSUM.fullmatch(body.decode("utf-8", "replace"))
        if not found or found[2] != file.key.rpartition("/")[2]:
            raise ChecksumMissing(
                f"{key} holds {body[:120]!r}, not a sha256 of this file; it was not asked for"
            )
        return found[1]

    def _exists(self, key: str) -> bool:
        try:
            url = f"{self._base_url}/{quote(key)}"
            with self._session.head(
                url, timeout=self._timeout_s, allow_redirects=False
            ) as response:
                status = response.status_code
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unreachable(
                f"{key}: {type(error).__name__}: {error}; nothing was kept"
            ) from error
        fault = None if status == HTTPStatus.OK else _error(key, status, {}, b"")
        if fault is not None and not isinstance(fault, NotPublished):
            raise fault
        return fault is None

    def _page(self, asked: Mapping[str, str]) -> ElementTree.Element:
        what = f"the archive's list of {asked['prefix']!r}"
        query = "&".join(
            f"{name}={quote(value, safe='/')}" for name, value in asked.items() if value
        )
        body, _, _ = self._get(f"{self._list_url}?{query}", what, _MOST_LISTING_BYTES)
        try:
            # What is searched must be what is parsed: the parser would take text with zero bytes
            # for UTF-16.
            told = body.decode("utf-8-sig")
            if "\0" in told or "<!DOCTYPE" in told.upper():
                raise BadAnswer(f"{what}: no listing but {body[:120]!r}")
            page = ElementTree.fromstring(told)
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise BadAnswer(f"{what}: {error} in {body[:120]!r}") from error
        if page.tag != LISTING:
            raise BadAnswer(f"{what}: a {page.tag} came instead of a listing")
        return page

    def _get(
        self, url: str, what: str, most_bytes: int = _MOST_FILE_BYTES
    ) -> tuple[bytes, Mapping[str, str], int]:
        sent = time.monotonic()
        longest_s = self._timeout_s * self._limits.timeouts_per_file
        ends, pieces, size = sent + longest_s, list[bytes](), 0
        try:
            with self._session.get(
                url, timeout=self._timeout_s, stream=True, allow_redirects=False
            ) as response:
                rtt_ms = int((time.monotonic() - sent) * 1000)
                while piece := response.raw.read1(self._limits.piece_bytes, decode_content=True):
                    pieces.append(piece)
                    size += len(piece)
                    if size > most_bytes:
                        metrics.ARCHIVE_REQUESTS.add(status=str(response.status_code))
                        raise BadAnswer(
                            f"{what}: more than {most_bytes:,} bytes came; nothing was kept"
                        )
                    if time.monotonic() > ends:
                        raise TimeoutError(f"not complete after {longest_s:.0f} s")
                status, headers = response.status_code, response.headers
        except (requests.RequestException, HTTPError, OSError) as error:
            metrics.ARCHIVE_REQUESTS.add(status="unreachable")
            raise Unreachable(
                f"{what}: {type(error).__name__}: {error}; nothing was kept"
            ) from error
        metrics.ARCHIVE_REQUESTS.add(status=str(status))
        body = b"".join(pieces)
        if fault := _error(what, status, headers, body):
            raise fault
        return body, headers, rtt_ms


def _error(what: str, status: int, headers: Mapping[str, str], body: bytes) -> FleetError | None:
    """Return the error that an answer stands for, None for a good one."""
    if status == HTTPStatus.OK:
        announced = headers.get("Content-Length", "")
        if (
            announced.isdecimal()
            and "Content-Encoding" not in headers
            and int(announced) != len(body)
        ):
            return BadAnswer(
                f"{what}: {len(body):,} bytes of {int(announced):,} came; nothing was kept"
            )
        return None
    shown = f"{what}: {status} {body[:120].decode('utf-8', 'replace')!r}"
    if status == HTTPStatus.NOT_FOUND:
        return NotPublished(shown)
    if status == HTTPStatus.FORBIDDEN:
        return Firewalled(shown)
    if status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
        return Restricted(f"{what}: 451, the archive does not serve this address")
    return ServerFault(shown)


def _modified_ms(headers: Mapping[str, str]) -> int | None:
    try:
        return int(parsedate_to_datetime(headers["Last-Modified"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return None
