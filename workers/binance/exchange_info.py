"""exchangeInfo, parsed: a market's weight limit and its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The documented statuses of a symbol that has no new candles. Any other one, of which nobody knows
#: what it means, ends nothing. BREAK may be a pause.
ENDED = frozenset({"BREAK", "DELIVERING", "DELIVERED", "SETTLING", "CLOSE"})


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol of exchangeInfo; times in ms UTC, None where it has none."""

    symbol: str
    status: str
    onboard_ms: int | None
    delivery_ms: int | None
    base: str = ""
    quote: str = ""
    pair: str = ""
    contract_type: str = ""

    def may_have_ended(self, now_ms: int) -> bool:
        """Return True if its status or its date of delivery says that it no longer trades."""
        return self.status in ENDED or self.delivered_ms(now_ms) is not None

    def delivered_ms(self, now_ms: int) -> int | None:
        """Return its date of delivery, ms UTC, if that has passed."""
        return self.delivery_ms if self.delivery_ms and self.delivery_ms <= now_ms else None


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """A market's symbols, and the weight that it allows in a minute."""

    limit: int
    listings: tuple[Listing, ...]


def parse_listing(symbol: Mapping[str, Any]) -> Listing:
    """Return one symbol of exchangeInfo.

    COIN-M calls the status contractStatus; spot has no dates.
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
