"""The archive's routes: files and checksums below /data, the listing, and their control."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import web

from deploy.simulator.archive.faults import FileFault, FilePlan
from deploy.simulator.archive.listing import MOST_KEYS, list_keys, xml
from deploy.simulator.archive.names import Cycle, File, parse
from deploy.simulator.archive.state import CHECKSUM, Archive, FileCall
from deploy.simulator.checked import checked
from deploy.simulator.moments import SECOND_MS

LISTING = "/archive-list"
XML = "application/xml"
NOT_FOUND = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
    "<Message>The specified key does not exist.</Message></Error>"
)
REFUSED = (
    '<?xml version="1.0" '
    'encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)


class ArchiveRoutes:
    """Answers for an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def add_to(self, app: web.Application) -> None:
        """Register the archive's paths and its control."""
        app.router.add_get("/data/{rest:.*}", self.file)
        app.router.add_get(LISTING, self.listing)
        app.router.add_get(f"{LISTING}/", self.listing)
        app.router.add_get("/sim/archive", checked(self.report))
        app.router.add_delete("/sim/archive", checked(self.forget))
        app.router.add_put("/sim/archive", checked(self.follow))
        app.router.add_post("/sim/archive/reissue", checked(self.reissue))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Answer with a zip or its CHECKSUM, as it should be or wrong."""
        path = f"data/{request.match_info['rest']}"
        call = await self._arrived(request, path)
        if self._archive.plan.status:
            return _told(call, self._archive.plan.status, REFUSED)
        file = parse(path.removesuffix(CHECKSUM))
        if file is None or not self._archive.is_out(file):
            call.fault = self._archive.fault_of(file) if file else None
            return _told(call, HTTPStatus.NOT_FOUND, NOT_FOUND)
        if path.endswith(CHECKSUM):
            return await self._checksum(call, file)
        return await self._zip(request, call, file)

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page of keys, as S3's first ListObjects does."""
        call = await self._arrived(request, f"{LISTING}?{request.query_string}")
        if self._archive.plan.status:
            return _told(call, self._archive.plan.status, REFUSED)
        query = request.query
        prefix, marker, delimiter = (
            query.get(name, "") for name in ("prefix", "marker", "delimiter")
        )
        asked = query.get("max-keys", str(MOST_KEYS))
        if delimiter not in ("", "/") or not (asked.isascii() and asked.isdecimal()):
            return _told(
                call, HTTPStatus.BAD_REQUEST, "<Error><Code>InvalidArgument</Code></Error>"
            )
        most = min(int(asked), MOST_KEYS)
        page = list_keys(self._archive, prefix, marker, most, rolled_up=delimiter == "/")
        return _told(call, HTTPStatus.OK, xml(page, prefix, marker, most, delimiter))

    async def report(self, request: web.Request) -> web.Response:
        """Answer with the calls in order; of `?key=…`, with what is wrong with that file."""
        key = request.query.get("key")
        if key is None:
            return web.json_response(self._archive.report())
        file = parse(key)
        if file is None:
            raise ValueError(f"no file can be called {key}")
        return web.json_response(
            {"fault": self._archive.fault_of(file), "out": self._archive.is_out(file)}
        )

    async def forget(self, request: web.Request) -> web.Response:
        """Empty the log of calls."""
        self._archive.forget_calls()
        return web.json_response({})

    async def follow(self, request: web.Request) -> web.Response:
        """Make files wrong at these rates from now on; no rates, none."""
        wanted = dict(await request.json())
        rates = {FileFault(name): float(rate) for name, rate in wanted.pop("rates", {}).items()}
        only = wanted.pop("only", None)
        self._archive.latency_ms = float(wanted.pop("latency_ms", self._archive.latency_ms))
        plan = FilePlan(rates=rates, only=Cycle(only) if only else None, **wanted)
        self._archive.follow(plan)
        return web.json_response({})

    async def reissue(self, request: web.Request) -> web.Response:
        """Publish one file or several anew: mended, or with the values of so many rows changed."""
        wanted: Any = await request.json()
        for one in wanted if isinstance(wanted, list) else [wanted]:
            self._archive.reissue(str(one["key"]), int(one.get("change", 0)))
        return web.json_response({})

    async def _arrived(self, request: web.Request, path: str) -> FileCall:
        call = FileCall(request.method, path, self._archive.clock())
        self._archive.note(call)
        if self._archive.latency_ms > 0:
            await asyncio.sleep(self._archive.latency_ms / SECOND_MS)
        return call

    def _headers(self, file: File, etag: str, content_type: str) -> dict[str, str]:
        modified = formatdate(self._archive.modified_ms(file) // SECOND_MS, usegmt=True)
        return {"ETag": f'"{etag}"', "Last-Modified": modified, "Content-Type": content_type}

    async def _checksum(self, call: FileCall, file: File) -> web.StreamResponse:
        if self._archive.fault_of(file) is FileFault.NO_CHECKSUM:
            call.fault = FileFault.NO_CHECKSUM
            return _told(call, HTTPStatus.NOT_FOUND, NOT_FOUND)
        made = await asyncio.to_thread(self._archive.serve, file, counts=False)
        call.status, body = HTTPStatus.OK, self._archive.checksum_line(file, made.sha256)
        call.bytes = len(body)
        headers = self._headers(file, self._archive.checksum_etag(file), "binary/octet-stream")
        return web.Response(body=body, headers=headers)

    async def _zip(self, request: web.Request, call: FileCall, file: File) -> web.StreamResponse:
        fault, counts = self._archive.fault_of(file), request.method == "GET"
        call.fault = fault if counts and fault is not FileFault.NO_CHECKSUM else None
        made = await asyncio.to_thread(self._archive.serve, file, counts=counts)
        headers = self._headers(file, self._archive.etag(file), "application/zip")
        call.status, call.bytes = HTTPStatus.OK, len(made.body) if counts else 0
        if call.fault is not FileFault.TRUNCATED or not counts:
            return web.Response(body=made.body, headers=headers)
        cut = web.StreamResponse(headers={**headers, "Content-Length": str(len(made.body))})
        cut.force_close()
        await cut.prepare(request)
        call.bytes = len(made.body) // 2
        await cut.write(made.body[: call.bytes])
        return cut


def _told(call: FileCall, status: int, text: str) -> web.Response:
    body = text.encode()
    call.status, call.bytes = int(status), len(body)
    return web.Response(status=status, body=body, content_type=XML)
