"""What many small archive files are measured against: one process with eight threads.

Each thread downloads a zip and compares it with its CHECKSUM, unzips it, decodes it and writes one
Parquet file. Nothing is retried, merged or remembered.

    python -m tests.benchmarks.straight_line_threads OUT_FOLDER < URLS
"""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import requests

from tests.benchmarks.straight_line_files import COLUMNS

THREADS = 8


class Line:
    """Downloads files into a folder, with one connection a thread."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._of_thread = threading.local()

    def keep(self, url: str) -> None:
        """Write the rows of one zip as one Parquet file."""
        expected = self._get(f"{url}.CHECKSUM").split()[0].decode()
        body = self._get(url)
        if hashlib.sha256(body).hexdigest() != expected:
            raise ValueError(f"{url}: its bytes are not those of its CHECKSUM")
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            text = archive.read(archive.namelist()[0])
        has_names = text[:1].isalpha()
        frame = pl.read_csv(text, has_header=False, schema=COLUMNS, skip_rows=int(has_names))
        moments = pl.col("open_time", "close_time").cast(pl.Datetime("ms", "UTC"))
        frame = frame.drop("ignore").with_columns(moments)
        frame.write_parquet(self._out / f"{Path(url).stem}.parquet", compression="zstd")

    def _get(self, url: str) -> bytes:
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = requests.Session()
        answer = self._of_thread.session.get(url, timeout=60)
        answer.raise_for_status()
        body: bytes = answer.content
        return body


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    line = Line(out)
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(line.keep, sys.stdin.read().split()))


if __name__ == "__main__":
    main()
