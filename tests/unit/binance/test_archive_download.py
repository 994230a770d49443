"""Files of the archive: only the bytes of their checksum are handed on."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from urllib.parse import quote

import pytest

from klinefleet.workers.binance.archive import Archive, ArchiveLimits
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.domain.errors import (
    ArchiveDamaged,
    ChecksumMismatch,
    ChecksumMissing,
    NotPublished,
    Unreachable,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from tests.unit.helpers.archive_bucket import DAY, MINUTES, ZIP, archive_of, checksum, gets, publish
from tests.unit.helpers.bucket import MODIFIED_MS, Answer, Bucket
from tests.unit.helpers.in_process_fleet import zipped


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("gap", ["  ", " *"])
def test_a_file_comes_with_the_bytes_of_its_checksum(
    bucket: Bucket, archive: Archive, gap: str, end: str
) -> None:
    publish(bucket, DAY)
    told = checksum(ZIP, f"{DAY.stem}.zip").decode().replace("  ", gap) + end
    bucket.objects[f"{DAY.key}.CHECKSUM"] = told.encode()
    got = archive.download(DAY)
    assert (got.body, got.etag, got.modified_ms) == (ZIP, "e1", MODIFIED_MS)
    assert got.sha256 == hashlib.sha256(ZIP).hexdigest()
    assert got.rtt_ms >= 0
    assert bucket.asked == [f"GET /{DAY.key}.CHECKSUM", f"GET /{DAY.key}"]


def test_a_symbol_in_another_script_is_downloaded_like_any_other(
    bucket: Bucket, archive: Archive
) -> None:
    file = ArchiveFile(
        Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT"), Source.MONTHLY, "2025-10"
    )
    publish(bucket, file)
    assert archive.download(file).body == ZIP
    assert gets(bucket)[-1] == quote(file.key)


def test_a_file_of_many_pieces_is_whole(bucket: Bucket, archive: Archive) -> None:
    publish(bucket, DAY)
    with archive_of(bucket, limits=ArchiveLimits(piece_bytes=7)) as in_small_pieces:
        assert in_small_pieces.download(DAY).body == ZIP
    large = bytes(range(256)) * 2048
    publish(bucket, DAY, large)
    assert archive.download(DAY).body == large


def test_a_body_that_was_packed_for_the_road_is_unpacked(bucket: Bucket, archive: Archive) -> None:
    publish(bucket, DAY)
    packed = {"Content-Encoding": "gzip"}
    bucket.answers[DAY.key] = Answer(body=gzip.compress(ZIP), headers=packed)
    got = archive.download(DAY)
    assert (got.body, got.etag, got.modified_ms) == (ZIP, "", None)
    bucket.answers[DAY.key] = Answer(body=gzip.compress(ZIP), headers=packed, cut=9)
    with pytest.raises(Unreachable):
        archive.download(DAY)
    bucket.answers[DAY.key] = Answer(body=b"\x1f\x8b nothing of the kind", headers=packed)
    with pytest.raises(Unreachable):
        archive.download(DAY)


@pytest.mark.parametrize("date", ["", "yesterday", "2024-01-05"])
def test_a_date_that_cannot_be_read_costs_no_file(
    bucket: Bucket, archive: Archive, date: str
) -> None:
    publish(bucket, DAY)
    bucket.answers[DAY.key] = Answer(body=ZIP, headers={"Last-Modified": date})
    assert archive.download(DAY).modified_ms is None


def test_other_bytes_than_the_checksums_are_never_handed_on(
    bucket: Bucket, archive: Archive
) -> None:
    publish(bucket, DAY)
    for other in (ZIP[:-1], ZIP + b"\0", bytes([ZIP[0] ^ 1]) + ZIP[1:], b""):
        bucket.objects[DAY.key] = other
        with pytest.raises(ChecksumMismatch, match="nothing was kept"):
            archive.download(DAY)


def test_a_file_without_a_checksum_is_not_downloaded(bucket: Bucket, archive: Archive) -> None:
    bucket.objects[DAY.key] = ZIP
    with pytest.raises(ChecksumMissing, match="the file has no CHECKSUM"):
        archive.download(DAY)
    assert bucket.asked == [f"GET /{DAY.key}.CHECKSUM", f"HEAD /{DAY.key}"]


def test_a_file_that_is_not_there_is_not_published_with_or_without_its_checksum(
    bucket: Bucket, archive: Archive
) -> None:
    with pytest.raises(NotPublished, match="the archive has no such file"):
        archive.download(DAY)
    bucket.objects[f"{DAY.key}.CHECKSUM"] = checksum(ZIP, f"{DAY.stem}.zip")
    with pytest.raises(NotPublished):
        archive.download(DAY)


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"<html>soon</html>",
        checksum(ZIP, "BTCUSDT-1m-2024-01-06.zip"),
        checksum(ZIP, f"{DAY.stem}.zip.zip"),
        checksum(ZIP, f"{DAY.stem}.zip")[1:],
        b"0" + checksum(ZIP, f"{DAY.stem}.zip"),
        checksum(ZIP, f"{DAY.stem}.zip")[:64] + b"\n" + checksum(ZIP, "other.zip"),
        checksum(ZIP, f"{DAY.stem}.zip")[:64] * 2,
        checksum(ZIP, f"{DAY.stem}.zip") + b"\n" + checksum(b"other", f"{DAY.stem}.zip"),
        b"\xff\xfe" * 40,
    ],
)
def test_a_checksum_of_something_else_is_none(
    bucket: Bucket, archive: Archive, told: bytes
) -> None:
    publish(bucket, DAY)
    bucket.objects[f"{DAY.key}.CHECKSUM"] = told
    with pytest.raises(ChecksumMissing, match="no sha256 of it"):
        archive.download(DAY)
    assert gets(bucket) == [f"{DAY.key}.CHECKSUM"]


@pytest.mark.parametrize("flag_bits", [0, 0x800])
@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "gb18030"])
def test_a_member_is_known_by_its_name_in_any_encoding(encoding: str, flag_bits: int) -> None:
    """A symbol in another script is written without the flag that says UTF-8, or in a local set."""
    file = ArchiveFile(
        Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT"), Source.MONTHLY, "2025-10"
    )
    if flag_bits and encoding != "utf-8":
        pytest.skip("the flag says UTF-8")
    body = zip_of(f"{file.stem}.csv".encode(encoding), flag_bits)
    assert gzip.decompress(member(body, file.stem)) == b"1,2,3"
    for other in ("币安人死USDT-1m-2025-10.csv", f"{file.stem}.csv.csv", f"x/{file.stem}.csv"):
        with pytest.raises(ArchiveDamaged, match="other files than its CSV"):
            member(zip_of(other.encode(encoding), flag_bits), file.stem)


def zip_of(name: bytes, flag_bits: int) -> bytes:
    """Return a zip whose one member has this name, byte for byte."""

    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return name, flag_bits

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(Info("name"), b"1,2,3", zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def test_bytes_that_are_as_promised_and_no_zip_of_this_name_are_damaged(
    bucket: Bucket, archive: Archive
) -> None:
    neighbour = ArchiveFile(MINUTES, Source.DAILY, "2024-01-06")
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as packed:
        packed.writestr(f"{DAY.stem}.csv", b"1")
        packed.writestr(f"{neighbour.stem}.csv", b"2")
    for body in (ZIP[: len(ZIP) // 2], zipped(neighbour, b"1"), two.getvalue(), b"soon"):
        publish(bucket, DAY, body)
        with pytest.raises(ArchiveDamaged):
            member(archive.download(DAY).body, DAY.stem)


@pytest.mark.parametrize("which", ["file", "checksum"])
def test_a_download_of_which_no_byte_comes_is_asked_for_again(bucket: Bucket, which: str) -> None:
    publish(bucket, DAY)
    key = DAY.key if which == "file" else f"{DAY.key}.CHECKSUM"
    bucket.answers_once[key] = Answer(body=None)
    with archive_of(bucket, timeout_s=300) as archive:
        assert archive.download(DAY).body == ZIP
    assert gets(bucket).count(key) == 2
