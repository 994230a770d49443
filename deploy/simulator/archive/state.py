"""The archive's state: files published, their faults, new editions, and the log of calls."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict, deque
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from deploy.simulator.archive.build import Zip, build, change, pack, spoil
from deploy.simulator.archive.calendar import published_ms
from deploy.simulator.archive.faults import FileFault, FilePlan
from deploy.simulator.archive.names import File, Folder, parse
from deploy.simulator.archive.shelf import Shelf
from deploy.simulator.moments import DAY_MS, MINUTE_MS, Clock

KEPT_CALLS = 200_000
CACHE_BYTES = 256 << 20
KEPT_FOLDERS = 20_000
#: About the size of a zipped row: listings show sizes of files that are not made yet.
ROW_BYTES = 50
#: Rows of the finest interval that a listing's size is guessed by.
GUESSED_STEP_MS = MINUTE_MS
CHECKSUM = ".CHECKSUM"


@dataclass(slots=True)
class FileCall:
    """One call for a file or its CHECKSUM, in order of arrival.

    The path of a listing is its query.
    """

    method: str
    path: str
    at_ms: int
    status: int = 0
    bytes: int = 0
    fault: FileFault | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """A later edition of a file: without its fault, or with some values changed."""

    number: int
    at_ms: int
    changed_rows: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the bucket, as listed.

    The size of a zip is a guess until it has been served.
    """

    path: str
    etag: str
    modified_ms: int
    size: int


