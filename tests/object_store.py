"""A small S3 server in memory.

`python -m tests.object_store [HOST [PORT]]` prints its address, one line.

Path-style buckets that exist as soon as they are named: PUT (If-Match, If-None-Match: *), GET
(Range), HEAD, DELETE, ListObjectsV2. No signature is checked. It can be made to fail writes before
or after it has stored them.

Control, in JSON; DELETE of /-/writes and /-/requests empties them:

    PUT /-/faults     {"before": 0.05, "after": 0.05, "reset_share": 0.5, "seed": 1,
                       "methods": ["PUT"], "ignores": ["If-Match"],
                       "refused": {"an access key": "ExpiredToken"}}
    GET /-/writes     every PUT and DELETE in order: key, condition, status, fault
    GET /-/objects    key -> size
    GET /-/requests   how often each method was called; LIST is a listing
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import socket
import struct
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from random import Random
from typing import Any
from xml.sax.saxutils import escape

from aiohttp import web

MOST_KEYS = 1000
_ACCESS_KEY = re.compile(r"Credential=([^/]+)/")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Write:
    """One PUT or DELETE, in the order of arrival."""

    method: str
    key: str
    if_match: str | None
    if_none_match: str | None
    status: int = 0
    fault: str | None = None
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """One object; what tells its version is known when it is stored, not computed at each look."""

    body: bytes
    etag: str


@dataclass(slots=True)
class Faults:
    """Shares of writes that fail before they are stored, and after (the answer is lost)."""

    before: float = 0.0
    after: float = 0.0
    reset_share: float = 0.5
    seed: int = 0
    methods: tuple[str, ...] = ("PUT",)
    ignores: tuple[str, ...] = ()
    """Conditions that are not looked at, "If-Match" or "If-None-Match": an unsafe server."""
    refused: dict[str, str] = field(default_factory=dict)
    """The error code of every answer to these access keys."""


class ObjectStore:
    """Buckets of objects, and what was done to them."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.writes: list[Write] = []
        self.requests = Counter[str]()
        self._follow(Faults())

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30, middlewares=[self.check_key])
        app.router.add_put("/-/faults", self.set_faults)
        app.router.add_get("/-/writes", self.tell_writes)
        app.router.add_delete("/-/writes", self.forget_writes)
        app.router.add_get("/-/objects", self.tell_objects)
        app.router.add_get("/-/requests", self.tell_requests)
        app.router.add_delete("/-/requests", self.forget_requests)
        app.router.add_route("*", "/{bucket}", self.bucket)
        app.router.add_route("*", "/{bucket}/{key:.*}", self.object)
        return app

    @web.middleware
    async def check_key(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer 403 to the access keys that are refused; no signature is checked."""
        found = _ACCESS_KEY.search(request.headers.get("Authorization", ""))
        if code := self._faults.refused.get(found[1] if found else ""):
            return _error(403, code)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def set_faults(self, request: web.Request) -> web.Response:
        self._follow(Faults(**await request.json()))
        return web.json_response({})

    async def tell_writes(self, request: web.Request) -> web.Response:
        return web.json_response([asdict(write) for write in self.writes])

    async def forget_writes(self, request: web.Request) -> web.Response:
        self.writes.clear()
        return web.json_response({})

    async def tell_objects(self, request: web.Request) -> web.Response:
        return web.json_response({key: len(held.body) for key, held in self.objects.items()})

    async def tell_requests(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def forget_requests(self, request: web.Request) -> web.Response:
        self.requests.clear()
        return web.json_response({})

    async def bucket(self, request: web.Request) -> web.Response:
        """Answer HEAD, and GET as ListObjectsV2."""
        if request.method == "GET":
            self.requests["LIST"] += 1
            return self._list(request.match_info["bucket"], request.query)
        return web.Response(status=200)

    async def object(self, request: web.Request) -> web.StreamResponse:
        """Answer one object's GET, HEAD, PUT or DELETE."""
        key = f"{request.match_info['bucket']}/{request.match_info['key']}"
        if not request.match_info["key"]:
            return await self.bucket(request)
        self.requests[request.method] += 1
        if request.method in ("PUT", "DELETE"):
            return await self._write(request, key)
        return self._read(request, key)

    async def _write(self, request: web.Request, key: str) -> web.StreamResponse:
        body = _unchunked(request, await request.read())
        conditions = [
            None if name in self._faults.ignores else _condition(request, name)
            for name in ("If-Match", "If-None-Match")
        ]
        write = Write(request.method, key, *conditions)
        self.writes.append(write)
        fault = self._draw(request.method)
        write.fault = fault
        if fault == "before":
            return self._fail(request, write)
        answer = self._delete(key) if request.method == "DELETE" else self._put(write, body)
        write.status = answer.status
        write.stored = answer.status < 300
        return self._fail(request, write) if fault == "after" else answer

    def _put(self, write: Write, body: bytes) -> web.Response:
        held = self.objects.get(write.key)
        if write.if_match and held is None:
            return _error(404, "NoSuchKey")
        if held and (write.if_none_match or (write.if_match and write.if_match != held.etag)):
            return _error(412, "PreconditionFailed")
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.objects[write.key] = Stored(body, etag)
        return web.Response(headers={"ETag": f'"{etag}"'})

    def _delete(self, key: str) -> web.Response:
        self.objects.pop(key, None)
        return web.Response(status=204)

    def _read(self, request: web.Request, key: str) -> web.Response:
        held = self.objects.get(key)
        if held is None:
            return _error(404, "NoSuchKey")
        body = held.body
        headers = {
            "ETag": f'"{held.etag}"',
            "Last-Modified": formatdate(0, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        found = _RANGE.fullmatch(request.headers.get("Range", ""))
        if not found or request.method == "HEAD":
            return web.Response(body=body, headers=headers)
        first, last = found.groups()
        start = int(first) if first else max(0, len(body) - int(last))
        end = min(len(body), int(last) + 1) if first and last else len(body)
        if start >= len(body):
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        return web.Response(status=206, body=body[start:end], headers=headers)

    def _list(self, bucket: str, query: Any) -> web.Response:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = int(query.get("max-keys", MOST_KEYS))
        start = len(bucket) + 1
        names = sorted(key[start:] for key in self.objects if key.startswith(f"{bucket}/{prefix}"))
        told: list[tuple[str, bool]] = []
        for name in names:
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            entry = (name, False) if cut < 0 else (name[: cut + len(delimiter)], True)
            if entry[0] > after and (not told or told[-1] != entry):
                told.append(entry)
        page, is_more = told[:most], len(told) > most
        parts = [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            if is_prefix
            else self._content(bucket, name)
            for name, is_prefix in page
        ]
        token = (
            f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>"
            if is_more
            else ""
        )
        return _xml(
            200,
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(is_more).lower()}</IsTruncated>{token}{''.join(parts)}"
            "</ListBucketResult>",
        )

    def _content(self, bucket: str, name: str) -> str:
        held = self.objects[f"{bucket}/{name}"]
        return (
            f"<Contents><Key>{escape(name)}</Key><LastModified>1970-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{held.etag}&quot;</ETag><Size>{len(held.body)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _follow(self, faults: Faults) -> None:
        self._faults, self._random = faults, Random(faults.seed)

    def _draw(self, method: str) -> str | None:
        if method not in self._faults.methods:
            return None
        at = self._random.random()
        if at < self._faults.before:
            return "before"
        return "after" if at < self._faults.before + self._faults.after else None

    def _fail(self, request: web.Request, write: Write) -> web.Response:
        if self._random.random() >= self._faults.reset_share:
            write.status = 503
            return _error(503, "SlowDown")
        write.status = 0
        if request.transport is not None:
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response()


def _unchunked(request: web.Request, body: bytes) -> bytes:
    """Return a body without the frames of aws-chunked.

    Frames are size;signature CRLF data CRLF …, then trailers.
    """
    if not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return body
    whole, at = bytearray(), 0
    while True:
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end].partition(b";")[0], 16)
        if not size:
            return bytes(whole)
        whole += body[line_end + 2 : line_end + 2 + size]
        at = line_end + 2 + size + 2


def _xml(status: int, text: str) -> web.Response:
    return web.Response(
        status=status,
        text=f'<?xml version="1.0" encoding="UTF-8"?>{text}',
        content_type="application/xml",
    )


def _condition(request: web.Request, name: str) -> str | None:
    return request.headers.get(name, "").strip('"') or None


def _error(status: int, code: str) -> web.Response:
    return _xml(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")


async def serve(host: str = "127.0.0.1", port: str = "0") -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(ObjectStore().app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, int(port))
    await site.start()
    print(f"http://{host}:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(*sys.argv[1:3])))
