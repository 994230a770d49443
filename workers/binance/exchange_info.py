"""What exchangeInfo says of a market: its weight limit and its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The status of what trades, whether or not it is halted for the moment.
ALIVE = ("TRADING", "PENDING_TRADING", "HALT", "TRADING_HALT", "")


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol as exchangeInfo tells it; times in ms UTC, None where the exchange says nothing."""

    symbol: str
    status: str
    onboard_ms: int | None
    delivery_ms: int | None
    base: str = ""
    quote: str = ""
    pair: str = ""
    contract_type: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """A market's symbols and the weight it allows in a minute."""

    limit: int
    listings: tuple[Listing, ...]


def parse_listing(symbol: Mapping[str, Any]) -> Listing:
    """Return one entry of exchangeInfo; COIN-M calls its status contractStatus, spot tells no
    dates.
    """
    onboard, delivery = symbol.get("onboardDate"), symbol.get("deliveryDate")
    return Listing(
        str(symbol["symbol"]),
        str(symbol.get("status") or symbol.get("contractStatus") or ""),
        int(onboard) if onboard else None,
        int(delivery) if delivery else None,
        str(symbol.get("baseAsset") or ""),
        str(symbol.get("quoteAsset") or ""),
        str(symbol.get("pair") or ""),
        str(symbol.get("contractType") or ""),
    )
