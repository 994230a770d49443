"""Which secrets the environment holds."""

from __future__ import annotations

import pytest

from klinefleet.workers.support.masking import mask_secrets, secrets_in


def test_passwords_and_keys_are_known_also_as_they_are_encoded() -> None:
    environ = {
        "KLINES_REDIS_URL": "redis://:open%20sesame@host",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "FLOWER_BASIC_AUTH": "ann:annes-word,bob:bobs-word",
    }
    found = secrets_in(environ)
    assert set(found) == {
        "open%20sesame",
        "open sesame",
        "wJalrXUtnFEMI",
        "annes-word",
        "bobs-word",
    }
    assert mask_secrets("AUTH open sesame", found) == "AUTH ***"


def test_a_short_password_does_not_riddle_ordinary_words() -> None:
    assert (
        secrets_in({"KLINES_REDIS_URL": "redis://:run@host", "AWS_SECRET_ACCESS_KEY": "test"}) == ()
    )
    assert (
        mask_secrets("redis://:run@host: the run is over") == "redis://:***@host: the run is over"
    )


def test_an_address_that_is_none_is_no_error_here() -> None:
    assert secrets_in({"KLINES_REDIS_URL": "redis://[::1"}) == ()


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:p@ss@host", "rediss://user:***@host"),
        ("redis://host", "redis://host"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_password_in_an_address_is_never_shown(url: str, masked: str) -> None:
    assert mask_secrets(url) == masked
