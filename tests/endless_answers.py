"""Servers whose answers never end, or end after more than anybody wants."""

from __future__ import annotations

import itertools
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

#: Seconds between two pieces of an answer that trickles.
TRICKLE_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def trickling(data: bytes) -> Iterator[bytes]:
    """Yield a byte at a time, and blanks for ever once they are sent."""
    for byte in data:
        yield bytes([byte])
    yield from itertools.repeat(b" ")


def _letters_of_a_header() -> Iterator[bytes]:
    yield HEAD + b"X-Long: "
    yield from itertools.repeat(b"a")


def _headers() -> Iterator[bytes]:
    yield HEAD
    yield from itertools.repeat(b"X: a\r\n")


def _interim() -> Iterator[bytes]:
    return itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")


def _status_line() -> Iterator[bytes]:
    return trickling(b"HTTP/1.1 200 ")


def _body() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 1000000000\r\n\r\n"
    yield from itertools.repeat(b"[")


def _body_without_length() -> Iterator[bytes]:
    yield HEAD + b"\r\n"
    yield from itertools.repeat(b"[")


def _empty_blocks() -> Iterator[bytes]:
    yield CHUNKED + b"Content-Encoding: deflate\r\n\r\n" + _chunk(b"\x78\x9c")
    yield from itertools.repeat(_chunk(b"\x00\x00\x00\xff\xff"))


def _empty_members() -> Iterator[bytes]:
    empty = zlib.compressobj(9, zlib.DEFLATED, 31).flush()
    yield CHUNKED + b"Content-Encoding: gzip\r\n\r\n"
    yield from itertools.repeat(_chunk(empty))


def _chunk_size() -> Iterator[bytes]:
    yield CHUNKED + b"\r\n"
    yield from itertools.repeat(b"0")


def _trailers() -> Iterator[bytes]:
    yield CHUNKED + b"\r\n" + _chunk(b"[]") + b"0\r\n"
    yield from itertools.repeat(b"X: a\r\n")


def _error_page() -> Iterator[bytes]:
    yield b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    yield from itertools.repeat(b"<")


def _redirect() -> Iterator[bytes]:
    yield b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"
    yield from itertools.repeat(b"<")


def _silence() -> Iterator[bytes]:
    return itertools.repeat(b"")


#: Each way not to end.
ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "nothing at all": _silence,
    "a status line": _status_line,
    "a header": _letters_of_a_header,
    "headers": _headers,
    "100 Continue": _interim,
    "a body with a length": _body,
    "a body without a length": _body_without_length,
    "empty deflate blocks": _empty_blocks,
    "empty gzip members": _empty_members,
    "a chunk's size": _chunk_size,
    "trailers": _trailers,
    "an error's page": _error_page,
    "a redirect's page": _redirect,
}


def bomb(status: bytes = b"200 OK") -> Iterator[bytes]:
    """Yield some megabytes of gzip that become two gigabytes of blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield b"HTTP/1.1 " + status + b"\r\nLocation: /\r\nContent-Encoding: gzip\r\n\r\n"
    blanks = b" " * (1 << 20)
    for _ in range(2048):
        yield packer.compress(blanks)
    yield packer.flush()


@contextmanager
def sending(
    answer: Callable[[], Iterable[bytes]],
    *,
    pause_s: float = TRICKLE_S,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Send this answer, piece by piece, to each that connects, whatever he asks for."""
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        # Who is about to hang up is what the tests are about.
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            if tls:
                connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
            connection.recv(65536)
            for piece in answer():
                connection.sendall(piece)
                if stop.wait(pause_s):
                    return

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            scheme = "https" if tls else "http"
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            accepting.join()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a new certificate of 127.0.0.1, and a server's context that has it."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run([*request.split(), *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return made, context
