"""Sockets that acknowledge at once what an S3 server has sent.

A kernel holds acknowledgements back for up to 40 ms, to send them along with something else (RFC
1122, 4.2.3.2). A server that sends an answer's head and its body apart, and the body only when the
head is acknowledged (Nagle, RFC 896), stands still for so long at every small answer: Ceph's
gateway does, unless `tcp_nodelay` is set. aiohttp 3 leaves the option to its caller
(`socket_factory`), and aiobotocore never sets it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

#: Linux has the option alone; elsewhere acknowledgements come when they come.
_OPTION = getattr(socket, "TCP_QUICKACK", None)


class QuickAck(socket.socket):
    """A TCP socket that asks for it again after each receipt: the kernel forgets it with the next
    thing sent.
    """

    def recv(self, *args: Any) -> bytes:
        got = super().recv(*args)
        self._acknowledge()
        return got

    def recv_into(self, *args: Any) -> int:
        got = super().recv_into(*args)
        self._acknowledge()
        return got

    def _acknowledge(self) -> None:
        if _OPTION is not None:
            # What was received counts, however it is acknowledged.
            with suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, _OPTION, 1)


def quick_ack(address: tuple[Any, ...]) -> QuickAck:
    """Return a socket for one answer of `getaddrinfo`: family, type, protocol, canonical name,
    address.
    """
    family, kind, protocol, *_ = address
    return QuickAck(family, kind, protocol)
