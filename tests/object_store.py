"""A small S3 server in memory, with conditional PUTs and faults on demand: `python -m tests.object_store`.

Prints its address. PUT /faults?before=0.1&after=0.05 has that share of PUTs fail before, or after, they are stored;
GET /faults tells how many did, and how many PUTs under lake/ carried no condition.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Bucket:
    """Objects by key, and what is to go wrong."""

    objects: dict[str, bytes] = field(default_factory=dict)
    before: float = 0.0
    after: float = 0.0
    failed: int = 0
    unconditional: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(3))

    async def put(self, request: web.Request) -> web.Response:
        key, body = request.match_info["key"], await request.read()
        held, wants = self.objects.get(key), request.headers.get("If-Match", "").strip('"')
        if self.rng.random() < self.before:
            return self._fail()
        if not wants and "If-None-Match" not in request.headers:
            self.unconditional += "lake/market=" in key
        if (wants and (held is None or etag(held) != wants)) or (
            "If-None-Match" in request.headers and held is not None
        ):
            return error(412, "PreconditionFailed")
        self.objects[key] = body
        if self.rng.random() < self.after:
            return self._fail()
        return web.Response(headers={"ETag": f'"{etag(body)}"'})

    async def get(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if not key:
            return self._list(request)
        body = self.objects.get(key)
        if body is None:
            return error(404, "NoSuchKey")
        headers = {"ETag": f'"{etag(body)}"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not span:
            return web.Response(body=body, headers=headers)
        first = int(span[1]) if span[1] else max(0, len(body) - int(span[2]))
        last = min(len(body), int(span[2]) + 1) if span[1] and span[2] else len(body)
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(body)}"
        return web.Response(status=206, body=body[first:last], headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        self.objects.pop(request.match_info["key"], None)
        return web.Response(status=204)

    async def faults(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            self.before, self.after = (float(request.query.get(name, 0)) for name in ("before", "after"))
        return web.json_response({"failed": self.failed, "unconditional": self.unconditional})

    def _list(self, request: web.Request) -> web.Response:
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        keys, folders = [], set()
        for key in sorted(k for k in self.objects if k.startswith(prefix)):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                folders.add(prefix + head + delimiter)
            else:
                keys.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{etag(self.objects[key])}&quot;</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in keys
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        counts = f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>"
        return xml(200, f"<ListBucketResult {XMLNS}><Name>b</Name>{counts}{contents}{common}</ListBucketResult>")

    def _fail(self) -> web.Response:
        self.failed += 1
        return error(503, "SlowDown")


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def error(status: int, code: str) -> web.Response:
    return xml(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")


def xml(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0"?>{text}', content_type="application/xml")


async def main() -> None:
    bucket, app = Bucket(), web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/faults", bucket.faults)
    app.router.add_get("/lake{slash:/?}{key:.*}", bucket.get)
    app.router.add_put("/lake/{key:.+}", bucket.put)
    app.router.add_delete("/lake/{key:.+}", bucket.delete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
