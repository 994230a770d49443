"""Requests for funding events, and the events that a perfect lake holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tests.expected import lake_frame, ms_of, truth_frame
from tests.harness import Fleet


@dataclass(frozen=True)
class Funding:
    """A request for funding events, and the events that a perfect lake holds of it."""

    market: str
    symbols: tuple[str, ...]
    start: str
    end: str
    source: str

    @property
    def arguments(self) -> tuple[str, ...]:
        series = (
            "--market",
            self.market,
            "--kind",
            "fundingRate",
            "--symbols",
            ",".join(self.symbols),
        )
        return (*series, "--start", self.start, "--end", self.end, "--source", self.source)

    def truth(self, symbol: str) -> pl.DataFrame:
        return truth_frame(
            self.market, symbol, "events", ms_of(self.start), ms_of(self.end), "fundingRate"
        )

    def held(self, fleet: Fleet, symbol: str) -> pl.DataFrame:
        return lake_frame(fleet.store_url, self.market, symbol, "events", "fundingRate")

    def assert_held(self, fleet: Fleet, files_until: str) -> None:
        """Assert that each event is held once.

        Events before `files_until` have the hours that only files have, later ones the mark price
        that only REST has.
        """
        told = pl.col("calc_time").dt.timestamp("ms") < ms_of(files_until)
        for symbol in self.symbols:
            held, truth = self.held(fleet, symbol), self.truth(symbol)
            assert truth.height > 0
            assert held.height == truth.height, (
                f"{symbol}: {held.height} events, {truth.height} were"
            )
            expected = truth.with_columns(
                funding_interval_hours=pl.when(told).then("funding_interval_hours"),
                mark_price=pl.when(~told).then("mark_price"),
            )
            assert held.equals(expected), f"{symbol}: an event differs"

    def assert_nothing_is_missing(self, fleet: Fleet) -> None:
        assert fleet.assert_fetches_nothing(*self.arguments)["klines"] == 0


def folders(fleet: Fleet, below: str = "") -> set[str]:
    """Return the folders of the lake that hold partitions, as any reader sees them."""
    lake = Path(fleet.store_url, "lake")
    found = {path.parent.relative_to(lake).as_posix() for path in lake.rglob("*.parquet")}
    return {name for name in found if name.startswith(below)}
