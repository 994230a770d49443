"""The archive client: lists the bucket, downloads files and checks them by their CHECKSUM."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import pairwise
from urllib.parse import quote
from xml.etree import ElementTree

import requests

from klinefleet.workers.binance.archive_listing import (
    LISTING,
    MAX_PAGES,
    NAMESPACE,
    PAGE_KEYS,
    ListedKey,
    Published,
    is_truncated,
    parse_listed_key,
)
from klinefleet.workers.binance.archive_names import ArchiveFile, folder
from klinefleet.workers.binance.calls.answers import asked_ms, body_fault, date_ms, unreachable
from klinefleet.workers.binance.calls.clock import CallClock
from klinefleet.workers.binance.calls.second_tries import SecondTries
from klinefleet.workers.binance.calls.session import CALL_FAULTS, Answer, call
from klinefleet.workers.binance.checksums import find_sha256
from klinefleet.workers.domain.errors import (
    BadAnswer,
    ChecksumMismatch,
    ChecksumMissing,
    Firewalled,
    FleetError,
    NotPublished,
    Restricted,
    ServerFault,
)
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.limits.concurrency import AdaptiveLimit
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)

#: A page of keys: a thousand of up to 1,024 characters each, with their facts.
_MAX_LISTING_BYTES = 16 << 20
#: A CHECKSUM has a line, or one for each file of a folder.
_MAX_CHECKSUM_BYTES = 1 << 16
#: A file that comes more slowly is given up.
_LEAST_BYTES_PER_S = 4096


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds of one listing or download."""

    piece_bytes: int = 1 << 18
    """Bytes read at once: a slow answer is noticed between pieces."""
    timeouts_per_file: int = 30
    """How many timeouts a large file may take while its bytes keep coming."""
    max_pages: int = MAX_PAGES
    """Pages of one listing."""


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file's bytes, checked by its CHECKSUM."""

    body: bytes
    etag: str
    modified_ms: int | None
    sha256: str
    asked_ms: int
    """When it was asked for, by the archive's clock, ms UTC."""
    rtt_ms: int
    """Time until the first byte came."""


