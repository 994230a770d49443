"""Sockets that acknowledge received data at once.

The kernel delays acknowledgements by up to 40 ms, to send them with other data (RFC 1122, 4.2.3.2).
A server that sends the head and the body of an answer separately, and the body only after the head
is acknowledged (Nagle's algorithm, RFC 896), loses that time at every small answer. Ceph's gateway
does so unless `tcp_nodelay` is set. aiohttp 3 leaves the option to its caller (`socket_factory`),
and aiobotocore never sets it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

#: Only Linux has the option; None elsewhere.
_OPTION = getattr(socket, "TCP_QUICKACK", None)


class QuickAck(socket.socket):
    """A TCP socket that sets TCP_QUICKACK after each receipt, since the kernel resets it."""

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self._acknowledge()
        return data

    def recv_into(self, *args: Any) -> int:
        size = super().recv_into(*args)
        self._acknowledge()
        return size

    def _acknowledge(self) -> None:
        if _OPTION is not None:
            # A failure costs time only; the data has been received.
            with suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, _OPTION, 1)


def quick_ack(address: tuple[Any, ...]) -> QuickAck:
    """Return a socket for one result of `getaddrinfo`."""
    family, kind, protocol, *_ = address
    return QuickAck(family, kind, protocol)
