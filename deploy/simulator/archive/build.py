"""Zips made from lines.

The same lines give the same bytes, and a faulty file is faulty in the same way each time.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from random import Random
from typing import NamedTuple

from deploy.simulator.archive.faults import FileFault

#: A file's date inside its zip; one for all keeps the bytes the same.
ZIP_DATE = (2026, 1, 1, 0, 0, 0)
#: A quarter of the time of the usual level for a tenth more bytes: packing is most of what a file
#: costs here.
ZIP_LEVEL = 1
#: Of a hundred rows so many are lost, repeated, doubled with other values or out of date.
SPOILT_SHARE = 0.02


class Zip(NamedTuple):
    """A file as it is served: what comes, and what its CHECKSUM says."""

    body: bytes
    sha256: str


def build(stem: str, lines: list[str], fault: FileFault | None, seed: str) -> Zip:
    """Return the zip of a CSV, wrong in the way its fault says."""
    member = f"{stem}.csv" if fault is not FileFault.WRONG_MEMBER else f"{stem}-copy.csv"
    return spoil(pack(member, spoil_rows(lines, fault, seed)), fault)


def pack(member: str, lines: list[str]) -> bytes:
    """Return a zip with one CSV."""
    return pack_text(member, "".join(f"{line}\n" for line in lines).encode())


def pack_text(member: str, text: bytes) -> bytes:
    """Return a zip with one member of these bytes."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo(member, ZIP_DATE), text, zipfile.ZIP_DEFLATED, compresslevel=ZIP_LEVEL
        )
    return whole.getvalue()


def spoil(body: bytes, fault: FileFault | None) -> Zip:
    """Return a zip with its checksum, one of them wrong where the fault says so."""
    if fault is FileFault.DAMAGED_ZIP:
        body = body[: len(body) // 2]
    sha256 = hashlib.sha256(body).hexdigest()
    if fault in (FileFault.CORRUPT, FileFault.TRANSIENT_CORRUPT):
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
    return Zip(body, sha256)


def spoil_rows(lines: list[str], fault: FileFault | None, seed: str) -> list[str]:
    """Return a CSV's lines with rows lost, moved, repeated or changed; a header stays."""
    names, rows = _split(lines)
    if not rows:
        return lines
    rng, some = Random(seed), max(1, round(len(rows) * SPOILT_SHARE))
    at = rng.randrange(max(1, len(rows) - some))
    chosen = rows[at : at + some]
    if fault is FileFault.SHORT:
        rows = rows[:at] + rows[at + some :]
    elif fault is FileFault.SHUFFLED:
        rows = rng.sample(rows, len(rows))
    elif fault is FileFault.REPEATED:
        rows = rows[:at] + chosen + rows[at:]
    elif fault is FileFault.CONFLICTING:
        rows = rows[:at] + chosen + [other(row) for row in chosen] + rows[at + some :]
    elif fault is FileFault.FAULTY:
        rows = rows[:at] + [_faulty(row) for row in chosen] + rows[at + some :]
    elif fault is FileFault.FIELD_SHORT:
        rows = [*rows[:at], rows[at].rpartition(",")[0], *rows[at + 1 :]]
    elif fault is FileFault.STALE:
        rows = rows[:at] + [other(row) for row in chosen] + rows[at + some :]
    return names + rows


def _faulty(row: str) -> str:
    fields = row.split(",")
    fields[min(3, len(fields) - 1)] = "-1"
    return ",".join(fields)


def change(lines: list[str], count: int, times: int = 1) -> list[str]:
    """Return a CSV's lines with the values of its last `count` rows changed, as often as said."""
    names, rows = _split(lines)
    kept = max(0, len(rows) - count)
    changed = rows[kept:]
    for _ in range(times):
        changed = [other(row) for row in changed]
    return names + rows[:kept] + changed


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the line of names, if there is one, and the rows."""
    return (lines[:1], lines[1:]) if lines and not lines[0][:1].isdigit() else ([], lines)


def other(row: str) -> str:
    """Return a row of the same time with another value: a higher high, or another funding rate."""
    fields = row.split(",")
    whole, _, decimals = fields[2].partition(".")
    # One more of the last digit keeps every rule about open, high, low and close.
    units = int(whole + decimals) + 1
    digits = f"{abs(units):0{len(decimals) + 1}d}"
    sign = "-" if units < 0 else ""
    at = len(digits) - len(decimals)
    fields[2] = f"{sign}{digits[:at]}.{digits[at:]}" if decimals else f"{sign}{digits}"
    return ",".join(fields)
