"""Every error of the fleet. The root of the tree says whether trying again makes sense.

FleetError
├── Transient            the same call may succeed later
│   ├── Unreachable          no answer: refused, reset, timed out
│   ├── ServerFault          HTTP 5xx or 408
│   ├── BadAnswer            an answer that is not what was asked for: truncated, HTML, another shape
│   ├── Firewalled           HTTP 403, the exchange's firewall page
│   ├── StoreFault           the object store or folder failed
│   ├── ListingLost          what the exchange told of its symbols is in Redis no more
│   ├── Unreadable           a later version wrote it; a worker of that version can read it
│   └── MustWait             we were told to wait; costs no attempt
│       ├── OverWeight           our own budget has no room within the time allowed
│       ├── TooManyRequests      HTTP 429
│       └── Banned               HTTP 418
└── Terminal             trying again gives the same
    ├── Refused              HTTP 400 (or another 4xx) with the exchange's code
    ├── Restricted           HTTP 451, this address may not be served
    ├── ArchiveFileUnusable  an archive file cannot be used; another source answers for its time
    │   ├── NotPublished         it is not there: late, or never made
    │   ├── ChecksumMissing      there is no CHECKSUM beside it
    │   ├── ChecksumMismatch     its bytes are not those of its CHECKSUM
    │   ├── ArchiveDamaged       no zip, another member than its name says, or rows that do not decode
    │   └── ArchiveConflict      it holds two different rows of one open time
    ├── RawDamaged           a raw object does not hold what its name says
    ├── ReadBackMismatch     what was read back is not what was written
        │   └── PartitionDamaged     a partition in the lake does not decode
    ├── LeaseLost            somebody else does this work by now
    ├── TaskFailed           a task's work failed for good and stands on its run's books
    ├── RangeNotHeld         the lake does not hold all of the time that was to be read
    ├── SettingsError        a setting is out of its range
    └── RequestError         the user asked for something that makes no sense
        └── UnknownSymbol        nobody knows the symbol: not the catalog, not the lake
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klinefleet.workers.domain.spans import Span


class FleetError(Exception):
    """Anything this project raises on purpose."""

    @property
    def reason(self) -> str:
        """The error as one line: its name in the field's words, then what was found."""
        return f"{type(self).__name__}: {self}"


class Transient(FleetError):
    """The same call may succeed later."""


class Terminal(FleetError):
    """Trying again gives the same."""


class Unreachable(Transient):
    """No answer came: refused, reset or timed out."""


class ServerFault(Transient):
    """The exchange answered with 5xx, or with 408."""


class BadAnswer(Transient):
    """An answer came that is not what was asked for; nothing of it was kept."""


class Firewalled(Transient):
    """HTTP 403: the exchange's firewall page instead of an answer."""


class StoreFault(Transient):
    """The object store or the folder failed to read, write, list or delete."""


class ListingLost(Transient):
    """What the exchange told of a market's symbols is in Redis no more: nothing follows from that
    for any symbol.
    """


class Unreadable(Transient):
    """A later version of this program wrote it: a worker of that version can read it."""


class MustWait(Transient):
    """We were told to wait; waiting costs no attempt."""


class OverWeight(MustWait):
    """Our own budget has no room within the time the caller can wait."""


class TooManyRequests(MustWait):
    """HTTP 429; `after_ms` is the exchange's Retry-After, None where it sent none."""

    def __init__(self, message: str, *, after_ms: int | None = None) -> None:
        super().__init__(message)
        self.after_ms = after_ms


class Banned(MustWait):
    """HTTP 418; `until_ms` (exchange time, UTC) or `after_ms` say when it ends, as far as the
    exchange told.
    """

    def __init__(
        self, message: str, *, until_ms: int | None = None, after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.until_ms = until_ms
        self.after_ms = after_ms


class Refused(Terminal):
    """HTTP 400 or another 4xx; `code` is the exchange's own (-1121 and so on), 0 where it sent
    none.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Restricted(Terminal):
    """HTTP 451: the exchange does not serve this address."""


class ArchiveFileUnusable(Terminal):
    """An archive file cannot be used; nothing of it was kept, another source answers for its time."""


class NotPublished(ArchiveFileUnusable):
    """The archive has no such file: it is late, or was never made."""


class ChecksumMissing(ArchiveFileUnusable):
    """There is no CHECKSUM beside the file."""


class ChecksumMismatch(ArchiveFileUnusable):
    """The file's bytes are not those of its CHECKSUM."""


class ArchiveDamaged(ArchiveFileUnusable):
    """No zip, another member than its name says, or rows that do not decode."""


class ArchiveConflict(ArchiveFileUnusable):
    """The file holds two different rows of one open time."""


class RawDamaged(Terminal):
    """A raw object does not hold what its name says; `key` names it."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class ReadBackMismatch(Terminal):
    """What was read back is not what was written; nothing was deleted."""


class PartitionDamaged(ReadBackMismatch):
    """A partition in the lake is no Parquet file of ours; it was left as it is."""


class LeaseLost(Terminal):
    """Somebody else does this work by now: this process stood still for longer than its lease held."""


class TaskFailed(Terminal):
    """A task's work failed for good. Raised last, when all is noted: Celery's events and so Flower
    then say so too.
    """


class RangeNotHeld(Terminal):
    """The lake does not hold all of the time that was to be read; `missing` has the spans of each
    symbol.
    """

    def __init__(self, message: str, *, missing: Mapping[str, list[Span]]) -> None:
        super().__init__(message)
        self.missing = missing


class SettingsError(Terminal):
    """A setting is out of its range; nothing was started, or the call that it forbids was not sent."""


class RequestError(Terminal):
    """The user asked for something that makes no sense; nothing was queued."""


class UnknownSymbol(RequestError):
    """Nobody knows the symbol: not the market's catalog, and the lake holds nothing of it."""


class VersionConflict(FleetError):
    """Somebody published another version since it was read; nothing was written."""


class NotWritten(FleetError):
    """A file could not be written; under its name stands what stood there before."""


class RunLost(FleetError):
    """Nothing is known of the run any more."""
