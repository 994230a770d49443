"""What each fault looks like on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from deploy.simulator.faults import UNTRUE, Fault

#: The index of a row's low price.
_LOW = 3

JSON = "application/json;charset=UTF-8"
HTML = "text/html"

FIREWALL_PAGE = (
    b"<!DOCTYPE HTML><HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>"
    b"<BODY><H1>403 ERROR</H1><H2>The request could not be satisfied.</H2><HR>Request "
    b"blocked.</BODY></HTML>"
)
GATEWAY_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad "
    b"Gateway</h1></center></body></html>"
)
CAPTIVE_PAGE = (
    b"<html><head><title>Welcome</title></head><body>Please accept the terms of this "
    b"network.</body></html>"
)
GARBAGE = b"upstream said: \xef\xbf\xbd\x00\x01 not a kline in sight"


def _error(code: int, text: str) -> bytes:
    return json.dumps({"code": code, "msg": text}, separators=(",", ":")).encode()


#: Faults that are a plain answer: status, content type, body.
ANSWERS = {
    Fault.BAD_REQUEST: (
        400,
        JSON,
        _error(-1000, "An unknown error occurred while processing the request."),
    ),
    Fault.FIREWALL: (403, HTML, FIREWALL_PAGE),
    Fault.BACKEND_TIMEOUT: (
        408,
        JSON,
        _error(-1007, "Timeout waiting for response from backend server."),
    ),
    Fault.RESTRICTED: (451, JSON, _error(0, "Service unavailable from a restricted location.")),
    Fault.INTERNAL: (
        500,
        JSON,
        _error(-1001, "Internal error; unable to process your request. Please try again."),
    ),
    Fault.BAD_GATEWAY: (502, HTML, GATEWAY_PAGE),
    Fault.UNAVAILABLE: (503, JSON, _error(0, "Service Unavailable.")),
    Fault.NOT_JSON: (200, JSON, GARBAGE),
    Fault.HTML_200: (200, HTML, CAPTIVE_PAGE),
}


async def answer(
    request: web.Request, fault: Fault, headers: Mapping[str, str], hang_s: float
) -> web.StreamResponse:
    """Fail a call in a way that needs no page."""
    if fault is Fault.RESET:
        return _reset(request)
    if fault is Fault.HANG:
        await asyncio.sleep(hang_s)
        return _reset(request)
    status, content_type, body = ANSWERS[fault]
    # Pages of proxies and firewalls know nothing of weight.
    sent = {"Date": headers["Date"]} if content_type == HTML else dict(headers)
    return web.Response(status=status, body=body, headers=sent | {"Content-Type": content_type})


async def spoilt(
    request: web.Request, fault: Fault, body: bytes, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send an untrue page, or the first half of a good one: honest about its length, or under the
    length of the whole.
    """
    if fault in UNTRUE:
        return web.Response(body=untrue(fault, body), headers={**headers, "Content-Type": JSON})
    begun = body[: len(body) // 2]
    if fault is Fault.HALF:
        return web.Response(body=begun, headers={**headers, "Content-Type": JSON})
    cut = web.StreamResponse(
        headers={**headers, "Content-Type": JSON, "Content-Length": str(len(body))}
    )
    cut.force_close()
    await cut.prepare(request)
    await cut.write(begun)
    return cut


def untrue(fault: Fault, body: bytes) -> bytes:
    """Return a page as it is well formed and wrong."""
    rows = json.loads(body)
    middle = len(rows) // 2
    if fault is Fault.EMPTY:
        rows = []
    elif fault is Fault.SHORT:
        rows = rows[:middle]
    elif fault is Fault.HOLE:
        rows = rows[:middle] + rows[middle + 5 :]
    elif rows:
        rows[middle][_LOW] = "-1"
    return json.dumps(rows, separators=(",", ":")).encode()


def _reset(request: web.Request) -> web.Response:
    """Abort the connection; the response that is returned is never sent."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()
