"""What goes wrong on the way to the archive: each fault is one error, and nothing half is kept."""

from __future__ import annotations

import gzip
import socket

import pytest

from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.calls.session import pooled_session
from klinefleet.workers.domain.errors import (
    BadAnswer,
    ChecksumMissing,
    Firewalled,
    FleetError,
    NotPublished,
    Restricted,
    ServerFault,
    Unreachable,
)
from klinefleet.workers.domain.series import Source
from tests.unit.helpers.archive_bucket import DAY, MINUTES, ZIP, archive_of, gets, publish
from tests.unit.helpers.bucket import LIST, Answer, Bucket

STATUSES: list[tuple[int, type[FleetError]]] = [
    (404, NotPublished),
    (403, Firewalled),
    (451, Restricted),
    (500, ServerFault),
    (503, ServerFault),
    (408, ServerFault),
    (301, ServerFault),
    (206, ServerFault),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
@pytest.mark.parametrize("which", ["file", "checksum", "listing"])
def test_every_status_is_one_error_and_nothing_is_tried_twice(
    bucket: Bucket, archive: Archive, which: str, status: int, error: type[FleetError]
) -> None:
    publish(bucket, DAY)
    elsewhere = {"Location": f"{bucket.url}/{DAY.key}"} if status == 301 else {}
    answer = Answer(status, b"<Error>told so</Error>", elsewhere)
    if which == "listing":
        bucket.pages = [answer]
        with pytest.raises(error):
            list(archive.keys("p/"))
        assert len(bucket.asked) == 1
        return
    key = DAY.key if which == "file" else f"{DAY.key}.CHECKSUM"
    bucket.answers[key] = answer
    with pytest.raises(ChecksumMissing if (which, status) == ("checksum", 404) else error):
        archive.download(DAY)
    assert gets(bucket).count(key) == 1
    assert gets(bucket).count(DAY.key) == (1 if which == "file" else 0)


@pytest.mark.parametrize("cut", [1, len(ZIP) // 2, len(ZIP)])
def test_a_download_that_breaks_off_is_no_file_and_no_mismatch(
    bucket: Bucket, archive: Archive, cut: int
) -> None:
    publish(bucket, DAY)
    bucket.answers[DAY.key] = Answer(body=ZIP, cut=cut)
    with pytest.raises((Unreachable, BadAnswer), match="nothing was kept"):
        archive.download(DAY)


def test_a_download_in_chunks_that_breaks_off_is_no_file(bucket: Bucket, archive: Archive) -> None:
    publish(bucket, DAY)
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (ZIP[:50], ZIP[50:]))
    bucket.answers[DAY.key] = Answer(body=pieces + b"0\r\n\r\n", headers=chunked)
    assert archive.download(DAY).body == ZIP
    for cut in (5, 6, 30, len(pieces) - 30, len(pieces)):
        bucket.answers[DAY.key] = Answer(body=pieces + b"0\r\n\r\n", headers=chunked, cut=cut)
        with pytest.raises((Unreachable, BadAnswer), match="nothing was kept"):
            archive.download(DAY)


@pytest.mark.parametrize("which", ["file", "checksum", "listing"])
def test_no_answer_in_time_is_unreachable(bucket: Bucket, which: str) -> None:
    publish(bucket, DAY)
    never = Answer(body=None)
    bucket.pages = [never]
    bucket.answers[DAY.key if which == "file" else f"{DAY.key}.CHECKSUM"] = never
    with (
        archive_of(bucket, timeout_s=0.05) as hasty,
        pytest.raises(Unreachable, match="nothing was kept"),
    ):
        list(hasty.keys("p/")) if which == "listing" else hasty.download(DAY)


def test_an_archive_that_is_not_there_is_unreachable_for_everything_asked() -> None:
    with socket.socket() as reserved, pooled_session(4) as session:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        nowhere = Archive(url, url + LIST, session=session, timeout_s=1)
        for call in (
            lambda: nowhere.download(DAY),
            lambda: list(nowhere.keys("p/")),
            lambda: nowhere.children("p/"),
            lambda: nowhere.published(MINUTES, Source.DAILY),
        ):
            with pytest.raises(Unreachable, match="nothing was kept"):
                call()


@pytest.mark.parametrize(
    ("status", "error"), [(503, ServerFault), (403, Firewalled), (451, Restricted)]
)
def test_a_file_that_may_be_there_is_not_said_to_be_unpublished(
    bucket: Bucket, archive: Archive, status: int, error: type[FleetError]
) -> None:
    bucket.answers[DAY.key] = Answer(status)
    with pytest.raises(error):
        archive.download(DAY)


def test_no_more_is_read_of_a_listing_or_a_checksum_than_they_can_have(
    bucket: Bucket, archive: Archive
) -> None:
    endless = gzip.compress(b" " * (40 << 20))
    bucket.pages = [Answer(body=endless, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(BadAnswer, match="more came than one answer may hold"):
        list(archive.keys("p/"))
    bucket.answers[f"{DAY.key}.CHECKSUM"] = Answer(
        body=endless, headers={"Content-Encoding": "gzip"}
    )
    with pytest.raises(BadAnswer, match="more came than one answer may hold"):
        archive.download(DAY)
