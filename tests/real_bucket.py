"""The archive's real key lists as a bucket, beside the real exchangeInfo.

A small HTTP server inside the test.
"""

from __future__ import annotations

import json
import threading
import time
import zipfile
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MOST_KEYS = 1000
#: The weight of a minute as the exchange allows it today; in the recorded answers it is that of
#: 2021.
SPOT_LIMIT, FUTURES_LIMIT = 6000, 2400
INFO = {
    "/api/v3": ("rest/spot/exchangeInfo_prod_cryptofeed_2021.json", SPOT_LIMIT),
    "/fapi/v1": ("rest/um/exchangeInfo_prod_cryptofeed_2021.json", FUTURES_LIMIT),
    "/dapi/v1": ("rest/cm/exchangeInfo_prod_cryptofeed_2021.json", FUTURES_LIMIT),
}
SPOT_DAYS = "vision_listing/spot_daily_1m_USDT_urls_20260204.zip"
UM_MONTHS = "vision_listing/um_monthly_1m_urls_20260628.zip"


class KeyList:
    """Keys in the bucket's order, listed a page at a time as the bucket does."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = sorted(keys)

    def page(
        self, prefix: str, marker: str, delimiter: str, most: int
    ) -> tuple[list[str], list[str], bool]:
        """Return the keys and the folders of one page, and whether there is more."""
        keys, folders = list[str](), list[str]()
        # A marker that is a folder stands for all that lies in it.
        behind = (
            _after(marker)
            if delimiter and marker.endswith(delimiter)
            else bisect_right(self._keys, marker)
        )
        at = max(bisect_left(self._keys, prefix), self._place(behind))
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            if len(keys) + len(folders) == most:
                return keys, folders, True
            key = self._keys[at]
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                keys.append(key)
                at += 1
            else:
                folders.append(key[: end + 1])
                at = self._place(_after(key[: end + 1]))
        return keys, folders, False

    def _place(self, at: int | str) -> int:
        return at if isinstance(at, int) else bisect_left(self._keys, at)


def _after(folder: str) -> str:
    """Return the least key that comes after all that lie in a folder."""
    return folder[:-1] + chr(ord(folder[-1]) + 1)


class RealBucket:
    """What the exchange and its archive told, as far as it is recorded below a folder."""

    def __init__(self, recorded: Path) -> None:
        self._recorded = recorded
        self.calls = Counter[str]()
        self._lock = threading.Lock()

    @cached_property
    def spot_days(self) -> list[str]:
        """The keys of all daily 1m files of spot symbols in USDT."""
        return self._keys(SPOT_DAYS)

    @cached_property
    def um_months(self) -> list[str]:
        """The keys of all monthly 1m files of USD-M symbols in USDT."""
        return self._keys(UM_MONTHS)

    @cached_property
    def first_days(self) -> dict[str, str]:
        """Spot symbol -> the day of its first file."""
        return first_periods(self.spot_days)

    @cached_property
    def listing(self) -> KeyList:
        files = [*self.spot_days, *self.um_months]
        return KeyList([*files, *(f"{key}.CHECKSUM" for key in files)])

    def info(self, base: str) -> dict[str, Any]:
        """Return a market's exchangeInfo as it was recorded, with the limit of today."""
        name, limit = INFO[base]
        told: dict[str, Any] = json.loads((self._recorded / name).read_text())
        for rule in told["rateLimits"]:
            if rule["rateLimitType"] == "REQUEST_WEIGHT":
                rule["limit"] = limit
        return told

    @cached_property
    def infos(self) -> dict[str, bytes]:
        return {base: json.dumps(self.info(base)).encode() for base in INFO}

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of one call."""
        base, _, what = path.rpartition("/")
        with self._lock:
            self.calls[path] += 1
        if path == "/archive-list":
            return 200, self._listed(query)
        if base not in INFO:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        if what == "exchangeInfo":
            return 200, self.infos[base]
        if what == "time":
            return 200, json.dumps({"serverTime": time.time_ns() // 1_000_000}).encode()
        if what == "klines":
            return 200, json.dumps(self._candles(base, query)).encode()
        return (200, b"{}") if what == "ping" else (404, b"{}")

    def _candles(self, base: str, query: dict[str, str]) -> list[list[Any]]:
        """Return the one candle that a symbol has here, when the first or the newest is asked for.

        It opens on the stated day of the listing; on spot, on the day of the first file.
        """
        if query.get("startTime", "0") != "0":
            return []
        symbol = query["symbol"]
        opens = self._onboard[base].get(symbol)
        if opens is None:
            day = self.first_days.get(symbol, "2021-01-01")
            opens = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
        return [[opens, "1", "1", "1", "1", "1", opens + 59_999, "1", 1, "1", "1", "0"]]

    @cached_property
    def _onboard(self) -> dict[str, dict[str, int]]:
        """The stated days of listing, ms UTC, by market and symbol."""
        return {
            base: {
                one["symbol"]: int(one["onboardDate"])
                for one in self.info(base)["symbols"]
                if "onboardDate" in one
            }
            for base in INFO
        }

    def _listed(self, query: dict[str, str]) -> bytes:
        prefix, marker, delimiter = (
            query.get(name, "") for name in ("prefix", "marker", "delimiter")
        )
        most = min(MOST_KEYS, int(query.get("max-keys", MOST_KEYS)))
        keys, folders, is_cut = self.listing.page(prefix, marker, delimiter, most)
        elements = f"<Prefix>{escape(prefix)}</Prefix><Marker>{escape(marker)}</Marker>"
        elements += f"<MaxKeys>{most}</MaxKeys>"
        elements += f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>"
        if is_cut and delimiter:
            elements += f"<NextMarker>{escape(max([*keys[-1:], *folders[-1:]]))}</NextMarker>"
        elements += "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>1</Size></Contents>" for key in keys
        )
        elements += "".join(
            f"<CommonPrefixes><Prefix>{escape(path)}</Prefix></CommonPrefixes>" for path in folders
        )
        root = f'<ListBucketResult xmlns="{NAMESPACE}">{elements}</ListBucketResult>'
        return f'<?xml version="1.0"?>{root}'.encode()

    def _keys(self, name: str) -> list[str]:
        with zipfile.ZipFile(self._recorded / name) as archive:
            urls = archive.read(archive.namelist()[0]).decode().split()
        return [url.split("/", 3)[3] for url in urls]


def first_periods(keys: list[str]) -> dict[str, str]:
    """Return the first period (YYYY-MM or YYYY-MM-DD) of each symbol in a list of keys."""
    first: dict[str, str] = {}
    for key in keys:
        symbol, _, period = key.rpartition("/")[2].removesuffix(".zip").partition("-1m-")
        first[symbol] = min(first.get(symbol, period), period)
    return first


@contextmanager
def serving(bucket: RealBucket) -> Iterator[str]:
    """Serve on loopback; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body leave together: an answer in two packets waits for the other side's delayed
        # ACK.
        wbufsize = 1 << 16
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, body = bucket.answer(url.path.rstrip("/"), query)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    # Made before several threads ask for them at once.
    assert bucket.listing
    assert bucket.infos
    assert bucket.first_days

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
