"""An archive of recorded files: original zips byte for byte, and recorded CSV, zipped here."""

from __future__ import annotations

import gzip
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deploy.simulator.archive.build import pack_text
from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market


def csv_of(path: Path) -> bytes:
    """Return the CSV of a recorded file, zipped or gzipped."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


class RecordedShelf:
    """Files that lie on a disk; all of them are out."""

    def __init__(self) -> None:
        self._paths: defaultdict[Folder, dict[str, Path]] = defaultdict(dict)

    def add(self, market: Market, symbol: str, interval: str, period: str, path: Path) -> None:
        """Put a recorded file on the shelf; an original zip goes before a recorded CSV."""
        cycle = Cycle.DAILY if period.count("-") > 1 else Cycle.MONTHLY
        paths = self._paths[Folder(market, cycle, Kind.KLINES, symbol, interval)]
        if period not in paths or path.suffix == ".zip":
            paths[period] = path

    def symbols(self, market: Market, cycle: Cycle, kind: Kind) -> Sequence[str]:
        """Return the symbols recorded in this cycle."""
        found = {
            at.symbol
            for at in self._paths
            if (at.market, at.cycle, at.kind) == (market, cycle, kind)
        }
        return sorted(found)

    def intervals(self, market: Market, cycle: Cycle, kind: Kind, symbol: str) -> Sequence[str]:
        """Return the intervals recorded of a symbol."""
        wanted = (market, cycle, kind, symbol)
        return [
            at.interval for at in self._paths if (at.market, at.cycle, at.kind, at.symbol) == wanted
        ]

    def periods(self, folder: Folder, now_ms: int) -> Sequence[str]:
        """Return the recorded periods, oldest first."""
        return sorted(self._paths.get(folder, ()))

    def csv(self, file: File) -> list[str]:
        """Return a recorded file's lines."""
        return csv_of(self._paths[file.folder][file.period]).decode().splitlines()

    def original(self, file: File) -> bytes | None:
        """Return an original zip as it is, and recorded CSV unchanged in a new one."""
        path = self._paths[file.folder][file.period]
        return (
            path.read_bytes()
            if path.suffix == ".zip"
            else pack_text(f"{file.stem}.csv", csv_of(path))
        )
