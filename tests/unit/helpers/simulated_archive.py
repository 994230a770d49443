"""Files of the simulated archive, and the rows that each must hold."""

from __future__ import annotations

from deploy.simulator import truth
from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.kinds import PRICES, Kind
from deploy.simulator.markets import Market
from deploy.simulator.source import Generated
from tests.unit.helpers.simulated_exchange import NOW_MS

SHELF = Generated(symbols=30).shelf
SPOT_DAY = "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.zip"
USD_M_DAY = "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03-05.zip"


def file_of(market: str, kind: str, symbol: str, interval: str, period: str) -> File:
    cycle = Cycle.DAILY if period.count("-") > 1 else Cycle.MONTHLY
    return File(Folder(Market(market), cycle, Kind(kind), symbol, interval), period)


def expected_lines(file: File) -> list[str]:
    """Return the lines that a file must have: in milliseconds, without column names."""
    folder = file.folder
    text = truth(
        folder.market,
        folder.symbol,
        folder.interval,
        file.start_ms,
        file.end_ms,
        now_ms=NOW_MS,
        kind=folder.kind,
    )
    rows = [line.split(",") for line in text.decode().splitlines()]
    if folder.kind is Kind.FUNDING:
        return [",".join(row[:3]) for row in rows]
    if folder.kind in PRICES:
        return [",".join([*row[:5], "0", row[5], "0", "60", "0", "0", "0"]) for row in rows]
    return [",".join([*row, "0"]) for row in rows]
