"""A bucket of the archive over HTTP on loopback, with S3's listings and faults on request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LIST = "/list"
MODIFIED = "Fri, 05 Jan 2024 08:33:12 GMT"
MODIFIED_MS = 1704443592000


@dataclass(frozen=True)
class Answer:
    """An answer sent in place of the real one.

    The last `cut` bytes of the body are held back; a body of None is no answer at all.
    """

    status: int = 200
    body: bytes | None = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


class Bucket:
    """Objects by key, and prepared answers by path, which come first.

    A list of answers is given out one by one.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.answers_once: dict[str, Answer] = {}
        self.pages: list[Answer] = []
        self.asked: list[str] = []
        self.silent = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.005,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def queries(self) -> list[dict[str, str]]:
        """The listings that were asked for."""
        found = [urlsplit(path.partition(" ")[2]) for path in self.asked]
        return [
            {name: told[0] for name, told in parse_qs(url.query).items()}
            for url in found
            if url.path == LIST
        ]

    def answer(self, target: str) -> Answer:
        url = urlsplit(target)
        if url.path == LIST:
            query = {name: told[0] for name, told in parse_qs(url.query).items()}
            return (
                self.pages.pop(0)
                if self.pages
                else Answer(body=self._listing(**_named(query)).encode())
            )
        key = unquote(url.path).removeprefix("/")
        if key in self.answers_once:
            return self.answers_once.pop(key)
        if key in self.answers:
            return self.answers[key]
        if key not in self.objects:
            return Answer(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>")
        return Answer(body=self.objects[key], headers={"ETag": '"e1"', "Last-Modified": MODIFIED})

    def _listing(
        self, prefix: str = "", marker: str = "", delimiter: str = "", max_keys: str = "1000"
    ) -> str:
        """A page of ListObjects: NextMarker only with a delimiter, a folder counts as one key."""
        entries = dict[str, str]()
        most, is_truncated = min(1000, int(max_keys)), False
        for key in sorted(self.objects):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix) or key <= marker:
                continue
            folder = (
                f"{prefix}{rest.partition(delimiter)[0]}/"
                if delimiter and delimiter in rest
                else ""
            )
            if (folder or key) in entries or folder == marker != "":
                continue
            if len(entries) == most:
                is_truncated = True
                break
            entries[folder or key] = (
                _folder(folder) if folder else _contents(key, self.objects[key])
            )
        last = list(entries)[-1] if entries else ""
        told = f"<NextMarker>{escape(last)}</NextMarker>" if is_truncated and delimiter else ""
        return listing("".join(entries.values()) + told, is_truncated=is_truncated)


def listing(inside: str, *, is_truncated: bool = False) -> str:
    """A ListBucketResult with this inside."""
    truncated = f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
    content = f"<Name>data.binance.vision</Name>{truncated}{inside}"
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
        f"{namespace}>{content}</ListBucketResult>"
    )


def _named(query: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in query.items()}


def _folder(path: str) -> str:
    return f"<CommonPrefixes><Prefix>{escape(path)}</Prefix></CommonPrefixes>"


def _contents(key: str, body: bytes) -> str:
    modified = "<LastModified>2024-01-05T08:33:12.000Z</LastModified>"
    etag, size = "<ETag>&quot;e1&quot;</ETag>", f"<Size>{len(body)}</Size>"
    return (
        f"<Contents><Key>{escape(key)}</Key>{modified}{etag}{size}"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            bucket.asked.append(f"{self.command} {self.path}")
            answer = bucket.answer(self.path)
            if answer.body is None:
                bucket.silent.wait(30)
                self.close_connection = True
                return
            self.send_response(answer.status)
            headers = {"Content-Length": str(len(answer.body))} | dict(answer.headers)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = bool(answer.cut)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
