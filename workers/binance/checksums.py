"""The SHA-256 of a file in a CHECKSUM file, in the spellings that checksum tools write."""

from __future__ import annotations

import re

_HEX = rb"(?P<hex>[0-9A-Fa-f]{64})"
#: What `sha256sum` writes: a hash, blanks, perhaps a star for binary mode, a name.
_GNU = re.compile(_HEX + rb"[ \t]+\*?(?P<name>.+)")
#: What `shasum --tag` and `openssl dgst` write: `SHA256 (name) = hash`.
_BSD = re.compile(rb"SHA(?:2-)?-?256[ \t]*\((?P<name>.+)\)[ \t]*=[ \t]*" + _HEX, re.IGNORECASE)
_BARE = re.compile(_HEX)
#: Encodings of symbols in other scripts, as tools on other systems write names.
_ENCODINGS = (
    *("utf-8", "cp437", "gb18030", "big5", "shift_jis", "euc_kr"),
    *("cp866", "cp1251", "koi8_r", "cp1252"),
)


def find_sha256(body: bytes, name: str) -> str | None:
    """Return the SHA-256 that a CHECKSUM file has for the file `name`, in lower case.

    Lines of other files are passed over. A hash without a name is taken only if it is all that
    there is: then it is of the file beside which the CHECKSUM lies. None without a hash of the
    file, or with two that differ.
    """
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        body = body.decode("utf-16", "replace").encode()
    lines = [line.strip() for line in body.removeprefix(b"\xef\xbb\xbf").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) == 1 and (bare := _BARE.fullmatch(lines[0])):
        return bare["hex"].decode().lower()
    matches = [_GNU.fullmatch(line) or _BSD.fullmatch(line) for line in lines]
    found = {
        match["hex"].decode().lower()
        for match in matches
        if match and is_name(re.split(rb"[/\\]", match["name"])[-1], name)
    }
    return found.pop() if len(found) == 1 else None


def is_name(raw: bytes, name: str) -> bool:
    """Return whether these bytes are the name, in one of the encodings that tools write."""
    return any(raw == _encoded(name, encoding) for encoding in _ENCODINGS)


def _encoded(name: str, encoding: str) -> bytes | None:
    try:
        return name.encode(encoding)
    except UnicodeEncodeError:
        return None
