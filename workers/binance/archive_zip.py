"""The one CSV in a zip of the archive, unpacked no further than Polars needs."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zipfile
import zlib

from klinefleet.workers.domain.errors import ArchiveDamaged

#: In a zip's local header, where the lengths of the name and of the extra field stand (APPNOTE
#: 4.3.7).
_LENGTHS, _LENGTHS_AT = struct.Struct("<HH"), 26
#: A gzip stream's first ten bytes, without a name or a date, and its last eight: CRC-32 and size
#: (RFC 1952).
_GZIP_HEAD, _GZIP_END = b"\x1f\x8b\x08" + bytes(6) + b"\xff", struct.Struct("<II")

#: The largest CSV that is unpacked; a month of 1s candles has about 400 MB.
MOST_CSV_BYTES = 2 << 30


def member(body: bytes, stem: str, *, most_bytes: int = MOST_CSV_BYTES) -> bytes:
    """Return the one CSV of a zip as a gzip stream: the same deflated bytes, which Polars inflates
    as it reads.

    The stream ends in the zip's own CRC-32 and size, so what is spoilt does not unpack.
    ArchiveDamaged where the zip is none, or holds something else than its name says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            found = archive.infolist()
            names = [info.filename for info in found]
            if names != [f"{stem}.csv"]:
                raise ArchiveDamaged(
                    f"{stem}.zip holds {names[:3]}, not {stem}.csv; nothing was merged"
                )
            if found[0].file_size > most_bytes:
                raise ArchiveDamaged(
                    f"{stem}.zip unpacks to {found[0].file_size:,} bytes; nothing was merged"
                )
            # Holds the file's own header against the directory's, and refuses what is locked or
            # packed otherwise.
            with archive.open(found[0]):
                pass
        return _as_gzip(body, found[0])
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ArchiveDamaged(f"{stem}.zip does not unpack: {error}; nothing was merged") from error


def _as_gzip(body: bytes, info: zipfile.ZipInfo) -> bytes:
    """Return a member's deflated bytes between a gzip stream's head and its end, where the checksum
    stands.
    """
    if info.compress_type == zipfile.ZIP_STORED:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return gzip.compress(archive.read(info), compresslevel=0)
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise ValueError(
            f"it is packed in a way (number {info.compress_type}) that the archive never used"
        )
    name_bytes, extra_bytes = _LENGTHS.unpack_from(body, info.header_offset + _LENGTHS_AT)
    start = info.header_offset + _LENGTHS_AT + _LENGTHS.size + name_bytes + extra_bytes
    packed = body[start : start + info.compress_size]
    if len(packed) != info.compress_size:
        raise ValueError(f"{len(packed):,} packed bytes of {info.compress_size:,}")
    return _GZIP_HEAD + packed + _GZIP_END.pack(info.CRC, info.file_size)