class Archive:
    """Lists and downloads. Each failure is one FleetError; nothing is tried twice here."""

    def __init__(
        self,
        base_url: str,
        list_url: str,
        *,
        session: requests.Session,
        timeout_s: float = 20.0,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        downloads: AdaptiveLimit | None = None,
    ) -> None:
        self._base_url = base_url
        self._list_url = list_url
        self._session = session
        self._timeout_s = timeout_s
        self._limits = limits
        self._downloads = downloads or AdaptiveLimit(AdaptiveLimit.FIRST_WIDTH)
        self._second_tries = SecondTries()

    def keys(
        self, prefix: str, *, marker: str = "", limit: int | None = None
    ) -> Iterator[ListedKey]:
        """Yield at most `limit` objects below a prefix, after `marker`, sorted by key."""
        left = limit
        for _ in range(self._limits.max_pages):
            page = self._page(
                {
                    "prefix": prefix,
                    "marker": marker,
                    "max-keys": str(min(PAGE_KEYS, left or PAGE_KEYS)),
                }
            )
            found = [parse_listed_key(entry) for entry in page.iterfind("s3:Contents", NAMESPACE)]
            _require_order(prefix, marker, [listed.key for listed in found])
            yield from found[:left]
            left = None if left is None else left - len(found)
            if not found or (left is not None and left <= 0) or not is_truncated(page):
                return
            marker = found[-1].key
        raise self._too_long(prefix)

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders below a prefix, without nameless ones (`BTCUSDT//`)."""
        names, marker = list[str](), ""
        for _ in range(self._limits.max_pages):
            page = self._page({"prefix": prefix, "delimiter": "/", "marker": marker})
            found = [
                entry.text or ""
                for entry in page.iterfind("s3:CommonPrefixes/s3:Prefix", NAMESPACE)
            ]
            _require_order(prefix, marker, found)
            names += [name for path in found if (name := path[len(prefix) :].rstrip("/"))]
            last = found[-1] if found else ""
            following = page.findtext("s3:NextMarker", "", NAMESPACE) or last
            if not is_truncated(page) or not following:
                return names
            _require_order(prefix, marker, [following])
            marker = following
        raise self._too_long(prefix)

    def _too_long(self, prefix: str) -> BadAnswer:
        return BadAnswer(
            f"the archive's list has more than {self._limits.max_pages} pages ({prefix}); it was "
            "given up"
        )

    def published(self, series: Series, source: Source, month: str = "") -> dict[str, Published]:
        """Return the files of a series by period; with `month` (YYYY-MM) only its daily files."""
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
        """Return a file whose bytes have the SHA-256 of its CHECKSUM; else ChecksumMismatch.

        The CHECKSUM is downloaded first. If the file is being replaced, a new checksum then meets
        new bytes or fails; a file without a CHECKSUM is not downloaded at all.
        """
        with metrics.count_outcome(metrics.ARCHIVE_FILES, source=str(file.source)):
            expected = self._checksum(file)
            url = f"{self._base_url}/{quote(file.key)}"
            answer = self._get(url, file.key, file.max_csv_bytes)
            sha256 = hashlib.sha256(answer.body).hexdigest()
            if sha256 != expected:
                raise ChecksumMismatch(
                    f"the file's bytes are not those of its CHECKSUM ({file.key}: sha256 is "
                    f"{sha256[:12]}…, not {expected[:12]}…); nothing was kept"
                )
        headers = answer.headers
        return Downloaded(
            answer.body,
            headers.get("ETag", "").strip('"'),
            _modified_ms(headers),
            sha256,
            asked_ms(date_ms(headers)),
            answer.first_byte_ms,
        )

    def _checksum(self, file: ArchiveFile) -> str:
        key = f"{file.key}.CHECKSUM"
        try:
            body = self._get(f"{self._base_url}/{quote(key)}", key, _MAX_CHECKSUM_BYTES).body
        except NotPublished:
            if self._exists(file.key):
                raise ChecksumMissing(
                    f"the file has no CHECKSUM ({file.key}); it was not downloaded"
                ) from None
            raise NotPublished(f"the archive has no such file ({file.key})") from None
        found = find_sha256(body, f"{file.stem}.zip")
        if found is None:
            raise ChecksumMissing(
                f"the file's CHECKSUM is no sha256 of it ({key}: {body[:120]!r}); it was not "
                "downloaded"
            )
        return found

    def _exists(self, key: str) -> bool:
        try:
            self._get(f"{self._base_url}/{quote(key)}", key, 0, method="HEAD")
        except NotPublished:
            return False
        return True

    def _page(self, params: Mapping[str, str]) -> ElementTree.Element:
        """Return one page of the bucket's listing, parsed."""
        subject = f"list of {params['prefix']!r}"
        query = "&".join(
            f"{name}={quote(value, safe='/')}" for name, value in params.items() if value
        )
        body = self._get(f"{self._list_url}?{query}", subject, _MAX_LISTING_BYTES).body
        try:
            # What is searched must be what is parsed: the parser would take text with zero bytes
            # for UTF-16.
            text = body.decode("utf-8-sig")
            if "\0" in text or "<!DOCTYPE" in text.upper():
                raise _no_listing(subject, body)
            page = ElementTree.fromstring(text)
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            logger.debug("%s: %s", subject, error)
            raise _no_listing(subject, body) from error
        if page.tag != LISTING:
            raise _no_listing(subject, body)
        return page

    def _get(self, url: str, subject: str, max_bytes: int, method: str = "GET") -> Answer:
        """Return a good answer. A call is made again beside the first if no byte of it has come."""
        clocks = list[CallClock]()

        def new_clock() -> CallClock:
            longest_s = self._timeout_s * self._limits.timeouts_per_file
            clocks.append(
                CallClock(self._timeout_s, longest_s=longest_s, bytes_per_s=_LEAST_BYTES_PER_S)
            )
            return clocks[-1]

        def ask(clock: CallClock) -> Answer:
            return self._ask(url, subject, max_bytes, method, clock)

        def ask_again(clock: CallClock) -> Answer | None:
            with self._downloads.if_free() as is_free:
                has_begun = any(other.has_begun for other in clocks)
                return ask(clock) if is_free and not has_begun else None

        return self._second_tries.first_answer(ask, ask_again, new_clock)

    def _ask(self, url: str, subject: str, max_bytes: int, method: str, clock: CallClock) -> Answer:
        """Return a good answer to one call."""
        try:
            answer = call(
                self._session,
                url,
                clock,
                max_bytes=max_bytes,
                method=method,
                piece_bytes=self._limits.piece_bytes,
            )
        except CALL_FAULTS as error:
            status = "overtaken" if clock.is_cut else "unreachable"
            metrics.ARCHIVE_REQUESTS.add(status=status)
            raise unreachable(
                "the archive", url, error, timeout_s=self._timeout_s, detail=subject
            ) from error
        metrics.ARCHIVE_REQUESTS.add(status=str(answer.status))
        if fault := _error(subject, answer, has_body=method == "GET"):
            raise fault
        return answer


def _error(subject: str, answer: Answer, *, has_body: bool) -> FleetError | None:
    """Return the error that a response stands for; None for a good one."""
    if answer.status == HTTPStatus.OK:
        return body_fault("the archive", answer, subject) if has_body else None
    shown = f"({subject}: {answer.body[:120].decode('utf-8', 'replace')!r})"
    if answer.status == HTTPStatus.NOT_FOUND:
        return NotPublished(f"the archive has no such file {shown}")
    if answer.status == HTTPStatus.FORBIDDEN:
        return Firewalled(f"403, the archive refuses it {shown}")
    if answer.status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
        return Restricted(f"451, the archive does not serve this address ({subject})")
    return ServerFault(f"the archive answered {answer.status} {shown}")


def _require_order(prefix: str, marker: str, keys: list[str]) -> None:
    """Raise BadAnswer unless each key is after the one before, and the first after the marker."""
    for before, key in pairwise([marker, *keys]):
        if key <= before:
            raise BadAnswer(
                f"the archive's list goes back instead of on ({prefix}: {key!r} after {before!r}); "
                "it was given up"
            )


def _no_listing(subject: str, body: bytes) -> BadAnswer:
    return BadAnswer(
        f"the archive sent something else than a list ({subject}: {body[:120]!r}); nothing was used"
    )


def _modified_ms(headers: Mapping[str, str]) -> int | None:
    try:
        return int(parsedate_to_datetime(headers["Last-Modified"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return None
