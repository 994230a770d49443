"""What tests of the stand-in's faulty files share: paths, good rows, and what was spoilt."""

from __future__ import annotations

import hashlib

import aiohttp

from deploy.simulator.archive.build import build
from deploy.simulator.archive.faults import FileFault
from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import HOUR_MS, utc_ms
from deploy.simulator.source import Generated
from tests.unit.helpers.simulated_exchange import NOW_MS, Client
from tests.unit.helpers.simulator_client import CHECKSUM, Raw, lines_of, raw

MONTH = "data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03.zip"
OTHER_MONTH = "data/futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-04.zip"
DAY = "data/spot/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2024-03-05.zip"
FUNDING = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-03.zip"
SHELF = Generated(symbols=30).shelf
FILES = [
    File(Folder(Market.SPOT, cycle, Kind.KLINES, symbol, "1h"), period)
    for cycle in Cycle
    for symbol in ("BTCUSDT", "ETHUSDT")
    for period in SHELF.periods(Folder(Market.SPOT, cycle, Kind.KLINES, symbol, "1h"), NOW_MS)
]
ROWS = [
    f"{utc_ms('2024-03-05') + n * HOUR_MS},1.00,2.50,0.50,1.50,7,{n},9,4,1,1,0" for n in range(100)
]


async def follow(client: Client, *faults: FileFault, **told: object) -> None:
    answer = await client.call(
        "PUT", "/sim/archive", {"rates": dict.fromkeys(faults, 1 / max(1, len(faults))), **told}
    )
    assert answer.status == 200, answer.body


async def reissue(client: Client, path: str, changed: int = 0) -> None:
    answer = await client.call("POST", "/sim/archive/reissue", {"key": path, "change": changed})
    assert answer.status == 200, answer.body


async def checksum_of(client: Client, path: str) -> str:
    answer = await raw(client, path + CHECKSUM)
    assert answer.status == 200
    digest, _, name = answer.body.decode().partition("  ")
    assert name == path.rpartition("/")[2]
    return digest


async def read_into(got: bytearray, answer: aiohttp.ClientResponse) -> None:
    async for piece in answer.content.iter_any():
        got.extend(piece)


async def good(client: Client, path: str) -> Raw:
    """The file as it is without a fault, its checksum tried."""
    answer = await raw(client, path)
    assert answer.status == 200
    assert await checksum_of(client, path) == sha256(answer.body)
    lines_of(answer.body, path.rpartition("/")[2].replace(".zip", ".csv"))
    return answer


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def spoilt(fault: FileFault, seed: str = "1", lines: list[str] | None = None) -> list[str]:
    made = build("X-1h-2024-03-05", ROWS if lines is None else lines, fault, seed)
    assert sha256(made.body) == made.sha256, "rows are wrong behind the checksum's back"
    return lines_of(made.body, "X-1h-2024-03-05.csv")


def opens(rows: list[str]) -> list[str]:
    return [row.split(",")[0] for row in rows]
