"""What a lake must hold after a download, and what it does hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from deploy.simulator import truth
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.lake import keys
from tests.harness import Fleet
from tests.processes import ROOT

#: Real recorded exchange data; tests that need it skip where it is absent.
RECORDED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Wanted:
    """One request as a user words it, and the check that the lake holds just its rows."""

    market: str
    symbols: tuple[str, ...]
    start: str
    end: str
    interval: str = "1m"
    source: str = "rest"
    """Which lane is tested; what `auto` makes of a small request is REST as well."""
    kind: str = "klines"

    @property
    def arguments(self) -> tuple[str, ...]:
        series = ("--market", self.market, "--kind", self.kind, "--symbols", ",".join(self.symbols))
        range_ = ("--interval", self.interval, "--start", self.start, "--end", self.end)
        return (*series, *range_, "--source", self.source)

    def truth(self, symbol: str) -> pl.DataFrame:
        """Return what a perfect lake holds of one symbol."""
        return truth_frame(
            self.market, symbol, self.interval, ms_of(self.start), ms_of(self.end), self.kind
        )

    @property
    def klines(self) -> int:
        """How many candles there are."""
        return sum(self.truth(symbol).height for symbol in self.symbols)

    def assert_held(self, fleet: Fleet) -> None:
        """The lake equals the exchange's truth row by row, and nothing is left in the raw zone."""
        for symbol in self.symbols:
            held = lake_frame(fleet.store_url, self.market, symbol, self.interval, self.kind)
            truth = self.truth(symbol)
            assert held.height == truth.height, (
                f"{symbol}: {held.height} rows, {truth.height} exist"
            )
            assert held["open_time"].is_unique().all(), f"{symbol}: a candle is held twice"
            assert held.equals(truth), f"{symbol}: a row differs"
        if not fleet.store_url.startswith("s3://"):
            # The hidden files are what killed processes were writing.
            files = Path(fleet.store_url, "raw").rglob("[!.]*")
            left = [str(path) for path in files if path.is_file()]
            assert not left, f"raw objects were left: {left[:5]}"

    def assert_nothing_is_missing(self, fleet: Fleet) -> None:
        """The same request again asks the exchange for no row, and the archive for no file."""
        fleet.assert_fetches_nothing(*self.arguments)


def ms_of(day: str) -> int:
    """Return a day or moment without a zone, UTC, in ms."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def truth_frame(
    market: str, symbol: str, interval: str, start_ms: int, end_ms: int, kind: str = "klines"
) -> pl.DataFrame:
    """Return what a perfect lake holds of a generated symbol."""
    csv = truth(
        market, symbol, interval, start_ms, end_ms, now_ms=time.time_ns() // 1_000_000, kind=kind
    )
    schema = schema_of(kind_named(kind))
    if not csv:
        return schema.to_frame()
    wire = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    return pl.read_csv(csv, has_header=False, schema=wire).cast(schema)


def lake_frame(
    store: Path | str, market: str, symbol: str, interval: str, kind: str = "klines"
) -> pl.DataFrame:
    """Return every row that the lake holds of a series, in the files' order.

    Reads with Polars alone, as any user would.
    """
    folder = keys.series_folder(
        "lake", Series(Market(market), kind_named(kind), Interval(interval), symbol)
    )
    if str(store).startswith("s3://"):
        return pl.read_parquet(
            f"{store}/{folder}/*.parquet", storage_options=s3_options(), hive_partitioning=False
        )
    files = sorted((Path(store) / folder).glob("*.parquet"))
    return (
        pl.concat([pl.read_parquet(file) for file in files]) if files else no_rows(kind_named(kind))
    )


def s3_options() -> dict[str, str]:
    """Return what Polars needs to know of the S3 server that the environment names."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
    return {name.lower(): os.environ[name] for name in names if name in os.environ} | {
        "aws_allow_http": "true"
    }
