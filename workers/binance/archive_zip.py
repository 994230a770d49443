"""Takes the one CSV out of an archive file's zip, without inflating it."""

from __future__ import annotations

import gzip
import io
import logging
import lzma
import struct
import zipfile
import zlib

from klinefleet.workers.binance.checksums import is_name
from klinefleet.workers.domain.errors import ArchiveDamaged

logger = logging.getLogger(__name__)

#: The lengths of the name and of the extra field in a zip's local header (APPNOTE 4.3.7).
_LENGTHS, _LENGTHS_AT = struct.Struct("<HH"), 26
#: The flag of a member whose name is in UTF-8 (APPNOTE 4.4.4).
_IS_UTF8 = 0x800
#: A gzip stream's first ten bytes, without a name or a date (RFC 1952).
_GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
#: Its last eight bytes: CRC-32 and size.
_GZIP_END = struct.Struct("<II")

#: The largest CSV that is taken, unless its file says less: a month of 1s candles has 400 MB.
MAX_CSV_BYTES = 2 << 30


def member(body: bytes, stem: str, *, max_bytes: int = MAX_CSV_BYTES) -> bytes:
    """Return the one CSV of a zip as a gzip stream, which Polars inflates as it reads.

    It has the zip's deflated bytes, and ends in the zip's own CRC-32 and size, so damaged bytes
    fail when they are inflated. ArchiveDamaged where `body` is no zip, or holds anything but
    `stem`.csv, in whatever encoding that is written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            found = archive.infolist()
            names = [info.filename for info in found]
            if len(found) != 1 or not is_name(_raw_name(found[0]), f"{stem}.csv"):
                raise ArchiveDamaged(
                    f"the zip holds other files than its CSV ({stem}.zip: {names[:3]}); nothing "
                    "was merged"
                )
            if found[0].file_size > max_bytes:
                raise ArchiveDamaged(
                    f"the zip unpacks to too many bytes ({stem}.zip: {found[0].file_size:,}); "
                    "nothing was merged"
                )
            # Opening compares the file's header with the directory's, and refuses encryption.
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
        logger.debug("%s.zip does not unpack: %r", stem, error)
        raise ArchiveDamaged(f"the zip does not unpack ({stem}.zip); nothing was merged") from error


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """Return a member's name as the zip has it; without a flag its encoding is not stated."""
    encoding = "utf-8" if info.flag_bits & _IS_UTF8 else "cp437"
    return info.orig_filename.encode(encoding)


def _as_gzip(body: bytes, info: zipfile.ZipInfo) -> bytes:
    """Return a member's deflated bytes as a gzip stream."""
    if info.compress_type == zipfile.ZIP_STORED:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return gzip.compress(archive.read(info), compresslevel=0)
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise ArchiveDamaged(
            f"the zip is packed in a way that the archive never used ({info.filename}: number "
            f"{info.compress_type}); nothing was merged"
        )
    name_bytes, extra_bytes = _LENGTHS.unpack_from(body, info.header_offset + _LENGTHS_AT)
    start = info.header_offset + _LENGTHS_AT + _LENGTHS.size + name_bytes + extra_bytes
    packed = body[start : start + info.compress_size]
    if len(packed) != info.compress_size:
        raise ArchiveDamaged(
            f"the zip ends too early ({info.filename}: {len(packed):,} packed bytes of "
            f"{info.compress_size:,}); nothing was merged"
        )
    return _GZIP_HEAD + packed + _GZIP_END.pack(info.CRC, info.file_size)
