"""What --all selects, and how a symbol is found to exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.requests.symbols import (
    ChosenSymbols,
    SymbolSelection,
    choose_symbols,
    parse_selection,
)
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol, Unreachable
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet, series_of

UM, M1 = Market.USD_M, Interval.M1


def entry(
    symbol: str, base: str, quote: str = "USDT", status: str = "TRADING", pair: str | None = None
) -> CatalogEntry:
    began = utc_ms(2020)
    pair = f"{base}{quote}" if pair is None else pair
    return CatalogEntry(
        symbol,
        status,
        base,
        quote,
        pair,
        "",
        began,
        None,
        began,
        began,
        None if status == "TRADING" else utc_ms(2022),
        ("1m",),
        True,
        bool(status),
    )


ENTRIES = [
    entry("BTCUSDT", "BTC"),
    entry("BTCUSDC", "BTC", "USDC"),
    entry("BTCUSDT_241227", "BTC"),
    entry("ETHUSDT", "ETH", status="SETTLING"),
    entry("SRMUSDT", "SRM", status=""),
    entry("ODDUSDT", "ODD", pair=""),
    entry("币安人生USDT", "币安人生"),
]


@pytest.fixture
def one(redis: Redis, tmp_path: Path) -> InProcessFleet:
    """A market with a fresh catalog, whose exchange lists some of its symbols."""
    made = in_process_fleet(
        redis, tmp_path, {"BTCUSDT": 0, "BTCUSDC": 0, "ETHUSDT": 0, "币安人生USDT": 0}
    )
    made.services.catalogs.store(Catalog(UM, now_ms(redis), ENTRIES))
    return made


def every(
    one: InProcessFleet, *, kind: Kind = KLINES, quote: str | None = None, status: str = "all"
) -> tuple[str, ...]:
    wish = parse_selection(None, None, None, True, quote=quote, status=status)
    return choose_symbols(one.services, UM, kind, M1, wish, Mode.AUTO, lambda _: None).symbols


def named(
    one: InProcessFleet,
    *names: str,
    skip: bool = False,
    mode: Mode = Mode.AUTO,
    kind: Kind = KLINES,
) -> ChosenSymbols:
    wish = SymbolSelection(names, skip_unknown=skip)
    return choose_symbols(one.services, UM, kind, M1, wish, mode, lambda _: None)


@pytest.mark.parametrize(
    ("quote", "status", "wanted"),
    [
        (
            None,
            "all",
            [
                "BTCUSDC",
                "BTCUSDT",
                "BTCUSDT_241227",
                "ETHUSDT",
                "ODDUSDT",
                "SRMUSDT",
                "币安人生USDT",
            ],
        ),
        ("usdc", "all", ["BTCUSDC"]),
        ("USDT", "trading", ["BTCUSDT", "BTCUSDT_241227", "ODDUSDT", "币安人生USDT"]),
        (None, "trading", ["BTCUSDC", "BTCUSDT", "BTCUSDT_241227", "ODDUSDT", "币安人生USDT"]),
    ],
)
def test_all_means_each_symbol_of_that_quote_and_status_once(
    one: InProcessFleet, quote: str | None, status: str, wanted: list[str]
) -> None:
    assert list(every(one, quote=quote, status=status)) == wanted


def test_all_asks_nobody_where_the_catalog_is_fresh(one: InProcessFleet) -> None:
    every(one)
    assert one.archive.asked == one.client.asked == []


def test_all_is_told_while_the_catalog_is_made(redis: Redis, tmp_path: Path) -> None:
    said: list[str] = []
    services = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0}).services
    assert choose_symbols(
        services, UM, KLINES, M1, SymbolSelection(None), Mode.AUTO, said.append
    ).symbols == ("BTCUSDT",)
    assert said[0] == "catalog um: 1 symbols listed, 0 in the archive"
    assert said[-1].startswith("catalog um: 1 symbols in catalog/market=um/")


@pytest.mark.parametrize("kind", [FUNDING_RATE, PREMIUM_INDEX_KLINES])
def test_contracts_with_a_delivery_date_are_not_asked_for_what_they_do_not_have(
    one: InProcessFleet, kind: Kind
) -> None:
    assert every(one, kind=kind) == (
        "BTCUSDC",
        "BTCUSDT",
        "ETHUSDT",
        "ODDUSDT",
        "SRMUSDT",
        "币安人生USDT",
    )


def test_index_candles_are_asked_for_by_pair_and_each_pair_once(one: InProcessFleet) -> None:
    pairs = ("BTCUSDC", "BTCUSDT", "ETHUSDT", "SRMUSDT", "币安人生USDT")
    assert choose_symbols(
        one.services, UM, INDEX_PRICE_KLINES, M1, SymbolSelection(None), Mode.AUTO, lambda _: None
    ) == ChosenSymbols(pairs)


@pytest.mark.parametrize(
    ("quote", "status", "asked"),
    [
        ("EUR", "all", "--quote EUR --status all"),
        ("eur", "trading", "--quote EUR --status trading"),
    ],
)
def test_all_of_nothing_is_refused_in_one_line_that_names_what_was_asked(
    one: InProcessFleet, quote: str, status: str, asked: str
) -> None:
    with pytest.raises(RequestError) as refused:
        every(one, quote=quote, status=status)
    assert str(refused.value) == f"market um has no symbol with {asked}"


def test_all_of_names_that_cannot_be_symbols_is_refused(redis: Redis, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="market um has no symbol with"):
        every(in_process_fleet(redis, tmp_path, {"../../etc": 0}))


@pytest.mark.parametrize(("quote", "status"), [("USDT", "all"), (None, "trading")])
def test_a_list_of_names_is_never_narrowed_silently(
    tmp_path: Path, quote: str | None, status: str
) -> None:
    (tmp_path / "names").write_text("BTCUSDT\n")
    for symbols, file in (("BTCUSDT", None), (None, tmp_path / "names")):
        with pytest.raises(RequestError, match="--quote and --status need --all"):
            parse_selection(symbols, file, None, False, quote=quote, status=status)


def test_all_beside_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("BTCUSDT\n")
    for symbols, file in (("BTCUSDT", None), (None, tmp_path / "names")):
        with pytest.raises(RequestError, match="--all cannot be combined with"):
            parse_selection(symbols, file, None, True)
    with pytest.raises(RequestError, match="--top needs --symbols-file"):
        parse_selection(None, None, 3, True)


def test_top_counts_symbols_and_not_lines(tmp_path: Path) -> None:
    (tmp_path / "ranked.csv").write_text(
        "rank,symbol\n1,btcusdt\n2,\n3,BTCUSDT\n4,ETHUSDT\n5,XRPUSDT\n"
    )
    assert parse_selection(None, tmp_path / "ranked.csv", 2, False).names == ("BTCUSDT", "ETHUSDT")


def test_a_row_that_is_too_short_names_no_symbol(tmp_path: Path) -> None:
    (tmp_path / "ranked.csv").write_text("rank,symbol\n1\n2,ETHUSDT,more\n")
    assert parse_selection(None, tmp_path / "ranked.csv", None, False).names == ("ETHUSDT",)


def test_unknown_names_are_left_out_only_where_that_was_said() -> None:
    assert not parse_selection("BTCUSDT", None, None, False).skip_unknown
    assert parse_selection("BTCUSDT", None, None, False, skip_unknown=True) == SymbolSelection(
        ("BTCUSDT",), skip_unknown=True
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BTCUSD", " (did you mean BTCUSDT or BTCUSDC or ETHUSDT?)"),
        ("币安USDT", " (did you mean 币安人生USDT or ETHUSDT or BTCUSDT?)"),
        ("ZZZ", ""),
    ],
)
def test_the_refusal_of_a_name_tells_those_most_like_it(
    one: InProcessFleet, name: str, hint: str
) -> None:
    with pytest.raises(RequestError) as refused:
        named(one, "BTCUSDT", name)
    assert str(refused.value) == f"market um has no symbol {name}{hint}"


def test_every_name_left_out_is_noted_with_those_most_like_it(one: InProcessFleet) -> None:
    told = named(one, "ZZZ", "BTCUSDT", "ETHUSD", skip=True)
    assert told.symbols == ("BTCUSDT",)
    assert list(told.notes) == ["ZZZ", "ETHUSD"]
    assert told.notes["ZZZ"] == "market um has no such symbol; left out"
    assert told.notes["ETHUSD"].startswith("market um has no such symbol (did you mean ETHUSDT")


def test_names_that_are_all_unknown_are_refused_even_where_some_could_be_left_out(
    one: InProcessFleet,
) -> None:
    with pytest.raises(RequestError, match=r"no symbol ZZZ \(and 2 more\)$"):
        named(one, "ZZZ", "YYY", "XXX", skip=True)


def test_a_symbol_of_the_archive_alone_is_unknown_where_only_rest_may_be_asked(
    one: InProcessFleet,
) -> None:
    one.archive.publish(series_of("SRMUSDT"), "2022-01")
    assert named(one, "SRMUSDT", mode=Mode.ARCHIVE).symbols == ("SRMUSDT",)
    one.archive.asked.clear()
    with pytest.raises(RequestError, match="no symbol SRMUSDT"):
        named(one, "SRMUSDT", mode=Mode.REST)
    assert one.archive.asked == []


def test_an_archive_that_does_not_answer_makes_no_symbol_known_or_unknown(
    one: InProcessFleet,
) -> None:
    one.archive.fault = Unreachable("no route")
    with pytest.raises(RequestError, match="the archive could not be asked for it"):
        named(one, "SRMUSDT")
    assert named(one, "BTCUSDT").symbols == ("BTCUSDT",)


def test_a_symbol_listed_since_the_list_was_loaded_is_known_by_its_candles(
    one: InProcessFleet,
) -> None:
    one.client.began["NEWUSDT"] = one.client.newest_ms["NEWUSDT"] = utc_ms(2024)
    assert named(one, "NEWUSDT").symbols == ("NEWUSDT",)
    with pytest.raises(UnknownSymbol):
        named(one, "OTHERUSDT")


def test_without_any_list_of_symbols_the_archives_files_make_one_known(
    one: InProcessFleet,
) -> None:
    one.services.redis.flushdb()
    one.archive.publish(series_of("SRMUSDT"), "2024-01")
    assert named(one, "SRMUSDT", mode=Mode.ARCHIVE).symbols == ("SRMUSDT",)
    assert one.client.asked == []


def test_a_listed_symbol_is_known_without_asking_the_archive(one: InProcessFleet) -> None:
    assert named(one, "币安人生USDT", "BTCUSDT").symbols == ("币安人生USDT", "BTCUSDT")
    assert one.archive.asked == []


def test_index_candles_are_known_by_their_pair(one: InProcessFleet) -> None:
    assert named(one, "BTCUSDT", kind=INDEX_PRICE_KLINES).symbols == ("BTCUSDT",)
    with pytest.raises(RequestError, match="no symbol BTCUSDT_241227"):
        named(one, "BTCUSDT_241227", kind=INDEX_PRICE_KLINES)
