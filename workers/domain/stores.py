"""Stores: which text is a store's URL, and how a store is named in messages."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from klinefleet.workers.domain.errors import SettingsError

_BUCKET = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]*(/.*)?")
#: What a URL begins with, also one with a slash or a colon too few: `s3:/x`, `s3//x`, `gs:x`.
_LIKE_A_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|(s3[an]?|https?|gs|file)//", re.IGNORECASE)
_LIKE_A_BUCKET = re.compile(r"s3[an]?(:/*|//+)", re.IGNORECASE)
#: A host of Amazon's, which would be a folder of that name.
_S3_HOST = re.compile(r"[^/]*\.amazonaws\.com(/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoreRef:
    """A store: the id that is written in it, and the URL at which a process finds it."""

    id: str
    """Empty where none is written yet, or it could not be read."""
    url: str

    def __str__(self) -> str:
        return f"{self.url} (id {self.id})" if self.id else f"{self.url} (no id known)"

    def to_json(self) -> str:
        """Return the store as `from_json` reads it."""
        return json.dumps({"id": self.id, "url": self.url})

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Return the store of `to_json`; further fields, of a later version, are ignored."""
        fields = json.loads(text)
        return cls(str(fields["id"]), str(fields["url"]))


def parse_store_url(name: str, text: str) -> str:
    """Return the URL of a store without a slash at its end: a folder, or s3://bucket/prefix.

    `~` and `~user` at its start are home folders. SettingsError, which names the setting and the
    value, for what only looks like one of them. A folder with a colon in its first name, or with a
    first name that begins with `~`, is written with ./ before it.
    """
    is_bucket = _BUCKET.fullmatch(text)
    is_url = "://" in text or _LIKE_A_URL.match(text) or _S3_HOST.match(text)
    if text != text.strip() or (is_url and not is_bucket):
        raise SettingsError(
            f"{name} was {text!r}; it must be a folder or s3://bucket/prefix{_hint(text)}"
        )
    return _with_home(name, text).rstrip("/") or "/"


def absolute_url(store_url: str) -> str:
    """Return the URL with an absolute folder: the same from any working folder."""
    if store_url.startswith("s3://"):
        return store_url
    return str(Path(_with_home("the store's URL", store_url)).absolute())


def _with_home(name: str, text: str) -> str:
    """Return a folder with its home folder written out; SettingsError if that is not known."""
    if not text.startswith("~"):
        return text
    user = text[1:].partition("/")[0]
    try:
        # An empty HOME would make it a folder of the root.
        if user or os.environ.get("HOME") != "":
            return str(Path(text).expanduser())
    except RuntimeError:
        pass
    whose = f"of the user {user!r}" if user else "of this user"
    raise SettingsError(
        f"{name} was {text!r}, but the home folder {whose} is not known; write the folder's whole "
        f"path, or ./{text} for a folder of that name"
    )


def _hint(text: str) -> str:
    """Return what was probably meant."""
    if found := _LIKE_A_BUCKET.match(text.strip()):
        meant = "s3://" + text.strip()[found.end() :]
        return f"; {meant} is a bucket" if _BUCKET.fullmatch(meant) else ""
    if "/" not in text and text == text.strip():
        return f"; ./{text} is a folder"
    return ""
