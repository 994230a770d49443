"""What a refused request says of the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import RedisError

from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import RequestError


@contextmanager
def on_refusal(outcome: str) -> Iterator[None]:
    """Append what happened to the data to each RequestError, or error of Redis, raised inside.

    Parsers are shared by commands that queue, read or check, so only the command knows the
    outcome: "nothing was queued".
    """
    try:
        yield
    except RequestError as error:
        raise type(error)(f"{error}; {outcome}") from error
    except RedisError as error:
        raise RequestError(f"{describe(error)}; {outcome}") from error
