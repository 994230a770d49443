"""exchangeInfo in the three shapes the markets use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.simulator.markets import Market, Rules
from deploy.simulator.symbols import NEVER_MS, Instrument

SPOT_ORDERS = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
FUTURES_ORDERS = (
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
)


def head(rules: Rules, weight_limit: int) -> dict[str, Any]:
    """Return everything but the server time and the symbols."""
    info: dict[str, Any] = {
        "timezone": "UTC",
        "rateLimits": _rate_limits(rules, weight_limit),
        "exchangeFilters": [],
    }
    if rules.market is Market.USD_M:
        info["futuresType"] = "U_MARGINED"
        info["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    return info


def symbols_json(instruments: Sequence[Instrument]) -> str:
    """Return the symbols as a JSON array."""
    return json.dumps(
        [_symbol(instrument) for instrument in instruments],
        separators=(",", ":"),
        ensure_ascii=False,
    )


def untrue_info(told: str, untrue: Mapping[str, Mapping[str, Any] | None]) -> bytes:
    """Return exchangeInfo with other fields of some symbols, and without those that have None."""
    info = json.loads(told)
    info["symbols"] = [
        symbol | dict(untrue.get(symbol["symbol"]) or {})
        for symbol in info["symbols"]
        if untrue.get(symbol["symbol"], {}) is not None
    ]
    return json.dumps(info, ensure_ascii=False).encode()


def _rate_limits(rules: Rules, weight_limit: int) -> list[dict[str, Any]]:
    limits = [_rate_limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit)]
    if rules.market is Market.SPOT:
        return [
            *limits,
            _rate_limit("ORDERS", "SECOND", 10, 100),
            _rate_limit("ORDERS", "DAY", 1, 200_000),
            _rate_limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]
    limits.append(_rate_limit("ORDERS", "MINUTE", 1, 1_200))
    if rules.market is Market.USD_M:
        limits.append(_rate_limit("ORDERS", "SECOND", 10, 300))
    return limits


def _rate_limit(kind: str, interval: str, count: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _symbol(instrument: Instrument) -> dict[str, Any]:
    if instrument.market is Market.SPOT:
        return _spot_symbol(instrument)
    status = "status" if instrument.market is Market.USD_M else "contractStatus"
    symbol = _futures_symbol(instrument) | {status: instrument.status}
    if instrument.market is Market.COIN_M:
        symbol |= {"contractSize": instrument.contract_size, "equalQtyPrecision": 4}
    return symbol


def _spot_symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.name,
        "status": instrument.status,
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": SPOT_ORDERS,
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000.00",
                "tickSize": "0.01",
            }
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _futures_symbol(instrument: Instrument) -> dict[str, Any]:
    margin = instrument.quote if instrument.market is Market.USD_M else instrument.base
    return {
        "symbol": instrument.name,
        "pair": instrument.pair,
        "contractType": instrument.contract_type,
        "deliveryDate": instrument.ends_ms or NEVER_MS,
        "onboardDate": instrument.listed_ms,
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": margin,
        "pricePrecision": 2,
        "quantityPrecision": 3 if instrument.market is Market.USD_M else 0,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01",
            }
        ],
        "orderTypes": FUTURES_ORDERS,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
