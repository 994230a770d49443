"""The time that one call has, kept by its socket: from the connect to the answer's last byte."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection
from urllib3.util.ssl_ import create_urllib3_context


class AnswerTooSlow(TimeoutError):
    """The answer was still coming when its time was over."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.limit_s = limit_s


class CallCut(OSError):
    """The call was ended by this process: another one has the answer."""


class CallClock:
    """The time that one call has. It runs from its making; each byte that comes is noted.

    limit_s: the time for a small answer, and for each wait for the next byte. bytes_per_s: an
    answer that comes so fast may take longer, up to longest_s.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        longest_s: float = 0.0,
        bytes_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit_s = limit_s
        self._longest_s = max(limit_s, longest_s)
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._began_s = clock()
        self._received = 0
        self._socket: socket.socket | None = None
        self._is_cut = False

    @property
    def took_s(self) -> float:
        return self._clock() - self._began_s

    @property
    def is_over(self) -> bool:
        return self.took_s >= self._whole_s()

    @property
    def has_begun(self) -> bool:
        """Whether a byte of the answer has come."""
        return self._received > 0

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def left_s(self) -> float:
        """Return the seconds that the next byte may take; raise once there are none."""
        if self._is_cut:
            raise CallCut
        if self.is_over:
            raise self.over()
        return max(0.001, min(self.limit_s, self._whole_s() - self.took_s))

    def over(self) -> TimeoutError:
        """Return the error of a call whose time is over."""
        return AnswerTooSlow(round(self._whole_s(), 1)) if self._received else TimeoutError()

    def _whole_s(self) -> float:
        extra_s = self._received / self._bytes_per_s if self._bytes_per_s else 0.0
        return min(self._longest_s, self.limit_s + extra_s)

    def cut(self) -> None:
        """End the call at once, from another thread."""
        self._is_cut = True
        if open_socket := self._socket:
            with suppress(OSError):  # it is closed already
                open_socket.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Forget the socket: the call is over, and another one may use it."""
        self._socket = None

    def receive(self, open_socket: socket.socket, read: Callable[..., int], *args: Any) -> int:
        """Read from a socket as long as there is time."""
        self._socket = open_socket
        open_socket.settimeout(self.left_s())
        size = read(*args)
        self._received += size
        if self._is_cut:
            raise CallCut
        return size


#: The clock of the call that a thread makes. No socket of these pools is read without one.
_running: ContextVar[CallClock] = ContextVar("running_clock")


@contextmanager
def timed_by(clock: CallClock) -> Iterator[None]:
    """Let this clock end the call that the block makes, whatever the answer's bytes are."""
    token = _running.set(clock)
    try:
        yield
    finally:
        clock.let_go()
        _running.reset(token)


def _receive(open_socket: socket.socket, read: Callable[..., int], *args: Any) -> int:
    return _running.get().receive(open_socket, read, *args)


# A timeout of a socket is one of each read: bytes that trickle never end it. Headers, endless
# interim answers and blocks without content are read deep in the libraries, so each read of the
# socket itself asks the clock.
class _TimedSocket(socket.socket):
    def recv_into(self, *args: Any) -> int:
        return _receive(self, super().recv_into, *args)


class _TimedTLSSocket(ssl.SSLSocket):
    def recv_into(self, *args: Any) -> int:
        return _receive(self, super().recv_into, *args)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _TLSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)

    def connect(self) -> None:
        self.ssl_context = self.ssl_context or create_urllib3_context()
        self.ssl_context.sslsocket_class = _TimedTLSSocket
        super().connect()


def _connected(connection: HTTPConnection) -> socket.socket:
    """Return a socket that is connected to the first of the host's addresses that answers.

    Each address gets its part of the time that is left.
    """
    clock = _running.get()
    host, port = connection.host.strip("[]"), connection.port
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(address[0] for *_, address in found))
    for after in reversed(range(len(addresses))):
        address = str(addresses[-1 - after])
        try:
            plain = create_connection(
                (address, port),
                clock.left_s() / (after + 1),
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError:
            if not after:
                raise
        else:
            timed = _TimedSocket(plain.family, plain.type, plain.proto, plain.detach())
            timed.settimeout(clock.left_s())
            return timed
    raise socket.gaierror(f"{host} has no address")


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


#: The connection pools whose calls a clock ends.
TIMED_POOLS = {"http": _Pool, "https": _TLSPool}
