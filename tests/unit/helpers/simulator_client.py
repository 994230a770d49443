"""Requests to the stand-in's archive: raw answers, listing pages, and lines of zips."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from xml.etree import ElementTree

from tests.unit.helpers.simulated_exchange import Client

LIST = "/archive-list"
CHECKSUM = ".CHECKSUM"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class Raw:
    """An answer as it came; names of headers in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Key:
    """One object of a listing."""

    path: str
    modified: str
    etag: str
    size: int


@dataclass(frozen=True)
class Listed:
    """One page of a listing."""

    keys: list[Key]
    folders: list[str]
    is_truncated: bool
    next_marker: str | None

    @property
    def paths(self) -> list[str]:
        return [key.path for key in self.keys]


async def raw(client: Client, path: str, method: str = "GET") -> Raw:
    """Ask for a path, or for a key of the archive, and take what comes."""
    async with client.session.request(method, f"/{path.removeprefix('/')}") as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Raw(answer.status, headers, await answer.read())


async def listed(
    client: Client,
    prefix: str = "",
    *,
    marker: str = "",
    delimiter: str = "",
    most: int | None = None,
) -> Listed:
    """Ask for one page of the listing."""
    query = {"prefix": prefix, "marker": marker, "delimiter": delimiter} | (
        {"max-keys": str(most)} if most else {}
    )
    told = {name: value for name, value in query.items() if value}
    async with client.session.get(LIST, params=told) as answer:
        assert answer.status == 200
        return page_of(await answer.text())


async def all_listed(
    client: Client, prefix: str, *, delimiter: str = "", most: int | None = None
) -> list[Listed]:
    """Ask for page after page, the way a client of S3 does."""
    pages = [await listed(client, prefix, delimiter=delimiter, most=most)]
    while pages[-1].is_truncated:
        marker = pages[-1].next_marker or pages[-1].paths[-1]
        pages.append(await listed(client, prefix, marker=marker, delimiter=delimiter, most=most))
    return pages


def page_of(text: str) -> Listed:
    """Return what a ListBucketResult tells."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{NAMESPACE}ListBucketResult"
    keys = [
        Key(
            _text(one, "Key"),
            _text(one, "LastModified"),
            _text(one, "ETag"),
            int(_text(one, "Size")),
        )
        for one in root.iter(f"{NAMESPACE}Contents")
    ]
    folders = [_text(one, "Prefix") for one in root.iter(f"{NAMESPACE}CommonPrefixes")]
    return Listed(
        keys, folders, _text(root, "IsTruncated") == "true", root.findtext(f"{NAMESPACE}NextMarker")
    )


def lines_of(body: bytes, member: str | None = None) -> list[str]:
    """Return the lines of the one CSV in a zip, which is called `member` if that is told."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        (name,) = archive.namelist()
        assert member in (None, name)
        return archive.read(name).decode().splitlines()


def rows_of(body: bytes) -> list[str]:
    """Return the lines of the one CSV in a zip, without the line of names it may have."""
    return [line for line in lines_of(body) if line[0].isdigit()]


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.findtext(f"{NAMESPACE}{name}")
    assert found is not None, name
    return found
