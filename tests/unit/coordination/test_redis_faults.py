"""What a Redis does that refuses is told in a line, each way as what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError

from klinefleet.workers.coordination.redis_faults import describe, fault_of, in_words
from klinefleet.workers.domain.errors import StoreFault
from tests.servers import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own, whose settings a test may spoil."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.stop()


def full(admin: Redis) -> None:
    admin.config_set("maxmemory", 1)


def a_replica(admin: Redis) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")


def without_replicas(admin: Redis) -> None:
    admin.config_set("min-replicas-to-write", 1)


def with_few_rights(admin: Redis) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-@write")


REFUSALS = {
    full: "is full (maxmemory) and refuses writes; make room in it",
    a_replica: "is a replica, which cannot be written; KLINES_REDIS_URL must name the primary",
    without_replicas: "has fewer replicas than it needs and refuses writes (min-replicas-to-write)",
    with_few_rights: (
        "does not let this user do what the fleet does; allow it all commands and keys (ACL)"
    ),
}


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_each_way_to_refuse_a_write_is_told_alike_from_commands_and_scripts(
    server: RedisServer, spoil: Callable[[Redis], None]
) -> None:
    with server.client() as client:
        script = client.register_script("return redis.call('SET', KEYS[1], 1)")

        def piped() -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.set("key", 1)
                pipe.execute()

        spoil(client)
        for write in (lambda: client.set("key", 1), lambda: script(["key"]), piped):
            with pytest.raises(RedisError) as failed:
                write()
            assert in_words(failed.value) == REFUSALS[spoil]
            assert describe(failed.value) == f"Redis {REFUSALS[spoil]}"
        assert fault_of(server.url) == "", "a question writes nothing"


def test_a_password_that_is_missing_or_wrong_is_told_as_that(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", "the-right-one")
    assert fault_of(server.url) == "asks for a password; write it into KLINES_REDIS_URL"
    wrong = server.url.replace("unix://", "unix://:the-wrong-one@")
    assert fault_of(wrong) == "refuses the user or the password of KLINES_REDIS_URL"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MISCONF Redis is configured to save RDB snapshots, but", "cannot save to its disk"),
        ("UNBLOCKED force unblock from blocking operation", "has become a replica"),
        ("MOVED 3999 127.0.0.1:6381", "is one node of a cluster"),
        ("DENIED Redis is running in protected mode", "is in protected mode"),
        ("LOADING Redis is loading the dataset in memory", "is loading its data"),
        ("ERR max number of clients reached", "has as many clients as it allows"),
        ("WRONGTYPE Operation against a key", "answers with an error (ResponseError)"),
    ],
)
def test_what_a_test_cannot_provoke_is_told_by_its_first_word(text: str, words: str) -> None:
    from redis.exceptions import ResponseError

    assert in_words(ResponseError(text)).startswith(words)


def test_a_redis_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    assert fault_of(f"unix://{tmp_path / 'none.sock'}") == "does not answer"


def test_other_errors_are_told_by_their_names() -> None:
    assert describe(StoreFault("full")) == "StoreFault: full"
    assert describe(KeyError("run")) == "KeyError: 'run'"
