"""What must never be read on a screen or in a log: passwords in URLs, keys of the store, whatever
they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"

#: A shorter password would be found in ordinary words; in URLs it is hidden however short.
_SHORTEST = 8
#: Variables whose whole value is a secret.
_SECRET = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]*@")
_IN_QUERY = re.compile(
    r"(?i)\b(x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid|password|secret|token)=[^&\s'\"]+"
)


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets that the environment holds and that are long enough to be known again
    anywhere.
    """
    found = {environ.get(name, "") for name in _SECRET}
    found |= {entry.partition(":")[2] for entry in environ.get("FLOWER_BASIC_AUTH", "").split(",")}
    if password := _password(environ.get("KLINES_REDIS_URL", "")):
        found |= {password, unquote(password)}
    return tuple(
        sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True)
    )


def mask_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with `***` for every password in a URL, every signature and every one of
    `secrets`.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}@", text))


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
