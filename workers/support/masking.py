"""Masking of secrets: passwords in URLs, credentials of the store, signatures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"

#: A shorter password may be part of an ordinary word; in URLs it is masked all the same.
_MIN_LENGTH = 8
#: Variables whose whole value is a secret.
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]*@")
_IN_QUERY = re.compile(
    r"(?i)\b(x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid|password|secret|token)=[^&\s'\"]+"
)


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets of the environment that are long enough to be recognised in any text."""
    found = {environ.get(name, "") for name in _SECRET_VARIABLES}
    found |= {entry.partition(":")[2] for entry in environ.get("FLOWER_BASIC_AUTH", "").split(",")}
    if password := _password(environ.get("KLINES_REDIS_URL", "")):
        found |= {password, unquote(password)}
    recognisable = (secret for secret in found if len(secret) >= _MIN_LENGTH)
    return tuple(sorted(recognisable, key=len, reverse=True))


def mask_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with `***` for passwords in URLs, for signatures and for `secrets`."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}@", text))


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
