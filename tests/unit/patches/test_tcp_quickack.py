"""Answers of an S3 server are acknowledged at once, without the kernel's delay."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.patches.tcp_quickack import quick_ack
from klinefleet.workers.storage.open import open_store
from tests.servers import ObjectStore

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_QUICKACK"), reason="this kernel has no TCP_QUICKACK"
)

ANSWER = b"head and body"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that sends each answer in two parts, as Nagle's algorithm likes it least."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            while client.recv(100):
                client.sendall(ANSWER[:4])
                client.sendall(ANSWER[4:])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening
        thread.join(10)


def _by_recv(client: socket.socket) -> bytes:
    return client.recv(100)


def _by_recv_into(client: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: client.recv_into(buffer)])


@pytest.mark.parametrize("receive", [_by_recv, _by_recv_into])
def test_each_receipt_is_acknowledged_at_once(
    server: socket.socket, receive: Callable[[socket.socket], bytes]
) -> None:
    address = socket.getaddrinfo(*server.getsockname(), type=socket.SOCK_STREAM)[0]
    with quick_ack(address) as client:
        client.connect(address[4])
        # A kernel grants the first few receipts of a connection by itself.
        for _ in range(30):
            client.sendall(b"question")
            answer = b""
            while len(answer) < len(ANSWER):
                answer += receive(client)
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1
            assert answer == ANSWER


def test_the_client_of_a_bucket_acknowledges_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[socket.socket]()

    def made_by(address: tuple[Any, ...]) -> socket.socket:
        made.append(quick_ack(address))
        return made[-1]

    monkeypatch.setattr("klinefleet.workers.storage.s3.quick_ack", made_by)
    with ObjectStore(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        files = open_store("s3://lake")
        files.put("a", b"one")
        assert [entry.key for entry in files.list("")] == ["a"]
        assert made
