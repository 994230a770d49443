"""A worker's metrics over HTTP: what its lanes have counted, and what Redis knows of the fleet.

A process of its own answers, so that the one that forks the lanes never has a thread, and a scrape
never costs a lane.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from klinefleet.tasks.fleet.metrics_collector import FleetCollector
from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.support import metrics
from klinefleet.workers.support.settings import Settings

logger = logging.getLogger(__name__)

#: How long Redis may take to answer one question of a scrape, and a client to send its own;
#: seconds.
REDIS_S, CLIENT_S = 0.8, 5.0


class MetricsServer:
    """The address of a worker's metrics and the folder its lanes count in.

    SettingsError where the port is taken.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listener = _listen(settings.metrics_address, settings.metrics_port)
        base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="klines-metrics-", dir=base))
        logger.info(
            "metrics at http://%s:%d/metrics", settings.metrics_address, settings.metrics_port
        )

    def record(self, lane: str) -> None:
        """Have this process, which is a lane's, count; the address stays with those it belongs to."""
        self._listener.close()
        metrics.count_in_folder(self.folder, lane)

    def serve(self) -> int:
        """Answer scrapes in this process until it is told to stop, then clear up; returns its exit
        code.

        It is told last, when no lane counts any more, or by the kernel when whoever started it was
        killed.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        # Told alone to stop, it has deleted the folder, and is started again.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        server = _HttpServer(
            self._listener, registry_of(self.folder, self._settings.redis_url or "")
        )
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        signal.sigwait({signal.SIGTERM})
        self.close()
        return 0

    def close(self) -> None:
        """Give the address back and delete what the lanes counted in."""
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def registry_of(folder: Path, redis_url: str) -> CollectorRegistry:
    """Return all that a worker exposes, read anew at each scrape, which ends within two seconds
    without Redis too.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    redis = Redis.from_url(
        redis_url,
        socket_timeout=REDIS_S,
        socket_connect_timeout=REDIS_S,
        retry=Retry(NoBackoff(), 0),
    )
    registry.register(FleetCollector(redis))
    return registry


class _HttpServer(ThreadingHTTPServer):
    """Answers on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(
            listener.getsockname(), _Handler.factory(registry), bind_and_activate=False
        )
        self.socket.close()
        self.socket = listener


class _Handler(MetricsHandler):
    """Tells the metrics under /metrics and nothing elsewhere."""

    timeout = CLIENT_S

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/metrics":
            super().do_GET()
        else:
            self.send_error(404)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"KLINES_METRICS_PORT was {port}; {address} cannot be listened on there "
            f"({os.strerror(error.errno or 0)}), "
            "so no worker was started"
        ) from error
