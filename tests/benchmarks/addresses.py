"""Two public addresses against one on a job that the budget bounds."""

from __future__ import annotations

import statistics

from tests.benchmarks.measure import RTT_MS, YEAR, YEAR_KLINES, fleet_at, show

#: Loopback addresses that the stand-in exchange counts apart, as the exchange does public ones.
ADDRESSES = ("127.0.0.2", "127.0.0.3")
SYMBOLS = (
    "BTCUSDT",
    "ETHUSDT",
    "SOLUSDT",
    "SIM001USDT",
    "SIM002USDT",
    "SIM003USDT",
    "SIM004USDT",
    "SIM005USDT",
)


def two_addresses() -> None:
    """Weight spent in full minutes, and 429s: four symbol-years by one address, eight by two."""
    one, shares_of_one, refused_one = _spent(1)
    two, shares_of_two, refused_two = _spent(2)
    show(
        "USD-M symbol-years by REST, a worker at each address",
        ratio=two / one,
        weight_a_minute_by_one=one,
        weight_a_minute_by_two=two,
        shares_by_one=shares_of_one,
        shares_by_two=shares_of_two,
        refused_429=refused_one + refused_two,
    )


def _spent(addresses: int) -> tuple[float, str, int]:
    """Return the mean weight of a full minute, each address's shares of them, and its 429s."""
    symbols = SYMBOLS[: 4 * addresses]
    with fleet_at("--latency-ms", str(RTT_MS), workers=0) as fleet:
        for address in ADDRESSES[:addresses]:
            fleet.start_worker(KLINES_EGRESS=f"at-{address}", KLINES_SOURCE_ADDRESS=address)
        wanted = ("--market", "um", "--symbols", ",".join(symbols), *YEAR, "--source", "rest")
        told = fleet.download(*wanted, timeout_s=900)
        assert told["klines"] == told["rows_gained"] == len(symbols) * YEAR_KLINES, told
        books = [m for m in fleet.exchange.books()["minutes"] if m["pool"] == "futures"]
    moments = sorted({m["minute_ms"] for m in books})
    # The first minute began before the run, the last is cut by its end.
    full = [
        m for m in books if m["address"] in ADDRESSES and moments[0] < m["minute_ms"] < moments[-1]
    ]
    weights = [
        sum(m["weight"] for m in full if m["minute_ms"] == moment) for moment in moments[1:-1]
    ]
    shares = " ".join(f"{m['weight'] / m['limit']:.4f}" for m in full)
    return statistics.mean(weights), shares, sum(m["refused_429"] for m in books)
