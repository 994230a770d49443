"""A server that answers as no exchange in its right mind would."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.integration.rest_client import PAGE
from tests.unit.helpers.klines import body, opens

Answer = tuple[int, dict[str, str], bytes]
GOOD = body(opens(PAGE.span))


class Local(BaseHTTPRequestHandler):
    """Answers what it is told to, as no exchange in its right mind would."""

    protocol_version = "HTTP/1.1"
    answers: Iterator[Answer]
    drip_s = 0.0
    connections = 0

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_GET(self) -> None:
        status, headers, told = next(self.answers)
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(told)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not self.drip_s:
            self.wfile.write(told)
            return
        for at in range(20):
            self.wfile.write(told[at : at + 1])
            self.wfile.flush()
            time.sleep(self.drip_s)
        self.wfile.write(told[20:])

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has hung up is what some tests are about."""


@contextmanager
def answering(*answers: Answer, drip_s: float = 0.0) -> Iterator[tuple[str, type[Local]]]:
    """A server that gives these answers, the last one for ever."""
    told = itertools.chain(answers, itertools.repeat(answers[-1]))
    handler = type("Handler", (Local,), {"answers": told, "drip_s": drip_s})
    with Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", handler
        finally:
            server.shutdown()
            thread.join()


def dated(**headers: str) -> dict[str, str]:
    return {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())} | headers
