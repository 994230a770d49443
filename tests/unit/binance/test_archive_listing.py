"""Listings of the archive: every page is read, and what is no listing is not believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from klinefleet.workers.binance.archive import Archive, ArchiveLimits
from klinefleet.workers.binance.archive_listing import PAGE_KEYS, ListedKey
from klinefleet.workers.binance.archive_names import ArchiveFile, folder
from klinefleet.workers.domain.errors import (
    BadAnswer,
    ServerFault,
    Unreachable,
)
from klinefleet.workers.domain.series import Source
from tests.unit.helpers.archive_bucket import DAY, MINUTES, archive_of, publish
from tests.unit.helpers.bucket import MODIFIED_MS, Answer, Bucket, listing

SYMBOLS = "data/spot/daily/klines/"


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
    assert len(list(archive.keys("p/", limit=most))) == min(most, 2500)
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
    assert [listed.key for listed in archive.keys("p/", limit=2)] == ["p/0", "p/1"]


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
    with pytest.raises(BadAnswer, match=r"else than a list \(list of 'p/'"):
        call(archive)


@pytest.mark.parametrize(
    "pages",
    [
        [["p/a", "p/b"], ["p/a", "p/b"]],
        [["p/a", "p/b"], ["p/b"]],
        [["p/b", "p/a"]],
        [["p/a", "p/a"]],
    ],
)
@pytest.mark.parametrize("of", ["keys", "folders"])
def test_a_listing_that_goes_back_is_given_up_at_once(
    bucket: Bucket, archive: Archive, pages: list[list[str]], of: str
) -> None:
    shape = (
        "<Contents><Key>{}</Key></Contents>"
        if of == "keys"
        else "<CommonPrefixes><Prefix>{}/</Prefix></CommonPrefixes>"
    )
    for keys in pages:
        inside = "".join(shape.format(key) for key in keys)
        bucket.pages.append(Answer(body=listing(inside, is_truncated=True).encode()))
    with pytest.raises(BadAnswer, match=r"goes back instead of on .* it was given up"):
        list(archive.keys("p/")) if of == "keys" else archive.children("p/")
    assert len(bucket.asked) == len(pages)


def test_a_listing_without_an_end_is_given_up(bucket: Bucket) -> None:
    both = (
        "<Contents><Key>p/{0}</Key></Contents>"
        "<CommonPrefixes><Prefix>p/{0}/</Prefix></CommonPrefixes>"
    )
    bucket.pages = [
        Answer(body=listing(both.format(page), is_truncated=True).encode()) for page in "123456"
    ]
    with archive_of(bucket, limits=ArchiveLimits(max_pages=3)) as archive:
        with pytest.raises(BadAnswer, match="more than 3 pages"):
            list(archive.keys("p/"))
        with pytest.raises(BadAnswer, match="more than 3 pages"):
            archive.children("p/")
    assert len(bucket.queries()) == 6


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
    with pytest.raises(BadAnswer, match="the list was not used"):
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
