from __future__ import annotations

import gzip
import hashlib
import io
import socket
import zipfile
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import requests

from klinefleet.workers.binance import archive as archive_module
from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.archive_listing import PAGE_KEYS, ListedKey
from klinefleet.workers.binance.archive_names import ArchiveFile, folder
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.domain.errors import (
    ArchiveDamaged,
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
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from tests.unit.helpers.bucket import LIST, MODIFIED_MS, Answer, Bucket, listing
from tests.unit.helpers.crew import zipped

MINUTES = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
DAY = ArchiveFile(MINUTES, Source.DAILY, "2024-01-05")
ZIP = zipped(DAY, b"1704412800000,1,2,3,4\n" * 200)
SYMBOLS = "data/spot/daily/klines/"

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


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.close()


@pytest.fixture
def archive(bucket: Bucket) -> Iterator[Archive]:
    with requests.Session() as session:
        session.trust_env = False
        yield Archive(bucket.url, bucket.url + LIST, session=session, timeout_s=10)


def checksum(body: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(body).hexdigest()}  {name}".encode()


def publish(bucket: Bucket, file: ArchiveFile, body: bytes = ZIP) -> None:
    bucket.objects[file.key] = body
    bucket.objects[f"{file.key}.CHECKSUM"] = checksum(body, f"{file.stem}.zip")


def gets(bucket: Bucket) -> list[str]:
    return [path.removeprefix("GET /") for path in bucket.asked if path.startswith("GET")]


def test_a_listing_of_many_pages_loses_no_key_and_repeats_none(
    bucket: Bucket, archive: Archive
) -> None:
    bucket.objects = {f"p/{n:05}.zip": b"x" * (n % 7) for n in range(2500)} | {
        "o/1": b"",
        "q/1": b"",
    }
    found = list(archive.keys("p/"))
    assert [listed.key for listed in found] == [f"p/{n:05}.zip" for n in range(2500)]
    assert found[6] == ListedKey("p/00006.zip", "e1", MODIFIED_MS, 6)
    assert [query.get("marker") for query in bucket.queries()] == [
        None,
        "p/00999.zip",
        "p/01999.zip",
    ]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (PAGE_KEYS, 1), (PAGE_KEYS + 1, 2)])
def test_no_page_is_asked_for_after_the_last(
    bucket: Bucket, archive: Archive, count: int, pages: int
) -> None:
    bucket.objects = {f"p/{n:05}": b"" for n in range(count)}
    assert len(list(archive.keys("p/"))) == count
    assert len(bucket.queries()) == pages


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, ["1"]), (4, ["4"]), (1000, ["1000"]), (1500, ["1000", "500"]), (9999, ["1000"] * 3)],
)
def test_no_more_keys_are_asked_for_than_wanted(
    bucket: Bucket, archive: Archive, most: int, sizes: list[str]
) -> None:
    bucket.objects = {f"p/{n:05}": b"" for n in range(2500)}
    assert len(list(archive.keys("p/", most=most))) == min(most, 2500)
    assert [query["max-keys"] for query in bucket.queries()] == sizes


def test_a_bucket_that_sends_more_than_asked_for_does_not_give_more(
    bucket: Bucket, archive: Archive
) -> None:
    bucket.pages = [
        Answer(
            body=listing(
                "".join(f"<Contents><Key>p/{n}</Key></Contents>" for n in range(9))
            ).encode()
        )
    ]
    assert [listed.key for listed in archive.keys("p/", most=2)] == ["p/0", "p/1"]


def test_keys_begin_after_the_marker(bucket: Bucket, archive: Archive) -> None:
    bucket.objects = {f"p/{n}": b"" for n in range(5)}
    assert [listed.key for listed in archive.keys("p/", marker="p/2")] == ["p/3", "p/4"]


def test_a_key_without_a_date_or_an_etag_is_a_key(bucket: Bucket, archive: Archive) -> None:
    bucket.pages = [
        Answer(body=listing("<Contents><Key>p/1.CHECKSUM</Key><Size>92</Size></Contents>").encode())
    ]
    assert list(archive.keys("p/")) == [ListedKey("p/1.CHECKSUM", "", 0, 92)]


