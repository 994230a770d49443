"""What the archive's files are called, and what time each holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from deploy.simulator.intervals import GRIDS, MonthGrid
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, utc_ms

MARKET_FOLDERS = {Market.SPOT: "spot", Market.USD_M: "futures/um", Market.COIN_M: "futures/cm"}
#: A month is spelled so, for file systems that cannot tell m from M.
MONTH = "1mo"
#: Candles too long for a day's file.
MONTHLY_ONLY = ("3d", "1w", "1M")

PATH = re.compile(
    r"data/(?P<market>spot|futures/um|futures/cm)/(?P<cycle>monthly|daily)/(?P<kind>\w+)/(?P<symbol>[^/]+)/"
    r"(?:(?P<interval>\w+)/)?(?P=symbol)-\w+-(?P<period>\d{4}-\d{2}(?:-\d{2})?)\.zip"
)


class Cycle(StrEnum):
    """How often such a file is published."""

    MONTHLY = "monthly"
    DAILY = "daily"


@dataclass(frozen=True, slots=True)
class Folder:
    """All files of one series in one cycle; funding rates have no interval."""

    market: Market
    cycle: Cycle
    kind: Kind
    symbol: str
    interval: str

    @property
    def path(self) -> str:
        """Return its path with a slash at the end."""
        deeper = f"{spelled(self.interval)}/" if self.interval else ""
        return f"data/{MARKET_FOLDERS[self.market]}/{self.cycle}/{self.kind}/{self.symbol}/{deeper}"


@dataclass(frozen=True, slots=True)
class File:
    """One zip: a folder's month (`2024-01`) or day (`2024-01-05`)."""

    folder: Folder
    period: str

    @property
    def stem(self) -> str:
        """Return its name without the ending, which is that of the CSV inside too."""
        grid = spelled(self.folder.interval) or self.folder.kind
        return f"{self.folder.symbol}-{grid}-{self.period}"

    @property
    def path(self) -> str:
        return f"{self.folder.path}{self.stem}.zip"

    @property
    def start_ms(self) -> int:
        """Return the first moment it holds."""
        return utc_ms(self.period if self.folder.cycle is Cycle.DAILY else f"{self.period}-01")

    @property
    def end_ms(self) -> int:
        """Return the moment after the last it holds."""
        if self.folder.cycle is Cycle.DAILY:
            return self.start_ms + DAY_MS
        months = MonthGrid()
        return months.open_of(months.index_at(self.start_ms) + 1)


def spelled(interval: str) -> str:
    """Return an interval as folders and files spell it."""
    return MONTH if interval == "1M" else interval


def unspelled(interval: str) -> str:
    """Return the interval that a folder's name means."""
    return "1M" if interval == MONTH else interval


def parse(path: str) -> File | None:
    """Return the file of a path, None where no file can be called so."""
    found = PATH.fullmatch(path)
    if not found or found["kind"] not in set(Kind):
        return None
    markets = {folder: market for market, folder in MARKET_FOLDERS.items()}
    folder = Folder(
        markets[found["market"]],
        Cycle(found["cycle"]),
        Kind(found["kind"]),
        found["symbol"],
        unspelled(found["interval"] or ""),
    )
    if folder.interval not in GRIDS and (folder.kind is not Kind.FUNDING or folder.interval):
        return None
    file = File(folder, found["period"])
    try:
        return file if file.path == path and file.start_ms < file.end_ms else None
    except ValueError:
        return None
