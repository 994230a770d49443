"""Which secrets the environment holds, and which characters are not shown as they are."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from klinefleet.workers.support.masking import (
    mask_secrets,
    mask_url,
    one_line,
    printable,
    secrets_in,
)


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\u001b[31mred\u001b[0m"),
        ("a\rb\x08\x7f\x9b", r"a\u000db\u0008\u007f\u009b"),
        ("\u202eTDSU", r"\u202eTDSU"),
        ("BTC\u200bUSDT\u2066\ufeff\u2028", r"BTC\u200bUSDT\u2066\ufeff\u2028"),
        ("\U000e0041", r"\udb40\udc41"),
        ("\ud800", r"\ud800"),
        ("币安人生USDT ДОГЕ é\n\tx", "币安人生USDT ДОГЕ é\n\tx"),
    ],
)
def test_a_control_character_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(json.dumps(text, ensure_ascii=False)).isprintable()
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text
    assert one_line(text) == shown.replace("\n", r"\n").replace("\t", r"\t")


def test_every_control_and_direction_character_is_escaped() -> None:
    """Arabic number signs and the like are of the same category, and harmless."""
    harmless = ("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND", "MUSICAL")
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp"):
            continue
        name = unicodedata.name(char, "")
        if name == "ARABIC LETTER MARK" or not name.startswith(harmless):
            assert printable(char).isascii(), hex(number)
