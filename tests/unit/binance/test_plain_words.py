"""A failure of the exchange or its archive is told in our own words, without a library's text."""

from __future__ import annotations

import errno
import gzip
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import urllib3.exceptions

from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.binance.calls.answers import error_of_answer, parse_json, unreachable
from klinefleet.workers.binance.calls.session import Answer as HttpAnswer
from klinefleet.workers.binance.decode import decode_archive, decode_pages
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from tests.unit.helpers.archive_bucket import DAY, archive_of, publish
from tests.unit.helpers.bucket import Answer, Bucket
from tests.unit.helpers.plain_words import assert_plain

NO_GZIP = Answer(body=b"no gzip at all", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=None), "did not answer within 0.2 s"),
        (Answer(body=b"x" * 100, cut=50), "closed the connection before the answer was complete"),
        (NO_GZIP, "sent an answer that does not unpack"),
        (Answer(503, b"<Error/>"), "the archive answered 503"),
    ],
    ids=["timeout", "cut body", "broken gzip", "503"],
)
@pytest.mark.parametrize("what", ["list", "file"])
def test_no_failure_of_the_archive_shows_a_librarys_text(
    bucket: Bucket, answer: Answer, words: str, what: str
) -> None:
    publish(bucket, DAY)
    bucket.pages = [answer]
    bucket.answers[DAY.key] = answer
    with archive_of(bucket, timeout_s=0.2) as archive, pytest.raises(FleetError) as failed:
        list(archive.keys("p/")) if what == "list" else archive.download(DAY)
    assert words in failed.value.reason
    assert ("'p/'" if what == "list" else DAY.key) in failed.value.reason
    assert_plain(failed.value)


@pytest.mark.parametrize("body", [b"<a", b"\xff\xfe", b"{}", b"<html/>"])
def test_a_list_that_is_none_is_told_without_the_parsers_text(
    bucket: Bucket, archive: Archive, body: bytes
) -> None:
    bucket.pages = [Answer(body=body)]
    with pytest.raises(FleetError, match="the archive sent something else than a list") as failed:
        list(archive.keys("p/"))
    assert_plain(failed.value)


def test_an_archive_that_refuses_the_connection_is_said_to() -> None:
    with socket.socket() as unused, requests.Session() as session:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        session.trust_env = False
        with pytest.raises(FleetError) as failed:
            Archive(url, url, session=session, timeout_s=1).download(DAY)
    assert failed.value.reason == (
        f"Unreachable: the archive: {url} refused the connection ({DAY.key}.CHECKSUM); "
        "nothing was kept"
    )


def raised(error: BaseException, *causes: BaseException) -> BaseException:
    """Return an error that was raised from these, the first cause last."""
    above = error
    for cause in causes:
        above.__cause__, above = cause, cause
    return error


POOL: Any = None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            raised(requests.ConnectionError("Max retries"), socket.gaierror(-2, "Name or service")),
            "has a name that does not resolve",
        ),
        (
            raised(requests.exceptions.SSLError("x509"), ssl.SSLCertVerificationError("x509")),
            "has no valid TLS certificate",
        ),
        (raised(requests.exceptions.SSLError("EOF"), ssl.SSLEOFError()), "made no TLS connection"),
        (requests.exceptions.ProxyError("tunnel"), "cannot be reached through the proxy"),
        (requests.exceptions.ReadTimeout("read timed out"), "did not answer within 20 s"),
        (
            raised(
                requests.ConnectionError("Max retries"),
                urllib3.exceptions.NewConnectionError(POOL, "Failed to establish"),
                OSError(errno.ENETUNREACH, "Network is unreachable"),
            ),
            "cannot be reached: Network is unreachable",
        ),
        (
            raised(
                requests.ConnectionError("aborted"),
                http.client.RemoteDisconnected("Remote end closed"),
            ),
            "closed the connection before the answer was complete",
        ),
        (
            raised(requests.ConnectionError("aborted"), http.client.BadStatusLine("SSH-2.0")),
            "sent an answer that is not HTTP",
        ),
        (
            requests.exceptions.ContentDecodingError("odd"),
            "gave no answer: the call failed with ContentDecodingError",
        ),
    ],
)
def test_each_way_to_get_no_answer_has_its_words(error: BaseException, words: str) -> None:
    url = "https://user:secret@api.binance.com/fapi"
    told = unreachable("um /time", url, error, timeout_s=20.0)
    assert str(told) == f"um /time: https://api.binance.com {words}; nothing was kept"


@pytest.mark.parametrize(
    "call",
    [
        lambda: member(b"no zip", "BTCUSDT-1m-2024-01"),
        lambda: member(b"PK\x03\x04" + b"\0" * 100, "BTCUSDT-1m-2024-01"),
        lambda: decode_archive(KLINES, b"1704067200000,one,2\n"),
        lambda: decode_archive(KLINES, gzip.compress(b"1,2,3\n" * 1000)[:-20]),
        lambda: decode_archive(KLINES, b"\x1f\x8b\x08" + b"\0" * 30),
        lambda: decode_pages(KLINES, [b'[[1704067200000,"one"]]']),
        lambda: decode_pages(FUNDING_RATE, [b"[{"]),
        lambda: decode_pages(FUNDING_RATE, [b"[{}]"]),
        lambda: parse_json(b"{", dict),
    ],
    ids=[
        "garbage zip",
        "half a zip",
        "garbage CSV",
        "cut gzip",
        "garbage gzip",
        "garbage rows",
        "garbage JSON",
        "lacking fields",
        "cut JSON",
    ],
)
def test_no_body_that_does_not_decode_shows_a_librarys_text(call: Callable[[], object]) -> None:
    with pytest.raises(FleetError, match=r"nothing was (kept|merged)") as failed:
        call()
    assert_plain(failed.value)


def test_a_page_of_many_lines_is_told_in_one() -> None:
    error = error_of_answer(
        "um /klines", HttpAnswer(404, {}, b"<html>\n<body>\n\nnothing here</body>\n", 0)
    )
    assert str(error) == "um /klines: 404 <html> <body> nothing here</body>"


def causes() -> Iterator[FleetError | None]:
    for start in ("2024-01-01", "2024-01-02"):
        shown = f'{{"msg":"the request of {start}"}}'.encode()
        yield error_of_answer("um /klines", HttpAnswer(503, {}, shown, 0))


def test_what_differs_from_call_to_call_stands_in_brackets() -> None:
    one, other = (str(error).partition(" (")[0] for error in causes())
    assert one == other == "um /klines: 503, the server failed"
