"""The Celery app. Task modules are named as strings: workers know nothing of tasks."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from klinefleet.workers.support.settings import Settings

#: How long a message of a vanished worker stays with it at most. Lost work is found earlier, by its lease; this only
#: clears what is left, so it is longer than any task can take (waits included).
VISIBILITY_TIMEOUT_S = 3600
# Named as a string: it is imported where a connection is made, and many commands make none.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "klinefleet.workers.patches.redis_transport:Transport"))
app = Celery(
    "klines", include=[f"klinefleet.tasks.{name}" for name in ("plan", "fetch", "compact", "catalog", "verify")]
)
app.conf.update(
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
    # Threads cannot be cancelled; what ran while the connection was lost is found by its lease or its result.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    },
)


def connect(settings: Settings, toolbox: Any = None) -> Celery:
    """Point the app at the settings' Redis and hand it the toolbox its tasks work with."""
    app.conf.broker_url = broker_url(settings.redis_url or "")
    app.toolbox = toolbox
    return app


def broker_url(redis_url: str) -> str:
    """Return the Redis address as the broker library spells it."""
    return redis_url.replace("unix://", "redis+socket://", 1)
