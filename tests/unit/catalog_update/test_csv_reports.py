from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from klinefleet.tasks.catalog_update.csv_reports import write_reports
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry

SPOT, UM, CM = Market.SPOT, Market.USD_M, Market.COIN_M
HEADER = ["market", "symbol", "earliest_date", "available_intervals", "first_candle"]
BEGAN = utc_ms(2020, 1, 2)


def entry(
    symbol: str,
    base: str,
    quote: str,
    contract_type: str = "",
    *,
    status: str = "TRADING",
    archive_ms: int | None = BEGAN,
    first_ms: int | None = BEGAN,
    intervals: tuple[str, ...] = ("1m",),
) -> CatalogEntry:
    pair = f"{base}{quote}"
    fields = (
        symbol,
        status,
        base,
        quote,
        pair,
        contract_type,
        None,
        None,
        archive_ms,
        first_ms,
        None,
        intervals,
    )
    return CatalogEntry(*fields, in_archive=archive_ms is not None, in_rest=bool(status))


def reports(
    tmp_path: Path, spot: list[CatalogEntry], um: list[CatalogEntry], cm: list[CatalogEntry]
) -> dict[str, list[list[str]]]:
    """Every report's rows by its file's name; its row count is checked."""
    catalogs = {m: Catalog(m, 0, entries) for m, entries in ((UM, um), (SPOT, spot), (CM, cm))}
    written = dict(write_reports(catalogs, tmp_path / "some" / "reports"))
    read = {
        path.name: list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        for path in written
    }
    assert {path.name: len(read[path.name]) - 1 for path in written} == {
        p.name: n for p, n in written.items()
    }
    return read


def test_every_report_is_written_with_its_columns_though_nothing_is_known(tmp_path: Path) -> None:
    assert reports(tmp_path, [], [], []) == {
        "spot_earliest_dates.csv": [HEADER],
        "um_earliest_dates.csv": [HEADER],
        "cm_earliest_dates.csv": [HEADER],
        "all_markets_earliest_dates.csv": [HEADER],
        "spot_um_symbols.csv": [["base", "quote", "spot", "um"]],
        "spot_um_cm_symbols.csv": [["base", "quote", "spot", "um", "cm"]],
    }


def test_the_earliest_date_is_the_archives_and_the_first_candle_is_told_beside_it(
    tmp_path: Path,
) -> None:
    earlier = BEGAN - 100 * HOUR_MS - 60_000
    symbols = [
        entry("AUSDT", "A", "USDT", first_ms=earlier, intervals=("1M", "1m")),
        entry("BUSDT", "B", "USDT", archive_ms=None, first_ms=earlier, intervals=()),
        entry("CUSDT", "C", "USDT", first_ms=None, status=""),
        entry("DUSDT", "D", "USDT", archive_ms=0),
    ]
    assert reports(tmp_path, [], symbols, [])["um_earliest_dates.csv"] == [
        HEADER,
        ["um", "AUSDT", "2020-01-02", "1M,1m", "2019-12-28T19:59"],
        ["um", "BUSDT", "2019-12-28", "", "2019-12-28T19:59"],
        ["um", "CUSDT", "2020-01-02", "1m", ""],
        ["um", "DUSDT", "1970-01-01", "1m", "2020-01-02"],
    ]


def test_a_symbol_of_which_nobody_knows_when_it_began_has_no_date_made_up_for_it(
    tmp_path: Path,
) -> None:
    unknown = entry("NEWUSDT", "NEW", "USDT", archive_ms=None, first_ms=None)
    rows = reports(tmp_path, [unknown], [unknown], [])
    assert rows["spot_earliest_dates.csv"] == [HEADER]
    assert rows["spot_um_symbols.csv"][1:] == [["NEW", "USDT", "NEWUSDT", "NEWUSDT"]]


def test_all_markets_are_every_markets_rows_in_one_order(tmp_path: Path) -> None:
    one = entry("BTCUSDT", "BTC", "USDT")
    rows = reports(
        tmp_path,
        [one],
        [entry("ETHUSDT", "ETH", "USDT"), one],
        [entry("BTCUSD_PERP", "BTC", "USD")],
    )
    together = [(row[0], row[1]) for row in rows["all_markets_earliest_dates.csv"][1:]]
    assert together == [
        ("cm", "BTCUSD_PERP"),
        ("spot", "BTCUSDT"),
        ("um", "BTCUSDT"),
        ("um", "ETHUSDT"),
    ]


