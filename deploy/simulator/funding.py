"""Funding rates: an event every eight hours, for some symbols every four.

Each comes some milliseconds after the full hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

from deploy.simulator.kinds import Kind, has_series
from deploy.simulator.markets import Market
from deploy.simulator.moments import HOUR_MS, utc_ms
from deploy.simulator.symbols import Instrument
from deploy.simulator.windows import Window

#: Before this the exchange sent no mark price with a funding rate.
MARK_TOLD_MS = utc_ms("2023-11-01 00:00")
#: From here on it sends the type of each rate.
TYPE_TOLD_MS = utc_ms("2026-07-23 00:00")
#: From here on some symbols are funded every four hours.
FOUR_HOURLY_MS = utc_ms("2024-03-01 00:00")
EIGHT_HOURS_MS, FOUR_HOURS_MS = 8 * HOUR_MS, 4 * HOUR_MS
#: Events come less than so many ms after the full hour.
JITTER_MS = 13


class Event(NamedTuple):
    """One funding, with the hours since the last one."""

    at_ms: int
    rate: str
    mark_price: str
    hours: int


def events(instrument: Instrument, low_ms: int, high_ms: int) -> list[Event]:
    """Return the fundings with `low_ms` <= time <= `high_ms`, oldest first."""
    if not has_series(instrument, Kind.FUNDING):
        return []
    found = (_event(instrument, at_ms) for at_ms in _hours(instrument, low_ms - JITTER_MS, high_ms))
    return [event for event in found if low_ms <= event.at_ms <= high_ms]


def events_of(instrument: Instrument, window: Window) -> list[Event]:
    """Return the fundings of a window, at most as many as it asks for."""
    found = events(instrument, window.low_ms, window.high_ms)
    return found[-window.limit :] if window.newest else found[: window.limit]


def funding_page(instrument: Instrument, found: list[Event]) -> bytes:
    """Return fundings as the exchange sends them."""
    return json.dumps([_told(instrument, event) for event in found], separators=(",", ":")).encode()


def is_four_hourly(instrument: Instrument) -> bool:
    """Return whether the symbol is funded every four hours from some day on."""
    return crc32(instrument.name.encode()) % 3 == 0


def _told(instrument: Instrument, event: Event) -> dict[str, Any]:
    fields = {
        "symbol": instrument.name,
        "fundingTime": event.at_ms,
        "fundingRate": event.rate,
        "markPrice": event.mark_price,
    }
    is_typed = instrument.market is Market.USD_M and event.at_ms >= TYPE_TOLD_MS
    return fields | {"rateType": "Regular"} if is_typed else fields


def _hours(instrument: Instrument, low_ms: int, high_ms: int) -> Iterator[int]:
    """Yield the full hours of funding after `low_ms` and not after `high_ms`."""
    last_ms = min(high_ms, instrument.ends_ms or high_ms)
    before_ms = max(low_ms, instrument.listed_ms)
    at_ms = before_ms - before_ms % FOUR_HOURS_MS
    while (at_ms := at_ms + FOUR_HOURS_MS) <= last_ms:
        if at_ms % _step(instrument, at_ms) == 0:
            yield at_ms


def _step(instrument: Instrument, at_ms: int) -> int:
    return (
        FOUR_HOURS_MS if is_four_hourly(instrument) and at_ms > FOUR_HOURLY_MS else EIGHT_HOURS_MS
    )


@lru_cache(maxsize=100_000)
def _event(instrument: Instrument, at_ms: int) -> Event:
    dice = crc32(f"{instrument.market} {instrument.name} {at_ms}".encode())
    mark = f"{30_000 + dice % 1_000_000 / 1_000:.8f}" if at_ms >= MARK_TOLD_MS else ""
    rate = f"{(dice % 2_001 - 1_000) / 1e6:.8f}"
    return Event(at_ms + dice % JITTER_MS, rate, mark, _step(instrument, at_ms) // HOUR_MS)