def test_odd_characters_in_a_prefix_reach_the_bucket_as_they_are(
    bucket: Bucket, archive: Archive
) -> None:
    for name in ("币安人生USDT/", "a&b+c d/", "100%/", "x=y?z#/"):
        bucket.objects[f"{name}1"] = b""
        assert [listed.key for listed in archive.keys(name)] == [f"{name}1"]
        assert bucket.queries()[-1]["prefix"] == name


def test_folders_of_many_pages_are_all_told_once_and_the_nameless_one_never(
    bucket: Bucket, archive: Archive
) -> None:
    names = [f"A{n:04}USDT" for n in range(2300)]
    bucket.objects = {
        f"{SYMBOLS}{name}/1m/{part}": b"" for name in names for part in ("1.zip", "2.zip")
    }
    bucket.objects |= {f"{SYMBOLS}/1.zip": b"", f"{SYMBOLS}loose.zip": b""}
    assert archive.children(SYMBOLS) == names
    assert len(bucket.queries()) == 3
    assert all(query["delimiter"] == "/" for query in bucket.queries())


def test_a_symbols_nameless_folder_hides_none_of_its_intervals(
    bucket: Bucket, archive: Archive
) -> None:
    bucket.objects = {f"{SYMBOLS}BTCUSDT/{name}/1.zip": b"" for name in ("", "12h", "1mo", "1s")}
    assert archive.children(f"{SYMBOLS}BTCUSDT/") == ["12h", "1mo", "1s"]
    assert archive.children(f"{SYMBOLS}ETHUSDT/") == []


def test_a_page_that_ends_with_the_nameless_folder_is_not_the_last(
    bucket: Bucket, archive: Archive
) -> None:
    one = "<CommonPrefixes><Prefix>p/{}/</Prefix></CommonPrefixes>"
    next_marker = "<NextMarker>p//</NextMarker>"
    first = listing(one.format("") + next_marker, is_truncated=True)
    bucket.pages = [Answer(body=first.encode()), Answer(body=listing(one.format("1m")).encode())]
    assert archive.children("p/") == ["1m"]
    assert bucket.queries()[1]["marker"] == "p//"


def test_a_page_of_files_alone_is_not_the_end_of_the_folders(
    bucket: Bucket, archive: Archive
) -> None:
    bucket.objects = {f"p/{n:05}.zip": b"" for n in range(1200)} | {"p/a/1": b""}
    assert archive.children("p/") == ["a"]


def test_published_files_are_those_of_the_series_without_checksums_and_odd_names(
    bucket: Bucket, archive: Archive
) -> None:
    path = folder(MINUTES, Source.DAILY)
    for name in (
        "BTCUSDT-1m-2024-01-05.zip",
        "BTCUSDT-1m-2024-01-06.zip",
        "BTCUSDT-1m-2024-02-01.zip",
    ):
        bucket.objects |= {f"{path}{name}": b"four", f"{path}{name}.CHECKSUM": b"x"}
    bucket.objects |= {
        f"{path}{odd}": b""
        for odd in ("BTCUSDT-1m-2024-1.zip", "BTCUSDT-5m-2024-01-01.zip", "readme")
    }
    bucket.objects[f"{SYMBOLS}BTCUSDTX/1m/BTCUSDTX-1m-2024-01-05.zip"] = b""
    found = archive.published(MINUTES, Source.DAILY)
    assert list(found) == ["2024-01-05", "2024-01-06", "2024-02-01"]
    first = found["2024-01-05"]
    assert (first.file, first.etag, first.modified_ms, first.size) == (DAY, "e1", MODIFIED_MS, 4)
    assert list(archive.published(MINUTES, Source.DAILY, "2024-01")) == ["2024-01-05", "2024-01-06"]
    assert bucket.queries()[-1]["prefix"] == f"{path}BTCUSDT-1m-2024-01-"
    assert archive.published(MINUTES, Source.MONTHLY) == {}


def test_the_years_of_a_symbol_are_all_listed(bucket: Bucket, archive: Archive) -> None:
    file = ArchiveFile.of(MINUTES, Source.DAILY, 1_500_000_000_000)
    files = [file]
    while len(files) < 1700:
        file = ArchiveFile.of(MINUTES, Source.DAILY, file.span.end_ms)
        files.append(file)
    for one in files:
        publish(bucket, one, b"")
    assert [
        published.file for published in archive.published(MINUTES, Source.DAILY).values()
    ] == files
    assert len(bucket.queries()) == 4


