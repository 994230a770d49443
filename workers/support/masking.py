"""What must not be shown: secrets, and control characters of text that others have written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"

#: A shorter password may be part of an ordinary word; in URLs it is masked all the same.
_MIN_LENGTH = 8
#: Variables whose whole value is a secret.
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "REDIS_PASSWORD")
#: Variables that are URLs, perhaps with a password.
_URL_VARIABLES = (
    *("KLINES_REDIS_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy"),
)

_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]*@")
#: What comes before the host of a URL that may be misspelled, so that a password may be anywhere.
_SCHEME = r"^((?:rediss?|unix|s3|https?):?/{0,2})?"
_BEFORE_HOST = re.compile(rf"{_SCHEME}.*@", re.IGNORECASE | re.DOTALL)
#: The same where the @ itself is missing: nothing before a colon, or two of them.
_WITHOUT_HOST = re.compile(
    r"^((?:rediss?|s3|https?):?//)(?::[^/]+|[^/\[\]:]+:[^/:]*:[^/]*)", re.IGNORECASE | re.DOTALL
)
_IN_QUERY = re.compile(
    r"(?i)\b(x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid|password|secret|token)=[^&\s'\"]+"
)

#: Control characters but newline and tab, line separators, and format characters that turn text
#: around or hide in it. Emoji are made of some (U+200D), but no symbol is.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """Return the text with control characters as JSON escapes them: `\\u001b`.

    Otherwise a symbol, a message of the exchange or a file's name could move a terminal's cursor,
    colour it, or write from right to left. Newlines and tabs stay.
    """
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return the same, with newlines and tabs escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets of the environment that are long enough to be recognised in any text."""
    found = {environ.get(name, "") for name in _SECRET_VARIABLES}
    found |= {entry.partition(":")[2] for entry in environ.get("FLOWER_BASIC_AUTH", "").split(",")}
    for name in _URL_VARIABLES:
        if password := _password(environ.get(name, "")):
            found |= {password, unquote(password)}
    recognisable = (secret for secret in found if len(secret) >= _MIN_LENGTH)
    return tuple(sorted(recognisable, key=len, reverse=True))


def mask_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with `***` for passwords in URLs, for signatures and for `secrets`."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}@", text))


def mask_url(text: str, message: str) -> str:
    """Return a message about the URL `text`, which may be misspelled, without what may be secret.

    All between its scheme and its last @ is masked, with the name of the user.
    """
    if "@" in text:
        masked = _BEFORE_HOST.sub(rf"\1{HIDDEN}@", text)
    else:
        masked = _WITHOUT_HOST.sub(rf"\1{HIDDEN}", text)
    masked = _IN_QUERY.sub(rf"\1={HIDDEN}", masked)
    for shown, hidden in ((repr(text)[1:-1], repr(masked)[1:-1]), (text, masked)):
        message = message.replace(shown, hidden)
    return message


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
