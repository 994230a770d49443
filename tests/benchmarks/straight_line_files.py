"""What the archive lane is measured against: files downloaded, unzipped and written in turn.

Nothing is checked, retried, merged or remembered.

    python tests/benchmarks/straight_line_files.py OUT_FOLDER URL...
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import polars as pl
import requests

COLUMNS = {
    "open_time": pl.Int64,
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "volume": pl.Float64,
    "close_time": pl.Int64,
    "quote_volume": pl.Float64,
    "count": pl.Int64,
    "taker_buy_volume": pl.Float64,
    "taker_buy_quote_volume": pl.Float64,
    "ignore": pl.String,
}


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        for url in sys.argv[2:]:
            with zipfile.ZipFile(io.BytesIO(session.get(url).content)) as archive:
                text = archive.read(archive.namelist()[0])
            frame = pl.read_csv(text, has_header=False, schema=COLUMNS).drop("ignore")
            frame = frame.with_columns(
                pl.col("open_time", "close_time").cast(pl.Datetime("ms", "UTC"))
            )
            frame.write_parquet(out / f"{Path(url).stem}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