class Archive:
    """Everything the archive's route handlers share."""

    def __init__(self, clock: Clock, shelf: Shelf, latency_ms: float = 0.0) -> None:
        self.clock = clock
        self.shelf = shelf
        self.latency_ms = latency_ms
        self.plan = FilePlan()
        self._calls: deque[FileCall] = deque(maxlen=KEPT_CALLS)
        self._revisions: dict[str, Revision] = {}
        self._asked: set[str] = set()
        self._zips: OrderedDict[tuple[str, int, FileFault | None], Zip] = OrderedDict()
        self._zip_bytes = 0
        self._periods: OrderedDict[tuple[Folder, int], dict[str, None]] = OrderedDict()
        self._lock = Lock()

    def note(self, call: FileCall) -> None:
        """Log a call that has arrived."""
        self._calls.append(call)

    def report(self) -> dict[str, Any]:
        """Return the calls in order of arrival and how often each fault was served."""
        faults = Counter(call.fault for call in self._calls if call.fault)
        return {"calls": [asdict(call) for call in self._calls], "faults": dict(faults)}

    def follow(self, plan: FilePlan) -> None:
        """Make files wrong by this plan from now on."""
        with self._lock:
            self.plan = plan
            self._asked.clear()
            self._zips.clear()
            self._zip_bytes = 0

    def forget_calls(self) -> None:
        """Empty the log."""
        self._calls.clear()

    def fault_of(self, file: File) -> FileFault | None:
        """Return a file's fault now.

        A new edition has none, and a late file loses its fault with time.
        """
        fault = None if file.path in self._revisions else self.plan.fault_of(file)
        return None if fault is FileFault.LATE and self._late_ms(file) <= self.clock() else fault

    def is_out(self, file: File) -> bool:
        """Return whether a file can be had by now."""
        is_away = self.fault_of(file) in (FileFault.ABSENT, FileFault.LATE)
        return not is_away and file.period in self._known(file.folder)

    def files(self, folder: Folder) -> list[File]:
        """Return the files of a folder that can be had by now, oldest first."""
        return [file for period in self._known(folder) if self.is_out(file := File(folder, period))]

    def entries(self, file: File) -> list[Entry]:
        """Return what a listing tells of a file: the zip, and its CHECKSUM if it has one."""
        etag, modified_ms = self.etag(file), self.modified_ms(file)
        zipped = Entry(file.path, etag, modified_ms, self._size(file))
        if self.fault_of(file) is FileFault.NO_CHECKSUM:
            return [zipped]
        size = len(self.checksum_line(file, "0" * 64))
        checksum = Entry(file.path + CHECKSUM, self.checksum_etag(file), modified_ms, size)
        return [zipped, checksum]

    def etag(self, file: File) -> str:
        """Return the ETag of a file's present edition, known without making it."""
        revision = self._revisions.get(file.path)
        fault = self.fault_of(file)
        spoilt = f"{fault} {self.plan.seed}" if fault else ""
        return _md5(f"{file.path} {revision.number if revision else 0} {spoilt}")

    def checksum_etag(self, file: File) -> str:
        """Return the ETag of the present edition's CHECKSUM."""
        return _md5(f"{self.etag(file)} checksum")

    def modified_ms(self, file: File) -> int:
        """Return when the present edition was published."""
        revision = self._revisions.get(file.path)
        if revision:
            return revision.at_ms
        return (
            self._late_ms(file)
            if self.plan.fault_of(file) is FileFault.LATE
            else published_ms(file)
        )

    def serve(self, file: File, *, counts: bool) -> Zip:
        """Return a file's present edition; it is made when first needed.

        `counts` is False where only its checksum is wanted.
        """
        fault = self.fault_of(file)
        if fault is FileFault.TRANSIENT_CORRUPT and counts:
            fault = None if file.path in self._asked else fault
            self._asked.add(file.path)
        return self._made(file, fault)

    def checksum_line(self, file: File, sha256: str) -> bytes:
        """Return a CHECKSUM's text, without a newline as the real ones are."""
        return f"{sha256}  {file.stem}.zip".encode()

    def reissue(self, path: str, changed_rows: int) -> None:
        """Publish a file again without its fault, with some values changed.

        ValueError where the archive has no such file.
        """
        file = parse(path)
        if file is None or file.period not in self._known(file.folder):
            raise ValueError(f"the archive has no file {path}")
        before = self._revisions.get(path)
        self._revisions[path] = Revision(
            before.number + 1 if before else 1, self.clock(), changed_rows
        )

    def _late_ms(self, file: File) -> int:
        return published_ms(file) + round(self.plan.late_days * DAY_MS)

    def _known(self, folder: Folder) -> dict[str, None]:
        """Return the periods that are out by the minute, in order and quick to look up."""
        key = (folder, self.clock() // MINUTE_MS)
        with self._lock:
            if key not in self._periods:
                self._periods[key] = dict.fromkeys(self.shelf.periods(folder, self.clock()))
                if len(self._periods) > KEPT_FOLDERS:
                    self._periods.popitem(last=False)
            return self._periods[key]

    def _made(self, file: File, fault: FileFault | None) -> Zip:
        revision = self._revisions.get(file.path)
        key = (file.path, revision.number if revision else 0, fault)
        with self._lock:
            if key in self._zips:
                self._zips.move_to_end(key)
                return self._zips[key]
        made = self._make(file, revision, fault)
        with self._lock:
            self._zip_bytes += len(made.body) - len(
                self._zips[key].body if key in self._zips else b""
            )
            self._zips[key] = made
            while self._zip_bytes > CACHE_BYTES and len(self._zips) > 1:
                self._zip_bytes -= len(self._zips.popitem(last=False)[1].body)
        return made

    def _make(self, file: File, revision: Revision | None, fault: FileFault | None) -> Zip:
        original = self.shelf.original(file)
        if revision is None and fault is None and original is not None:
            return spoil(original, None)
        lines = self.shelf.csv(file)
        if revision and revision.changed_rows:
            return spoil(
                pack(f"{file.stem}.csv", change(lines, revision.changed_rows, revision.number)),
                None,
            )
        return build(file.stem, lines, fault, f"{self.plan.seed} {file.path}")

    def _size(self, file: File) -> int:
        revision = self._revisions.get(file.path)
        made = self._zips.get((file.path, revision.number if revision else 0, self.fault_of(file)))
        return (
            len(made.body)
            if made
            else max(1, (file.end_ms - file.start_ms) // GUESSED_STEP_MS) * ROW_BYTES
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
