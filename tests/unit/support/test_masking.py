"""Which secrets the environment holds."""

from __future__ import annotations

import pytest

from klinefleet.workers.support.masking import mask_secrets, mask_url, secrets_in


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:port/x", "redis://***@host:port/x"),
        ("redis//:secret@host", "redis//***@host"),
        ("redis:/:secret@host", "redis:/***@host"),
        ("rediss://user:sec/re@t@host/0", "rediss://***@host/0"),
        ("redis://:sec ret@host", "redis://***@host"),
        (":secret@host:6379", "***@host:6379"),
        ("sec/ret@host", "***@host"),
        ("s3://key:sec/ret@bucket/prefix", "s3://***@bucket/prefix"),
        ("https://user:secret@host", "https://***@host"),
        ("redis://:secrethost:6379/0", "redis://***/0"),
        ("redis://user:secret:6379", "redis://***"),
        ("s3:bucket", "s3:bucket"),
        ("arn:aws:s3:::bucket", "arn:aws:s3:::bucket"),
        ("redis://host:port", "redis://host:port"),
        ("redis://[::1]:port", "redis://[::1]:port"),
        ("ftp://host/?password=secret", "ftp://host/?password=***"),
        ("./data", "./data"),
    ],
)
def test_a_password_in_a_misspelled_address_is_never_shown(url: str, shown: str) -> None:
    message = mask_url(url, f"it was {url!r}; ./{url} is a folder")
    assert message == f"it was {shown!r}; ./{shown} is a folder"


def test_passwords_of_proxies_are_known() -> None:
    environ = {"HTTPS_PROXY": "http://ann:annes-word@proxy:3128", "all_proxy": "none"}
    assert secrets_in(environ) == ("annes-word",)
