"""The Celery app. Task modules are named as strings, since workers must not import tasks."""

from __future__ import annotations

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

#: After this time the broker delivers an unacknowledged message again. Lost work is found earlier,
#: by its lease; this is the last resort, so it is longer than any task can take (waits included).
VISIBILITY_TIMEOUT_S = 3600

#: Our transport has its own name, so other Celery apps of the process keep theirs. Its class is
#: named as a string and imported by the first connection; many commands make none.
TRANSPORT = "klinefleet"
TRANSPORT_ALIASES[TRANSPORT] = "klinefleet.workers.patches.redis_transport:Transport"

app = Celery(
    "klines",
    set_as_current=False,
    include=[
        f"klinefleet.tasks.{name}" for name in ("plan", "fetch", "compact", "catalog", "verify")
    ],
)
app.conf.update(
    broker_transport=TRANSPORT,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_serializer="json",
    accept_content=["json"],
    timezone="UTC",
    result_accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    # A Redis that refuses (it is full, or a replica) is waited for like one that is away.
    broker_channel_error_retry=True,
    # Threads cannot be cancelled. Work that went on without a connection is found by its lease or
    # its result.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    },
)


def connect(settings: Settings, services: Services | None = None) -> Celery:
    """Return the app, connected to the Redis of the settings.

    Its tasks find `services` as `self.app.services`.
    """
    app.conf.broker_url = broker_url(settings.redis_url or "")
    app.services = services
    return app


def connect_as_library(settings: Settings) -> Celery:
    """Return the app, connected by kombu's own transport, whose name Flower reads from the URL."""
    app.conf.update(broker_url=broker_url(settings.redis_url or "", "redis"), broker_transport=None)
    return app


def broker_url(redis_url: str, transport: str = TRANSPORT) -> str:
    """Return the Redis URL in kombu's form."""
    return redis_url.replace("unix://", f"{transport}+socket://", 1)
