"""The bucket's listing: keys in byte order under a prefix, a page at a time.

Folders take the place of their keys where a delimiter is given.

A symbol's folder is listed as soon as the symbol is listed, some days before its first file is out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from deploy.simulator.archive.names import MARKET_FOLDERS, Cycle, Folder, spelled
from deploy.simulator.archive.state import Archive, Entry
from deploy.simulator.kinds import Kind, kinds_of
from deploy.simulator.markets import Market
from deploy.simulator.moments import SECOND_MS

MOST_KEYS = 1000
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
BUCKET = "data.binance.vision"
#: The folders above those of the markets.
TOP = {
    "": ("data/",),
    "data/": ("data/futures/", "data/spot/"),
    "data/futures/": ("data/futures/cm/", "data/futures/um/"),
}


@dataclass(slots=True)
class KeyPage:
    """One page of a listing."""

    keys: list[Entry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    is_truncated: bool = False
    last: str = ""


def list_keys(archive: Archive, prefix: str, marker: str, most: int, *, rolled_up: bool) -> KeyPage:
    """Return the keys under a prefix after a marker.

    `rolled_up` lists folders in place of the keys below them.
    """
    page = KeyPage()
    if not most:
        return page
    for found in _under(archive, "", prefix, marker, rolled_up=rolled_up):
        if len(page.keys) + len(page.folders) == most:
            page.is_truncated = True
            break
        if isinstance(found, Entry):
            page.keys.append(found)
            page.last = found.path
        else:
            page.folders.append(found)
            page.last = found
    return page


def xml(page: KeyPage, prefix: str, marker: str, most: int, delimiter: str) -> str:
    """Return a page as the bucket writes it; only one with a delimiter has the next marker."""
    parts = [
        f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><Marker>{escape(marker)}</Marker>"
    ]
    if page.is_truncated and delimiter:
        parts.append(f"<NextMarker>{escape(page.last)}</NextMarker>")
    parts.append(f"<MaxKeys>{most}</MaxKeys>")
    if delimiter:
        parts.append(f"<Delimiter>{escape(delimiter)}</Delimiter>")
    parts.append(f"<IsTruncated>{str(page.is_truncated).lower()}</IsTruncated>")
    parts += [_contents(entry) for entry in page.keys]
    parts += [
        f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
        for folder in page.folders
    ]
    body = "".join(parts)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
        f'xmlns="{NAMESPACE}">{body}</ListBucketResult>'
    )


def _contents(entry: Entry) -> str:
    modified = datetime.fromtimestamp(entry.modified_ms // SECOND_MS, UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.000Z"
    )
    return (
        f"<Contents><Key>{escape(entry.path)}</Key><LastModified>{modified}</LastModified>"
        f"<ETag>&quot;{entry.etag}&quot;</ETag><Size>{entry.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _under(
    archive: Archive, path: str, prefix: str, marker: str, *, rolled_up: bool
) -> Iterator[Entry | str]:
    """Yield what lies under a folder and the prefix, after the marker.

    Branches that cannot match are not walked.
    """
    for child in _children(archive, path):
        if isinstance(child, Entry):
            if child.path.startswith(prefix) and child.path > marker:
                yield child
        elif prefix.startswith(child):
            yield from _under(archive, child, prefix, marker, rolled_up=rolled_up)
        elif child.startswith(prefix) and (child > marker or marker.startswith(child)):
            if not rolled_up:
                yield from _under(archive, child, prefix, marker, rolled_up=False)
            elif child > marker:
                yield child


def _children(archive: Archive, path: str) -> Iterator[Entry | str]:
    """Yield a folder's folders and keys in byte order."""
    if path in TOP:
        yield from TOP[path]
        return
    if path.endswith("//"):
        yield Entry(path, "d41d8cd98f00b204e9800998ecf8427e", 0, 0)
        return
    market, parts = _split(path)
    yield from _below_market(archive, market, path, parts)


def _below_market(
    archive: Archive, market: Market, path: str, parts: list[str]
) -> Iterator[Entry | str]:
    shelf = archive.shelf
    if not parts:
        yield from (f"{path}{cycle}/" for cycle in sorted(Cycle))
        return
    cycle = Cycle(parts[0])
    if len(parts) == 1:
        yield from (
            f"{path}{kind}/"
            for kind in sorted(kinds_of(market))
            if shelf.symbols(market, cycle, kind)
        )
        return
    kind = Kind(parts[1])
    if len(parts) == 2:
        yield from sorted(f"{path}{symbol}/" for symbol in shelf.symbols(market, cycle, kind))
        return
    symbol, interval = parts[2], parts[3] if len(parts) > 3 else ""
    intervals = {spelled(one): one for one in shelf.intervals(market, cycle, kind, symbol)}
    if intervals and not interval:
        yield f"{path}/"
        yield from sorted(f"{path}{one}/" for one in intervals)
        return
    if interval and interval not in intervals:
        return
    for file in archive.files(Folder(market, cycle, kind, symbol, intervals.get(interval, ""))):
        yield from archive.entries(file)


def _split(path: str) -> tuple[Market, list[str]]:
    """Return the market a folder belongs to, and the folders below the market's."""
    for market, folder in MARKET_FOLDERS.items():
        start = f"data/{folder}/"
        if path.startswith(start):
            return market, [part for part in path[len(start) :].split("/") if part]
    raise ValueError(f"no market has the folder {path}")
