"""Every call ends in its time and takes no more than its bytes, whatever the other side sends."""

from __future__ import annotations

import itertools
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from klinefleet.workers.binance.archive import Archive, ArchiveLimits
from klinefleet.workers.binance.calls.clock import CallClock
from klinefleet.workers.binance.calls.session import Answer, call, pooled_session
from klinefleet.workers.domain.errors import BadAnswer, FleetError, SettingsError, Unreachable
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.limits.concurrency import RestSlots
from klinefleet.workers.limits.redis_budget import RedisBudget
from tests.endless_answers import ENDLESS, bomb, certificate, sending
from tests.integration.rest_client import PAGE, Maker, ask, series
from tests.servers import Exchange
from tests.unit.helpers.archive_bucket import DAY

TIMEOUT_S = 0.4
#: No call of these tests takes so long, on however busy a machine.
AT_MOST_S = 5.0
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with pooled_session(4) as session:
        yield session


def answer_of(session: requests.Session, url: str, **how: float) -> Answer:
    return call(session, url, CallClock(TIMEOUT_S, **how), max_bytes=1 << 20)


def archive(session: requests.Session, url: str, **limits: int) -> Archive:
    bounds = ArchiveLimits(**limits) if limits else ArchiveLimits()
    return Archive(url, f"{url}/list", session=session, timeout_s=TIMEOUT_S, limits=bounds)


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_that_never_ends_is_given_up_in_time(
    client: Maker, session: requests.Session, what: str
) -> None:
    with sending(ENDLESS[what]) as url:
        hasty = client(url, timeout_s=TIMEOUT_S)
        asked: list[Callable[[], object]] = [
            lambda: ask(hasty),
            hasty.exchange_info,
            lambda: archive(session, url).download(DAY),
            lambda: list(archive(session, url).keys("p/")),
        ]
        for question in asked:
            began_s = time.monotonic()
            with pytest.raises(Unreachable, match=f"{TIMEOUT_S:g} s.*nothing was kept"):
                question()
            assert time.monotonic() - began_s < AT_MOST_S


def test_what_a_call_costs_is_known_after_it_was_given_up(
    client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    with sending(ENDLESS["headers"]) as url, pytest.raises(Unreachable):
        ask(client(url, timeout_s=TIMEOUT_S))
    assert budgets(Market.USD_M).state().used >= 1


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"503 Service Unavailable"])
def test_no_more_is_unpacked_of_an_answer_than_it_may_hold(
    client: Maker, session: requests.Session, status: bytes
) -> None:
    with sending(lambda: bomb(status), pause_s=0.0) as url:
        patient = client(url, timeout_s=30)
        for question in (
            lambda: ask(patient),
            lambda: list(Archive(url, url, session=session, timeout_s=30).keys("p/")),
        ):
            with pytest.raises(FleetError) as failed:
                question()
            if status == b"200 OK":
                assert isinstance(failed.value, BadAnswer)
                assert "more came than one answer may hold" in str(failed.value)


def test_a_large_answer_may_take_longer_as_long_as_it_comes_fast_enough(
    session: requests.Session,
) -> None:
    size = 40_000

    def steadily() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
        yield from itertools.repeat(b"x" * 2_000, size // 2_000)

    with sending(steadily) as url:
        with pytest.raises(TimeoutError):
            answer_of(session, url)
        answer = answer_of(session, url, longest_s=60, bytes_per_s=5_000)
        assert len(answer.body) == size
        with pytest.raises(TimeoutError):
            answer_of(session, url, longest_s=60, bytes_per_s=1e6)


def test_a_host_that_shakes_no_hands_is_given_up_in_time(session: requests.Session) -> None:
    with sending(ENDLESS["nothing at all"]) as url, pytest.raises(TimeoutError):
        answer_of(session, url.replace("http:", "https:"))


@pytest.mark.parametrize("what", ["100 Continue", "headers", "nothing at all"])
def test_a_proxy_that_never_answers_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with sending(ENDLESS[what]) as proxy, pooled_session(1) as session:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        began_s = time.monotonic()
        with pytest.raises((requests.RequestException, OSError)):
            answer_of(session, f"https://{what.replace(' ', '-')}.example")
        assert time.monotonic() - began_s < AT_MOST_S


def test_each_address_of_a_host_gets_its_part_of_the_time(
    monkeypatch: pytest.MonkeyPatch, session: requests.Session
) -> None:
    """The first address takes every call and answers none, as behind a firewall that drops."""
    with (
        sending(lambda: [GOOD]) as url,
        socket.create_server(("127.0.0.3", 0), backlog=0) as full,
        socket.socket() as first,
        socket.socket() as second,
    ):
        port = int(url.rpartition(":")[2])
        full.close()
        with socket.create_server(("127.0.0.3", port), backlog=0):
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.3", port))
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in ("127.0.0.3", "127.0.0.1")
            ]
            real = socket.getaddrinfo
            monkeypatch.setattr(
                socket,
                "getaddrinfo",
                lambda host, *rest, **how: (
                    found if host == "two.example" else real(host, *rest, **how)
                ),
            )
            assert answer_of(session, f"http://two.example:{port}").body == b"[]"


