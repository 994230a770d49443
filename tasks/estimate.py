"""What a request would cost, told before anything is spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.request import Request
from workers.binance.markets import pages
from workers.toolbox import Toolbox
from workers.windows import missing, windows


@dataclass(frozen=True)
class Estimate:
    """Calls, weight and minutes, at most: listing dates that are not known yet can only make it less."""

    symbols: int
    klines: int
    windows: int
    calls: int
    weight: int
    limit: int

    @property
    def minutes(self) -> float:
        return self.weight / self.limit

    def facts(self) -> dict[str, Any]:
        return {
            "symbols": self.symbols,
            "klines": self.klines,
            "windows": self.windows,
            "requests": self.calls,
            "weight": self.weight,
            "minutes": round(self.minutes, 2),
        }

    def text(self) -> str:
        return (
            f"would fetch at most {self.klines:,} klines of {self.symbols:,} symbols: {self.calls:,} requests in "
            f"{self.windows:,} windows, weight {self.weight:,}, {self.minutes:,.1f} minutes of the budget "
            f"({self.limit:,} a minute)"
        )


def estimate(tools: Toolbox, request: Request) -> Estimate:
    """Return what is missing of the request and what fetching it costs; only the store is asked."""
    klines = count = calls = weight = 0
    for series in request.series():
        raw = (entry.span for entry in tools.raw.entries(series))
        held = [*tools.partitions.covered(series), *raw]
        listing = tools.listings.get(series.market, series.symbol)
        begins_ms = listing.onboard_ms if listing and listing.onboard_ms else request.start_ms
        for block in series.blocks(request.span):
            for part in missing(series, held, block.span.clip(request.span)):
                if part.end_ms <= begins_ms:
                    continue
                cut = list(windows(block, [part]))
                made = [page for window in cut for page in pages(series, window.span)]
                count, calls = count + len(cut), calls + len(made)
                weight += sum(page.weight for page in made)
                klines += series.interval.opens(part.start_ms, part.end_ms)
    limit = int(tools.settings.weight_share * (tools.budget(request.market).state().limit or 1))
    return Estimate(len(request.symbols), klines, count, calls, weight, max(1, limit))
