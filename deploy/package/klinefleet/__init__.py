"""Binance market data, downloaded by a fleet of workers and read from a lake of Parquet files.

    import klinefleet

    lake = klinefleet.Reader("s3://bucket/lake")
    bars = lake.read("um", "BTCUSDT", "1h", "2024-01-01", "2024-02-01")

Importing it changes nothing in the process: no Celery app, no logging, no signal handlers. What a
name needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klinefleet.workers.domain.errors import (
        FleetError,
        PartitionDamaged,
        RangeNotHeld,
        RequestError,
        SettingsError,
        StoreFault,
        UnknownSymbol,
    )
    from klinefleet.workers.domain.schema import Candle
    from klinefleet.workers.reader.reader import Reader

__all__ = [
    "Candle",
    "FleetError",
    "PartitionDamaged",
    "RangeNotHeld",
    "Reader",
    "RequestError",
    "SettingsError",
    "StoreFault",
    "UnknownSymbol",
]

_MODULES = {
    "Reader": "klinefleet.workers.reader.reader",
    "Candle": "klinefleet.workers.domain.schema",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "klinefleet.workers.domain.errors")), name)


def __dir__() -> list[str]:
    return __all__
