"""Describes errors of Redis in one line each, alike in commands and in lanes."""

from __future__ import annotations

from redis import Redis, RedisError
from redis.exceptions import ConnectionError, TimeoutError

from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.redis_keys import WORKERS, WRITABLE

#: By the code with which Redis begins an error.
_WORDS = {
    "NOAUTH": "asks for a password; write it into KLINES_REDIS_URL",
    "WRONGPASS": "refuses the user or the password of KLINES_REDIS_URL",
    "NOPERM": "does not let this user do what the fleet does; allow it all commands and keys (ACL)",
    "READONLY": "is a replica, which cannot be written; KLINES_REDIS_URL must name the primary",
    "OOM": "is full (maxmemory) and refuses writes; make room in it",
    "MISCONF": "cannot save to its disk and refuses writes; make room on the disk",
    "NOREPLICAS": "has fewer replicas than it needs and refuses writes (min-replicas-to-write)",
    "UNBLOCKED": "has become a replica, which cannot be written",
    "MASTERDOWN": "is a replica that has lost its primary",
    "LOADING": "is loading its data",
    "MAXCLIENTS": "has as many clients as it allows (maxclients)",
    "DENIED": "is in protected mode; give it a password, or an address of its own",
    **dict.fromkeys(
        ("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT", "TRYAGAIN"),
        "is one node of a cluster; the fleet needs a Redis that is none",
    ),
}
#: By a part of the texts of redis-py and of scripts, which lack the code.
_CODES = {
    "Authentication required": "NOAUTH",
    "invalid username-password": "WRONGPASS",
    "invalid password": "WRONGPASS",
    "no permissions": "NOPERM",
    "ACL failure": "NOPERM",
    "read only replica": "READONLY",
    "maxmemory": "OOM",
    "max number of clients": "MAXCLIENTS",
}


def in_words(error: BaseException) -> str:
    """Return what Redis does, as the rest of a sentence that begins with "Redis"."""
    text = str(error).rpartition("caused error: ")[2]  # the rest names a command of a pipeline
    code = getattr(error, "status_code", None) or text.partition(" ")[0].lstrip("-")
    if code not in _WORDS:
        code = next((found for part, found in _CODES.items() if part in text), code)
    if code in _WORDS:
        return _WORDS[code]
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, ConnectionError | OSError | ValueError):
        return "does not answer"
    return f"answers with an error ({type(error).__name__})"


def describe(error: BaseException) -> str:
    """Return an error in one line: Redis's in our words, any other by its name."""
    if isinstance(error, RedisError):
        return f"Redis {in_words(error)}"
    return error.reason if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"


def fault_of(url: str) -> str:
    """Return in words why Redis at `url` does not answer a question; empty if it does."""
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2, retry=None) as client:
            client.exists(WORKERS)
    except (RedisError, OSError, ValueError) as error:
        return in_words(error)
    return ""


def require_writable(redis: Redis) -> None:
    """Raise RedisError unless Redis can be written."""
    redis.set(WRITABLE, 1, px=1_000)