def test_a_listing_that_breaks_off_is_an_error_and_no_shorter_listing(
    bucket: Bucket, archive: Archive
) -> None:
    path = folder(MINUTES, Source.DAILY)
    page = "".join(
        f"<Contents><Key>{path}BTCUSDT-1m-2024-01-0{n}.zip</Key></Contents>" for n in range(1, 9)
    )
    whole = Answer(body=listing(page, is_truncated=True).encode())
    for broken in (
        Answer(503),
        Answer(body=listing(page).encode(), cut=40),
        Answer(body=listing(page).encode()[:-40]),
    ):
        bucket.pages = [whole, broken]
        with pytest.raises((ServerFault, Unreachable, BadAnswer)):
            archive.published(MINUTES, Source.DAILY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><html><body>Please log in</body></html>",
        b"<html><body>Please log in</body></html>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>',
        b"<Error><Code>SlowDown</Code></Error>",
        b'{"code": -1003}',
        listing("").encode()[:-5],
    ],
)
@pytest.mark.parametrize(
    "call", [lambda archive: list(archive.keys("p/")), lambda archive: archive.children("p/")]
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(
    bucket: Bucket, archive: Archive, body: bytes, call: Callable[[Archive], object]
) -> None:
    bucket.pages = [Answer(body=body)]
    with pytest.raises(BadAnswer, match="the archive's list of 'p/'"):
        call(archive)


def test_a_listing_without_an_end_is_given_up(
    bucket: Bucket, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MOST_PAGES", 3)
    both = (
        "<Contents><Key>p/1</Key></Contents><CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes>"
    )
    bucket.pages = [Answer(body=listing(both, is_truncated=True).encode())] * 6
    with pytest.raises(BadAnswer, match="more than 3 pages"):
        list(archive.keys("p/"))
    with pytest.raises(BadAnswer, match="more than 3 pages"):
        archive.children("p/")
    assert len(bucket.queries()) == 6


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


def test_a_file_of_many_pieces_is_whole(
    bucket: Bucket, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_PIECE_BYTES", 7)
    publish(bucket, DAY)
    assert archive.download(DAY).body == ZIP
    large = bytes(range(256)) * 8192
    publish(bucket, DAY, large)
    monkeypatch.setattr(archive_module, "_PIECE_BYTES", 1 << 18)
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
    with pytest.raises(ChecksumMissing, match="does not exist, the file does"):
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
        checksum(ZIP, f"daily/{DAY.stem}.zip"),
        checksum(ZIP, f"{DAY.stem}.zip")[1:],
        b"0" + checksum(ZIP, f"{DAY.stem}.zip"),
        checksum(ZIP, f"{DAY.stem}.zip")[:64],
        checksum(ZIP, f"{DAY.stem}.zip") + b"\n" + checksum(ZIP, "other.zip"),
        b"\xff\xfe" * 40,
    ],
)
def test_a_checksum_of_something_else_is_none(
    bucket: Bucket, archive: Archive, told: bytes
) -> None:
    publish(bucket, DAY)
    bucket.objects[f"{DAY.key}.CHECKSUM"] = told
    with pytest.raises(ChecksumMissing, match="not a sha256 of this file"):
        archive.download(DAY)
    assert gets(bucket) == [f"{DAY.key}.CHECKSUM"]


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


def test_a_download_that_comes_too_slowly_is_given_up(
    bucket: Bucket, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bucket, DAY)
    monkeypatch.setattr(archive_module, "_PATIENCE", 0)
    with pytest.raises(Unreachable, match="not complete after 0 s; nothing was kept"):
        archive.download(DAY)


@pytest.mark.parametrize("which", ["file", "checksum", "listing"])
def test_no_answer_in_time_is_unreachable(bucket: Bucket, which: str) -> None:
    publish(bucket, DAY)
    never = Answer(body=None)
    bucket.pages = [never]
    bucket.answers[DAY.key if which == "file" else f"{DAY.key}.CHECKSUM"] = never
    with requests.Session() as session:
        session.trust_env = False
        hasty = Archive(bucket.url, bucket.url + LIST, session=session, timeout_s=0.05)
        with pytest.raises(Unreachable, match="nothing was kept"):
            list(hasty.keys("p/")) if which == "listing" else hasty.download(DAY)


def test_an_archive_that_is_not_there_is_unreachable_for_everything_asked() -> None:
    with socket.socket() as reserved, requests.Session() as session:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        session.trust_env = False
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


@pytest.mark.parametrize(
    "contents",
    [
        "<Contents><Size>1</Size></Contents>",
        "<Contents><Key>p/1</Key><LastModified>soon</LastModified></Contents>",
        "<Contents><Key>p/1</Key><Size>x</Size></Contents>",
    ],
)
def test_a_listing_of_odd_objects_is_a_bad_answer(
    bucket: Bucket, archive: Archive, contents: str
) -> None:
    bucket.pages = [Answer(body=listing(contents).encode())]
    with pytest.raises(BadAnswer, match="it was not believed"):
        list(archive.keys("p/"))


def test_a_listing_in_no_namespace_is_not_taken_for_an_empty_one(
    bucket: Bucket, archive: Archive
) -> None:
    bucket.pages = [
        Answer(body=b"<ListBucketResult><Contents><Key>p/1</Key></Contents></ListBucketResult>")
    ]
    with pytest.raises(BadAnswer):
        list(archive.keys("p/"))


ENTITY = '<!DOCTYPE ListBucketResult [<!ENTITY key "data/made/up.zip">]>'


def with_entity(before: str = "", declared: str = "UTF-8") -> str:
    """A listing whose one key is an entity, which is declared after `before`."""
    told = listing("<Contents><Key>&key;</Key></Contents>").partition("\n")[2]
    return f'<?xml version="1.0" encoding="{declared}"?>\n{before}{ENTITY}{told}'


@pytest.mark.parametrize(
    "body",
    [
        with_entity().encode(),
        with_entity(f"<!-- {'long ' * 400} -->").encode(),
        with_entity(f"<?long {'long ' * 400}?>").encode(),
        with_entity(" " * 2_000).encode(),
        with_entity(declared="UTF-16").encode("utf-16"),
        with_entity(declared="UTF-16").encode("utf-16-le"),
        with_entity(declared="UTF-16").encode("utf-16-be"),
        with_entity("<!-- \u00e9 -->", declared="ISO-8859-1").encode("latin-1"),
        with_entity(declared="cp037").encode("cp037"),
        listing("<Contents><Key>a</Key></Contents>").replace("UTF-8", "UTF-16").encode("utf-16"),
    ],
    ids=[
        "at once",
        "comment",
        "instruction",
        "blanks",
        "utf-16",
        "little",
        "big",
        "latin-1",
        "ebcdic",
        "no entity",
    ],
)
def test_a_listing_never_expands_an_entity_wherever_and_however_it_is_declared(
    bucket: Bucket, archive: Archive, body: bytes
) -> None:
    bucket.pages = [Answer(body=body)]
    with pytest.raises(BadAnswer):
        list(archive.keys("p/"))


def test_a_key_in_any_script_is_listed_as_it_is_whatever_mark_comes_first(
    bucket: Bucket, archive: Archive
) -> None:
    told = listing("<Contents><Key>data/币安人生USDT.zip</Key></Contents>")
    for body in (told.encode(), told.encode("utf-8-sig")):
        bucket.pages = [Answer(body=body)]
        assert [found.key for found in archive.keys("p/")] == ["data/币安人生USDT.zip"]


def test_no_more_is_read_of_a_listing_or_a_checksum_than_they_can_have(
    bucket: Bucket, archive: Archive
) -> None:
    endless = gzip.compress(b" " * (40 << 20))
    bucket.pages = [Answer(body=endless, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(BadAnswer, match="more than"):
        list(archive.keys("p/"))
    bucket.answers[f"{DAY.key}.CHECKSUM"] = Answer(
        body=endless, headers={"Content-Encoding": "gzip"}
    )
    with pytest.raises(BadAnswer, match="more than"):
        archive.download(DAY)
