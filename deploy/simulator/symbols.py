"""What trades where, since when and until when.

The catalogue has one of everything that a client can stumble over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, HOUR_MS, utc_ms

#: What `deliveryDate` says of a contract without an end.
NEVER_MS = 4_133_404_800_000

SIMULATED = re.compile(r"SIM(\d{3,4})USDT")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable thing; its candles lie between `listed_ms` and `ends_ms`."""

    market: Market
    name: str
    base: str
    quote: str
    listed_ms: int
    ends_ms: int | None = None
    status: str = "TRADING"
    contract_type: str = "PERPETUAL"
    contract_size: int = 1

    @property
    def pair(self) -> str:
        return self.base + self.quote


def _spot(base: str, listed: str, ends: str | None = None, status: str = "TRADING") -> Instrument:
    ends_ms = utc_ms(ends) if ends else None
    return Instrument(Market.SPOT, f"{base}USDT", base, "USDT", utc_ms(listed), ends_ms, status)


def _perpetual(
    base: str, listed_ms: int, ends_ms: int | None = None, status: str = "TRADING"
) -> Instrument:
    return Instrument(Market.USD_M, f"{base}USDT", base, "USDT", listed_ms, ends_ms, status)


def _coin(
    base: str, suffix: str, listed_ms: int, ends_ms: int | None, kind: str, size: int
) -> Instrument:
    name = f"{base}USD_{suffix}"
    return Instrument(Market.COIN_M, name, base, "USD", listed_ms, ends_ms, "TRADING", kind, size)


QUARTER_LISTED_MS = utc_ms("2026-06-26 08:00")
QUARTER_ENDS_MS = utc_ms("2026-12-25 08:00")

NAMED = (
    _spot("BTC", "2017-08-17 04:00"),
    _spot("ETH", "2017-08-17 04:00"),
    _spot("BNB", "2017-11-06 03:54"),
    _spot("BCC", "2017-11-20 06:14", "2018-11-15 02:00", "BREAK"),
    _spot("SOL", "2020-08-11 06:00"),
    _spot("NOT", "2024-05-16 12:00"),
    _spot("IO", "2024-06-11 12:00"),
    _spot("ZK", "2024-06-17 08:00"),
    _spot("币安人生", "2026-01-07 12:00"),
    Instrument(Market.SPOT, "BTCUSDC", "BTC", "USDC", utc_ms("2018-12-15 03:00")),
    _perpetual("BTC", 1_567_965_300_000),
    _perpetual("ETH", 1_574_840_700_000),
    _perpetual("BNB", 1_581_321_600_000),
    _perpetual("OMG", 1_593_680_400_000, 1_738_314_000_000, "SETTLING"),
    _perpetual("SOL", 1_600_066_800_000),
    _perpetual("ZK", utc_ms("2024-06-17 08:30")),
    _perpetual("币安人生", 1_760_958_000_000),
    Instrument(Market.USD_M, "BTCUSDC", "BTC", "USDC", utc_ms("2024-01-04 09:00")),
    Instrument(
        Market.USD_M,
        "BTCUSDT_261225",
        "BTC",
        "USDT",
        QUARTER_LISTED_MS,
        QUARTER_ENDS_MS,
        "TRADING",
        "CURRENT_QUARTER",
    ),
    _coin("BTC", "PERP", 1_597_042_800_000, None, "PERPETUAL", 100),
    _coin("ETH", "PERP", 1_597_734_000_000, None, "PERPETUAL", 10),
    _coin("BTC", "261225", QUARTER_LISTED_MS, QUARTER_ENDS_MS, "CURRENT_QUARTER", 100),
)

#: What REST has forgotten and only the archive still knows.
FORGOTTEN = (
    _spot("BTT", "2019-01-31 04:00", "2022-01-12 06:00"),
    _perpetual("SRM", utc_ms("2020-09-16 07:00"), utc_ms("2022-11-28 05:00")),
    Instrument(
        Market.USD_M,
        "CTKUSDTSETTLED",
        "CTK",
        "USDT",
        utc_ms("2020-12-01 07:00"),
        utc_ms("2023-11-20 09:00"),
    ),
)

#: Generated symbols are listed within so many days of this date, spread by a multiplier prime to
#: the span.
SIMULATED_FIRST_MS = {
    Market.SPOT: utc_ms("2019-01-01 00:00"),
    Market.USD_M: utc_ms("2019-10-01 00:00"),
}
SIMULATED_SPAN_DAYS = {Market.SPOT: 1_095, Market.USD_M: 820}
SPREAD = 389


def simulated(market: Market, number: int) -> Instrument:
    """Return the generated symbol with this number; the same number is the same symbol for ever."""
    day = number * SPREAD % SIMULATED_SPAN_DAYS[market]
    listed_ms = SIMULATED_FIRST_MS[market] + day * DAY_MS + number % 24 * HOUR_MS
    base = f"SIM{number:03d}"
    return Instrument(market, f"{base}USDT", base, "USDT", listed_ms)


def catalogue(market: Market, size: int) -> list[Instrument]:
    """Return the named instruments of a market, filled up with generated ones to `size`.

    COIN-M has no generated ones.
    """
    named = [instrument for instrument in NAMED if instrument.market is market]
    if market is Market.COIN_M:
        return named
    return named + [simulated(market, number) for number in range(1, size - len(named) + 1)]


def forgotten(market: Market) -> list[Instrument]:
    """Return what only the archive still knows of a market."""
    return [instrument for instrument in FORGOTTEN if instrument.market is market]


@cache
def find(market: Market, name: str) -> Instrument | None:
    """Return the instrument of this name, forgotten ones included.

    The size of the catalogue in service does not matter.
    """
    for instrument in (*NAMED, *FORGOTTEN):
        if instrument.market == market and instrument.name == name:
            return instrument
    numbered = SIMULATED.fullmatch(name)
    if numbered is None or market == Market.COIN_M:
        return None
    return simulated(market, int(numbered[1]))


@cache
def find_pair(market: Market, pair: str) -> Instrument | None:
    """Return what stands for a pair's index: the first instrument on it, under the pair's name."""
    on_it = [
        thing for thing in (*NAMED, *FORGOTTEN) if (thing.market, thing.pair) == (market, pair)
    ]
    found = min(on_it, key=lambda thing: thing.listed_ms) if on_it else None
    if SIMULATED.fullmatch(pair):
        found = find(market, pair)
    return replace(found, name=pair) if found else None