def test_only_what_every_market_has_is_shared_and_dollars_of_coin_m_stand_for_usdt(
    tmp_path: Path,
) -> None:
    spot = [
        entry(f"{base}{quote}", base, quote)
        for base in ("BTC", "ETH", "XRP")
        for quote in ("USDT", "USDC")
    ]
    um = [
        entry("BTCUSDT", "BTC", "USDT"),
        entry("BTCUSDC", "BTC", "USDC"),
        entry("ETHUSDT", "ETH", "USDT"),
    ]
    cm = [
        entry("BTCUSD_PERP", "BTC", "USD", "PERPETUAL"),
        entry("XRPUSD_PERP", "XRP", "USD", "PERPETUAL"),
    ]
    rows = reports(tmp_path, spot, um, cm)
    assert rows["spot_um_symbols.csv"][1:] == [
        ["BTC", "USDC", "BTCUSDC", "BTCUSDC"],
        ["BTC", "USDT", "BTCUSDT", "BTCUSDT"],
        ["ETH", "USDT", "ETHUSDT", "ETHUSDT"],
    ]
    assert rows["spot_um_cm_symbols.csv"][1:] == [
        ["BTC", "USDT", "BTCUSDT", "BTCUSDT", "BTCUSD_PERP"]
    ]


def test_symbols_are_matched_by_their_assets_and_not_by_their_names(tmp_path: Path) -> None:
    rows = reports(
        tmp_path,
        [entry("LUNAUSDT", "LUNA", "USDT"), entry("ABUSD", "A", "BUSD")],
        [entry("LUNAUSDT", "LUNA2", "USDT"), entry("ABUSD", "AB", "USD")],
        [],
    )
    assert rows["spot_um_symbols.csv"][1:] == []


@pytest.mark.parametrize(
    ("symbol", "contract_type"),
    [
        ("BTCUSDT_241227", "CURRENT_QUARTER"),
        ("BTCUSDT_241227", ""),
        ("BTCUSDT_241227", "NEXT_MONTH"),
        ("BTCX", "NEXT_QUARTER"),
    ],
)
def test_a_contract_that_ends_is_never_a_symbols_counterpart(
    tmp_path: Path, symbol: str, contract_type: str
) -> None:
    rows = reports(
        tmp_path,
        [entry("BTCUSDT", "BTC", "USDT")],
        [entry(symbol, "BTC", "USDT", contract_type)],
        [],
    )
    assert rows["spot_um_symbols.csv"][1:] == []
    assert len(rows["um_earliest_dates.csv"]) == 2


def test_a_name_that_was_used_again_stands_before_the_settled_one(tmp_path: Path) -> None:
    um = [
        entry("ICPUSDTSETTLED", "ICP", "USDT", status=""),
        entry("ICPUSDT", "ICP", "USDT", "PERPETUAL"),
    ]
    rows = reports(tmp_path, [entry("ICPUSDT", "ICP", "USDT")], um, [])
    assert rows["spot_um_symbols.csv"][1:] == [["ICP", "USDT", "ICPUSDT", "ICPUSDT"]]


def test_symbols_whose_assets_are_unknown_are_not_matched_with_one_another(tmp_path: Path) -> None:
    odd = [entry("ODD", "ODD", "")]
    assert reports(tmp_path, odd, odd, odd)["spot_um_cm_symbols.csv"][1:] == []


def test_a_symbol_of_any_script_is_written_as_it_is_and_an_older_report_is_replaced(
    tmp_path: Path,
) -> None:
    life = entry("币安人生USDT", "币安人生", "USDT")
    reports(tmp_path, [entry("BTCUSDT", "BTC", "USDT")], [], [])
    rows = reports(tmp_path, [life], [life], [])
    assert [row[1] for row in rows["spot_earliest_dates.csv"]] == ["symbol", "币安人生USDT"]
    assert rows["spot_um_symbols.csv"][1:] == [["币安人生", "USDT", "币安人生USDT", "币安人生USDT"]]
    body = (tmp_path / "some" / "reports" / "spot_earliest_dates.csv").read_bytes()
    assert b"\r" not in body
    assert body.endswith(b"\n")