def test_a_call_that_another_thread_cuts_ends_at_once(session: requests.Session) -> None:
    clock = CallClock(60)
    with sending(ENDLESS["headers"]) as url:
        cutting = threading.Timer(0.3, clock.cut)
        cutting.start()
        began_s = time.monotonic()
        with pytest.raises((requests.RequestException, OSError)):
            call(session, url, clock, max_bytes=1 << 20)
        assert time.monotonic() - began_s < 30


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
@pytest.mark.parametrize("setting", CERTIFICATES[:-1])
def test_certificates_that_the_environment_names_are_trusted_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    made, context = certificate(tmp_path)
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    with sending(lambda: [GOOD], tls=context) as url:
        with pooled_session(1) as session, pytest.raises(requests.exceptions.SSLError):
            call(session, url, CallClock(10), max_bytes=100)
        monkeypatch.setenv(setting, str(made))
        with pooled_session(1) as session:
            assert call(session, url, CallClock(10), max_bytes=100).body == b"[]"
        monkeypatch.setenv(setting, str(tmp_path / "none.pem"))
        with pytest.raises(SettingsError, match=f"{setting} was .*none.pem"):
            pooled_session(1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
@pytest.mark.parametrize("what", ["headers", "100 Continue", "empty deflate blocks"])
def test_an_answer_over_tls_that_never_ends_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made, context = certificate(tmp_path)
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    with sending(ENDLESS[what], tls=context) as url, pooled_session(1) as session:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            call(session, url, CallClock(TIMEOUT_S * 3), max_bytes=1 << 20)
        assert time.monotonic() - began_s < AT_MOST_S


def test_a_host_that_no_proxy_names_is_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    from_proxy = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[proxy]"
    with sending(lambda: [from_proxy]) as proxy, sending(lambda: [GOOD]) as url:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        other = url.replace("127.0.0.1", "localhost")
        with pooled_session(1) as session:
            assert answer_of(session, url).body == b"[]"
            assert answer_of(session, other).body == b"[proxy]"


def test_no_cookie_is_kept(session: requests.Session) -> None:
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n[]"
    with sending(lambda: [cookie]) as url:
        answer_of(session, url)
    assert not session.cookies


def test_a_call_that_is_answered_late_is_made_again_and_both_are_paid_for(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    asking = client(exchange.url, timeout_s=300)
    ask(asking)
    exchange.faults({"hang": 1.0}, hang_s=300, most=1)
    used = budgets(Market.USD_M).state().used
    answer = asking.rows(series(), PAGE)
    assert answer.calls == 2
    assert len(answer.body) > 2
    assert exchange.books()["faults"] == {"hang": 1}
    assert budgets(Market.USD_M).state().used == used + 2 * PAGE.weight
    exchange.faults({})
    exchange.ask("DELETE", "books")


def test_no_call_is_made_again_while_others_wait_for_a_place(
    exchange: Exchange, client: Maker
) -> None:
    slots = RestSlots(1)
    asking = client(exchange.url, timeout_s=3, slots=slots)
    ask(asking)
    exchange.faults({"hang": 1.0}, hang_s=300, most=1)
    with slots, pytest.raises(Unreachable, match="did not answer within 3 s"):
        ask(asking)
    exchange.faults({})
    exchange.ask("DELETE", "books")
