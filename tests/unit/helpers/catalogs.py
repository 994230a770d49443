"""What tests of the catalog share: entries, listings, and an exchange that tells them."""

from __future__ import annotations

from collections.abc import Callable

from klinefleet.tasks.catalog_update.build import update_catalog
from klinefleet.workers.binance.exchange_info import ExchangeInfo, Listing
from klinefleet.workers.domain.errors import FleetError, Refused
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry, Catalogs
from tests.unit.helpers.in_process_fleet import InProcessFleet

MADE_MS = utc_ms(2024, 6, 15) + 1
UM = Market.USD_M
M1, S1, D1, MO1 = Interval.M1, Interval.S1, Interval.D1, Interval.MO1


def entry(symbol: str, quote: str = "USDT", status: str = "TRADING") -> CatalogEntry:
    base = symbol.removesuffix(quote)
    began = utc_ms(2020)
    return CatalogEntry(
        symbol,
        status,
        base,
        quote,
        symbol,
        "PERPETUAL",
        began,
        None,
        began,
        began,
        None,
        ("1m",),
        True,
        True,
    )


def catalog(*entries: CatalogEntry, made_ms: int = MADE_MS, market: Market = UM) -> Catalog:
    return Catalog(market, made_ms, entries)


def names(catalogs: Catalogs, market: Market = UM) -> list[str]:
    """The symbols of the newest catalog, which must be there."""
    newest = catalogs.newest(market)
    assert newest is not None
    return [one.symbol for one in newest.entries()]


def listing(symbol: str, status: str = "TRADING", **told: object) -> Listing:
    named: dict[str, object] = {
        "base": symbol.removesuffix("USDT"),
        "quote": "USDT",
        "pair": symbol,
        **told,
    }
    onboard_ms, delivery_ms = named.pop("onboard_ms", utc_ms(2021)), named.pop("delivery_ms", None)
    return Listing(symbol, status, onboard_ms, delivery_ms, contract_type="PERPETUAL", **named)  # type: ignore[arg-type]


class Exchange:
    """An exchange with these listings and first candles.

    An answer that is an error is raised; `faults` come before any answer.
    """

    def __init__(
        self, *listings: Listing, first: dict[str, int | FleetError | None] | None = None
    ) -> None:
        self.listings = listings
        self.first = first or {}
        self.newest: dict[str, int | FleetError | None] = {}
        self.faults: list[FleetError] = []
        self.asked: list[str] = []

    def exchange_info(self) -> ExchangeInfo:
        if self.faults:
            raise self.faults.pop(0)
        return ExchangeInfo(2400, self.listings)

    def first_open_ms(self, series: Series, known_ms: int | None = None) -> int | None:
        self.asked.append(f"{series.symbol} {series.interval}")
        return self._told(self.first.get(series.symbol, known_ms))

    def newest_open_ms(self, series: Series) -> int | None:
        self.asked.append(f"newest {series.symbol}")
        return self._told(self.newest.get(series.symbol, Refused("no", code=-1121)))

    def _told(self, told: int | FleetError | None) -> int | None:
        if self.faults:
            raise self.faults.pop(0)
        if isinstance(told, FleetError):
            raise told
        return told


Maker = Callable[..., tuple[InProcessFleet, Exchange]]


def publish(
    one: InProcessFleet, symbol: str, *periods: str, interval: Interval = M1, market: Market = UM
) -> None:
    for period in periods:
        one.archive.publish(Series(market, KLINES, interval, symbol), period)


def updated(one: InProcessFleet, market: Market = UM) -> dict[str, CatalogEntry]:
    made = update_catalog(one.services, market, lambda _: None)
    held = one.services.catalogs.newest(market)
    assert held
    assert held.entries() == made.entries()
    return {symbol.symbol: symbol for symbol in made.entries()}
