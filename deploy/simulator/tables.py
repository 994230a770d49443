"""The numbers that candles are made of, rendered once for each market.

They are two loops whose lengths have no common divisor.

A candle takes prices and volume from one loop and turnover, trades and taker volumes from the
other, each at its own place. The same pair of places comes round after 16.7 million candles, so no
two minutes of 31 years are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from deploy.simulator.markets import Market

PRICES = 4096
FLOWS = 4093

#: Prices start here, in cents, and wander by this share a step.
START_CENTS = 3_000_000
STEP_SHARE = 0.0006


class Price(NamedTuple):
    """Open, high, low and close in cents, and the volume in the market's smallest unit."""

    open: int
    high: int
    low: int
    close: int
    volume: int


class Flow(NamedTuple):
    """Quote volume, trades, takers' share of both volumes, in the market's smallest units."""

    quote: int
    trades: int
    taker: int
    taker_quote: int


@dataclass(frozen=True, slots=True)
class Digits:
    """How many decimals a market prints."""

    price: int
    volume: int
    quote: int


DIGITS = {
    Market.SPOT: Digits(8, 8, 8),
    Market.USD_M: Digits(2, 3, 5),
    Market.COIN_M: Digits(2, 0, 8),
}

#: Volumes lie above this many units and the takers' part below it: takers never exceed the whole.
VOLUME_FLOOR = 1_000_000
QUOTE_FLOOR = 1_000_000_000


def fixed(units: int, decimals: int) -> str:
    """Return `units` as a decimal number with that many digits after the point."""
    if decimals == 0:
        return str(units)
    whole, rest = divmod(units, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def price_text(cents: int, digits: Digits) -> str:
    """Return a price as its market prints it."""
    return fixed(cents, 2) + "0" * (digits.price - 2)


@dataclass(frozen=True, slots=True)
class Script:
    """One way to write a row: what stands before, between and after its times.

    The lists hold their loop twice, so that any stretch up to one loop long is a single slice.
    """

    lead: str
    prices: list[str]
    flows: list[str]
    write_prices: Callable[[list[str]], str]
    write_flows: Callable[[list[str]], str]


@dataclass(frozen=True, slots=True)
class Tables:
    """Both loops of a market as numbers, and written for pages and for files."""

    digits: Digits
    prices: list[Price]
    flows: list[Flow]
    json: Script
    csv: Script


@cache
def tables(market: Market) -> Tables:
    """Return the market's tables."""
    digits = DIGITS[market]
    prices, flows = _prices(market), _flows(market)
    price_texts = [price_texts_of(price, digits) for price in prices]
    flow_texts = [flow_texts_of(flow, digits) for flow in flows]
    json = _script(",[", price_texts, flow_texts, _json_prices, _json_flows)
    csv = _script("", price_texts, flow_texts, _csv_prices, _csv_flows)
    return Tables(digits, prices, flows, json, csv)


def price_texts_of(price: Price, digits: Digits) -> list[str]:
    """Return the five texts between open time and close time."""
    return [*(price_text(cents, digits) for cents in price[:4]), fixed(price.volume, digits.volume)]


def flow_texts_of(flow: Flow, digits: Digits) -> list[str]:
    """Return the four texts after the close time."""
    return [
        fixed(flow.quote, digits.quote),
        str(flow.trades),
        fixed(flow.taker, digits.volume),
        fixed(flow.taker_quote, digits.quote),
    ]


def _script(
    lead: str,
    price_texts: list[list[str]],
    flow_texts: list[list[str]],
    write_prices: Callable[[list[str]], str],
    write_flows: Callable[[list[str]], str],
) -> Script:
    prices = [write_prices(texts) for texts in price_texts] * 2
    flows = [write_flows(texts) for texts in flow_texts] * 2
    return Script(lead, prices, flows, write_prices, write_flows)


def _json_prices(texts: list[str]) -> str:
    return ',"' + '","'.join(texts) + '",'


def _json_flows(texts: list[str]) -> str:
    quote, trades, taker, taker_quote = texts
    return f',"{quote}",{trades},"{taker}","{taker_quote}","0"]'


def _csv_prices(texts: list[str]) -> str:
    return "," + ",".join(texts) + ","


def _csv_flows(texts: list[str]) -> str:
    return "," + ",".join(texts) + "\n"


def _prices(market: Market) -> list[Price]:
    rng = Random(f"prices {market}")
    closes = _walk(rng)
    opens = [closes[-1], *closes[:-1]]
    return [_price(rng, open_, close) for open_, close in zip(opens, closes, strict=True)]


def _walk(rng: Random) -> list[int]:
    """Return closing prices that end where they began, so that the loop has no jump."""
    steps = [rng.random() - 0.5 for _ in range(PRICES)]
    drift = sum(steps) / PRICES
    closes, share = [], 0.0
    for step in steps:
        share += step - drift
        closes.append(round(START_CENTS * (1 + STEP_SHARE * 2 * share)))
    return closes


def _price(rng: Random, open_: int, close: int) -> Price:
    high = max(open_, close) + _below(rng, 1_500)
    low = min(open_, close) - _below(rng, 1_500)
    return Price(open_, high, low, close, VOLUME_FLOOR + _below(rng, 900 * VOLUME_FLOOR))


def _flows(market: Market) -> list[Flow]:
    rng = Random(f"flows {market}")
    return [
        Flow(
            quote=QUOTE_FLOOR + _below(rng, 90_000 * QUOTE_FLOOR // 1_000),
            trades=2 + _below(rng, 4_000),
            taker=1 + _below(rng, VOLUME_FLOOR - 1),
            taker_quote=1 + _below(rng, QUOTE_FLOOR - 1),
        )
        for _ in range(FLOWS)
    ]


def _below(rng: Random, bound: int) -> int:
    """Return a number in [0, bound).

    Python promises only of `random()` that it stays the same between versions.
    """
    return int(rng.random() * bound)
