"""A worker's metrics over HTTP: the counters of its lanes, and the fleet's gauges from Redis.

A process of its own serves them: the supervisor, which forks the lanes, must have no threads, and a
scrape must not slow a lane down.
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

from klinefleet.tasks.fleet.join import learn_store_id
from klinefleet.tasks.fleet.metrics_collector import FleetCollector
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.services import Services
from klinefleet.workers.support import metrics
from klinefleet.workers.support.folders import make_private, runtime_folder
from klinefleet.workers.support.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds that Redis may take for one command of a scrape.
REDIS_TIMEOUT_S = 0.8
#: Seconds that a client may take to send its request.
CLIENT_TIMEOUT_S = 5.0


class MetricsServer:
    """The listening socket of a worker's metrics, and the folder of its lanes' counters.

    `store` is the one that the lanes serve.

    Raises SettingsError if the port is taken or the folder cannot be made.
    """

    def __init__(self, settings: Settings, store: StoreRef) -> None:
        self._settings = settings
        self._store = store
        self._listener = _listen(settings.metrics_address, settings.metrics_port)
        self.folder = _new_folder()
        logger.info(
            "metrics at http://%s:%d/metrics", settings.metrics_address, settings.metrics_port
        )

    def record_lane(self, lane: str) -> None:
        """Record the metrics of this process, which is a lane's; close its copy of the socket."""
        self._listener.close()
        metrics.count_in_folder(self.folder, lane)

    def serve(self) -> int:
        """Answer scrapes in this process until SIGTERM, then clean up; return the exit code.

        The supervisor sends the signal when all lanes have ended; the kernel does if the supervisor
        is killed.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        # A server that was terminated alone has deleted the folder before it is started again.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        services = Services(self._settings, own_store=self._store)
        registry = build_registry(self.folder, self._settings.redis_url or "", services.fleet_store)
        server = _HttpServer(self._listener, registry)
        threading.Thread(
            target=learn_store_id, args=(services, threading.Event()), name="store-id", daemon=True
        ).start()
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        signal.sigwait({signal.SIGTERM})
        self.close()
        return 0

    def close(self) -> None:
        """Close the socket and delete the folder."""
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _new_folder() -> Path:
    try:
        make_private(runtime_folder())
        return Path(tempfile.mkdtemp(prefix="metrics-", dir=runtime_folder()))
    except OSError as error:
        hint = "set XDG_RUNTIME_DIR to a folder of your own"
        raise SettingsError(
            f"no folder for metrics in {runtime_folder()}: {error.strerror}; {hint}"
        ) from error


def build_registry(
    folder: Path, redis_url: str, fleet_store: FleetStore | None = None
) -> CollectorRegistry:
    """Return a registry of all that a worker exports, read at each scrape.

    `fleet_store` knows the worker's own store. A scrape ends within two seconds also without Redis.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    redis = Redis.from_url(
        redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    registry.register(FleetCollector(redis, fleet_store))
    return registry


class _HttpServer(ThreadingHTTPServer):
    """An HTTP server on a socket that is listening already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(
            listener.getsockname(), _Handler.factory(registry), bind_and_activate=False
        )
        self.socket.close()
        self.socket = listener


class _Handler(MetricsHandler):
    """Serves the metrics under /metrics, and 404 elsewhere."""

    timeout = CLIENT_TIMEOUT_S

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
        reason = os.strerror(error.errno or 0)
        raise SettingsError(
            f"KLINES_METRICS_PORT was {port}; cannot listen there on {address} ({reason}), "
            "so no worker was started"
        ) from error
