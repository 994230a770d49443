"""The kinds of series beside klines, and what a name means for each."""

from __future__ import annotations

from enum import StrEnum

from deploy.simulator.markets import Market
from deploy.simulator.symbols import Instrument, find, find_pair


class Kind(StrEnum):
    """A kind of series, as the exchange names it in routes and in the archive's folders."""

    KLINES = "klines"
    MARK = "markPriceKlines"
    INDEX = "indexPriceKlines"
    PREMIUM = "premiumIndexKlines"
    FUNDING = "fundingRate"


#: Candles of prices alone: no volume, no trades.
PRICES = frozenset({Kind.MARK, Kind.INDEX, Kind.PREMIUM})


def kinds_of(market: Market) -> tuple[Kind, ...]:
    """Return the kinds a market has."""
    return (Kind.KLINES,) if market is Market.SPOT else tuple(Kind)


def name_parameter(kind: Kind) -> str:
    """Return the parameter that names the series: an index belongs to a pair."""
    return "pair" if kind is Kind.INDEX else "symbol"


def instrument_of(market: Market, kind: Kind, name: str) -> Instrument | None:
    """Return what a name stands for, forgotten or not; None for an unknown one."""
    return find_pair(market, name) if kind is Kind.INDEX else find(market, name)


def has_series(instrument: Instrument, kind: Kind) -> bool:
    """Return whether there is such a series.

    Contracts with a delivery date have neither premium nor funding.
    """
    return kind not in (Kind.PREMIUM, Kind.FUNDING) or "QUARTER" not in instrument.contract_type
