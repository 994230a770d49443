"""Every error of the fleet. Its branch says whether another try makes sense.

FleetError
├── Transient            the same call may succeed later
│   ├── Unreachable          no response: refused, reset, timed out
│   ├── ServerFault          HTTP 5xx or 408
│   ├── BadAnswer            the response has another shape: truncated, HTML, other rows
│   ├── Firewalled           HTTP 403, the exchange's firewall page
│   ├── StoreFault           the object store or folder failed
│   ├── ListingLost          a market's symbols were lost from Redis
│   ├── Unreadable           written by a later version, which can read it
│   ├── Unforeseen           its handling raised what nobody foresaw
│   ├── OtherStore           the fleet serves another store than this worker's
│   └── MustWait             we have to wait; this is no failed attempt
│       ├── OverWeight           our own budget has no room in the time allowed
│       ├── TooManyRequests      HTTP 429
│       └── Banned               HTTP 418
└── Terminal             another try gives the same
    ├── Refused              HTTP 400 (or another 4xx) with the exchange's code
    ├── Restricted           HTTP 451, this address may not be served
    ├── RestAway             REST does not answer a run, which goes on with the archive alone
    ├── ArchiveFileUnusable  an archive file cannot be used; another source replaces it
    │   ├── NotPublished         there is no such file: it is late, or was never made
    │   ├── ChecksumMissing      it has no CHECKSUM
    │   ├── ChecksumMismatch     its bytes do not match its CHECKSUM
    │   ├── ArchiveDamaged       no zip, a wrong member, or rows that do not decode
    │   └── ArchiveConflict      two different rows have one open time
    ├── RawDamaged           a raw object's bytes do not match its name
    ├── ReadBackMismatch     the bytes read back are not those written
    │   └── PartitionDamaged     a partition does not decode, or fails its proof
    ├── LeaseLost            another worker has taken over this work
    ├── TaskFailed           a task failed for good; its run has recorded why
    ├── RangeNotHeld         the lake does not hold all of the range
    ├── UnsafeStore          the store ignores the condition of a conditional write
    ├── LakeFormat           the lake is of another format than this version writes
    ├── SettingsError        a setting is out of its range
    └── RequestError         the user's request makes no sense
        └── UnknownSymbol        in neither the catalog nor the lake

VersionConflict, NotWritten and RunLost are none of these: their callers handle them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klinefleet.workers.domain.spans import Span


#: The exchange's code for a symbol or pair that it does not have.
UNKNOWN_SYMBOL_CODE = -1121


class FleetError(Exception):
    """Anything this project raises on purpose."""

    @property
    def reason(self) -> str:
        """The error in one line: its name, then its message."""
        return f"{type(self).__name__}: {self}"


class Transient(FleetError):
    """The same call may succeed later."""


class Terminal(FleetError):
    """Another try gives the same."""


class Unreachable(Transient):
    """No response came: the connection was refused, reset or timed out."""


class ServerFault(Transient):
    """The exchange answered with 5xx, or with 408."""


class BadAnswer(Transient):
    """The response has another shape than it should; nothing of it was kept."""


class Firewalled(Transient):
    """HTTP 403: the exchange's firewall page instead of a response."""


class StoreFault(Transient):
    """The object store or the folder failed to read, write, list or delete."""


class ListingLost(Transient):
    """A market's symbols were lost from Redis. It says nothing about any symbol."""


class Unreadable(Transient):
    """Written by a later version of this program; a worker of that version can read it."""


class Unforeseen(Transient):
    """The handling of a piece of work raised what nobody foresaw; another try may not."""


class OtherStore(Transient):
    """The fleet, or a run, is of another store than this worker's; a worker of that can do it."""


class MustWait(Transient):
    """We have to wait. Waiting is no failed attempt."""


class OverWeight(MustWait):
    """Our own budget has no room within the time the caller can wait."""


class TooManyRequests(MustWait):
    """HTTP 429. `after_ms` is its Retry-After, None without one."""

    def __init__(self, message: str, *, after_ms: int | None = None) -> None:
        super().__init__(message)
        self.after_ms = after_ms


class Banned(MustWait):
    """HTTP 418. `until_ms` (exchange time, UTC) or `after_ms` is its end, if the exchange said."""

    def __init__(
        self, message: str, *, until_ms: int | None = None, after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.until_ms = until_ms
        self.after_ms = after_ms


class Refused(Terminal):
    """HTTP 400 or another 4xx. `code` is the exchange's own, like -1121; 0 without one."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_unknown_symbol(self) -> bool:
        """Whether the exchange has no such symbol or pair."""
        return self.code == UNKNOWN_SYMBOL_CODE


class Restricted(Terminal):
    """HTTP 451: the exchange does not serve this address."""


class RestAway(Terminal):
    """REST does not answer a run, which goes on with the archive alone. The text is the cause."""

    @property
    def reason(self) -> str:
        """The cause, which has its own name."""
        return str(self)


class ArchiveFileUnusable(Terminal):
    """An archive file cannot be used. Nothing of it was kept; another source replaces it."""


class NotPublished(ArchiveFileUnusable):
    """The archive has no such file: it is late, or was never made."""


class ChecksumMissing(ArchiveFileUnusable):
    """The file has no CHECKSUM."""


class ChecksumMismatch(ArchiveFileUnusable):
    """The file's bytes do not match its CHECKSUM."""


class ArchiveDamaged(ArchiveFileUnusable):
    """The file is no zip, has a wrong member, or rows that do not decode."""


class ArchiveConflict(ArchiveFileUnusable):
    """The file has two different rows of one open time."""


class RawDamaged(Terminal):
    """The bytes of the raw object `key` do not match its name."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class ReadBackMismatch(Terminal):
    """The bytes read back are not those written; nothing was deleted."""


class PartitionDamaged(ReadBackMismatch):
    """A partition does not decode, or fails its proof; it was left as it is."""


class LeaseLost(Terminal):
    """Another worker has taken over: this process stood still for longer than its lease."""


class TaskFailed(Terminal):
    """A task failed for good; its run has recorded why.

    Raised last, so that Celery's events and Flower show the task as failed.
    """


class RangeNotHeld(Terminal):
    """The lake does not hold all of the range; `missing` has the missing spans by symbol."""

    def __init__(self, message: str, *, missing: Mapping[str, list[Span]]) -> None:
        super().__init__(message)
        self.missing = missing


class SettingsError(Terminal):
    """A setting is out of its range; what it forbids was not started or sent."""


class LakeFormat(Terminal):
    """The lake is of another format than this version writes; nothing was written."""


class UnsafeStore(Terminal):
    """The store ignores the condition of a conditional write; nothing was kept in it."""


class RequestError(Terminal):
    """The user's request makes no sense; nothing was queued."""


class UnknownSymbol(RequestError):
    """The symbol is in neither the market's catalog nor the lake."""


class VersionConflict(FleetError):
    """Another version was published since this one was read; nothing was written."""


class NotWritten(FleetError):
    """A file could not be written; what had its name before is unchanged."""


class RunLost(FleetError):
    """The run is no longer in Redis."""
