"""The catalog as it is held: what it tells, and which of several counts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.catalog import KEPT, Catalog, CatalogEntry, Catalogs
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from tests.unit.helpers.catalogs import (
    MADE_MS,
    UM,
    catalog,
    entry,
    names,
)
from tests.unit.helpers.strategies import intervals, moments


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(
        str(tmp_path / "store"), sleep=lambda seconds: pytest.fail(f"slept {seconds} s")
    )


maybe = st.none() | moments
some_entry = st.builds(
    CatalogEntry,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["", "TRADING", "SETTLING", "BREAK"]),
    *[st.sampled_from(["", "BTC", "币安人生"])] * 3,
    st.sampled_from(["", "PERPETUAL", "CURRENT_QUARTER"]),
    *[maybe] * 5,
    st.lists(intervals.map(str), unique=True, max_size=4).map(tuple),
    *[st.booleans()] * 3,
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(some_entry, max_size=6, unique_by=lambda one: one.symbol),
    st.sampled_from(Market),
    moments,
    st.booleans(),
    st.booleans(),
)
def test_a_catalog_survives_the_way_through_parquet(
    entries: list[CatalogEntry], market: Market, made_ms: int, has_archive: bool, has_rest: bool
) -> None:
    made = Catalog(market, made_ms, entries, has_archive=has_archive, has_rest=has_rest)
    read = Catalog.from_parquet(made.to_parquet())
    assert (read.market, read.made_ms) == (market, made_ms)
    assert (read.has_archive, read.has_rest) == (has_archive, has_rest)
    assert read.entries() == made.entries() == sorted(entries, key=lambda one: one.symbol)
    assert read.to_parquet() == made.to_parquet()


def test_a_catalog_is_what_any_reader_of_parquet_expects(files: ObjectStore) -> None:
    catalogs = Catalogs(files)
    body = files.read(catalogs.store(catalog(entry("BTCUSDT")))) or b""
    row = pl.read_parquet(io.BytesIO(body)).row(0, named=True)
    assert (row["symbol"], row["intervals"], row["last"]) == ("BTCUSDT", ["1m"], None)
    assert f"{row['first']:%Y-%m-%dT%H:%M%z}" == "2020-01-01T00:00+0000"


WHOLE = catalog(entry("BTCUSDT")).to_parquet()


def other_parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"PAR1PAR1",
        WHOLE[:-20],
        WHOLE[20:],
        other_parquet(symbol=["BTCUSDT"]),
        other_parquet(a=[1]),
    ],
    ids=[
        "empty",
        "html",
        "nothing inside",
        "no end",
        "no beginning",
        "one column",
        "another table",
    ],
)
def test_what_is_no_catalog_is_never_taken_for_one(body: bytes) -> None:
    with pytest.raises(PartitionDamaged, match="left as it is"):
        Catalog.from_parquet(body)


def test_a_symbol_that_nobody_knows_is_none_and_not_its_neighbour() -> None:
    known = catalog(entry("ETHUSDT"), entry("BTCUSDT"), entry("币安人生USDT"))
    assert len(known) == 3
    assert known.get("BTCUSDT") == entry("BTCUSDT")
    assert known.get("BTCUSD") is known.get("btcusdt") is known.get("") is None


def test_symbols_are_narrowed_by_quote_and_by_whether_they_trade() -> None:
    known = catalog(
        entry("XUSDT"),
        entry("BTCBUSD", "BUSD"),
        entry("AUSDT", status="SETTLING"),
        replace(entry("ZUSDT", status=""), last_ms=utc_ms(2022)),
    )
    assert [one.symbol for one in known.entries()] == ["AUSDT", "BTCBUSD", "XUSDT", "ZUSDT"]
    assert [one.symbol for one in known.entries("USDT")] == ["AUSDT", "XUSDT", "ZUSDT"]
    assert [one.symbol for one in known.entries(status="trading")] == ["BTCBUSD", "XUSDT"]
    assert [one.symbol for one in known.entries("USDT", "trading")] == ["XUSDT"]
    assert known.entries("USD") == []


@pytest.mark.parametrize(
    ("onboard_ms", "first_ms", "last_ms", "life"),
    [
        (5, 9, 70, Span(5, 70)),
        (5, None, 70, Span(5, 70)),
        (5, 0, 70, Span(0, 70)),
        (None, None, None, Span(0, utc_ms(2100))),
        (None, 9, None, Span(9, utc_ms(2100))),
    ],
)
def test_a_life_is_never_shorter_than_what_is_known_of_it(
    onboard_ms: int | None, first_ms: int | None, last_ms: int | None, life: Span
) -> None:
    assert (
        replace(entry("X"), onboard_ms=onboard_ms, first_ms=first_ms, last_ms=last_ms).trading_span
        == life
    )


def test_there_is_no_catalog_before_one_is_made_and_none_of_another_market(
    files: ObjectStore,
) -> None:
    catalogs = Catalogs(files)
    assert catalogs.newest(UM) is None
    assert catalogs.store(catalog(market=Market.SPOT)) == "catalog/market=spot/2024-06-15.parquet"
    assert catalogs.newest(UM) is None
    assert names(catalogs, Market.SPOT) == []


def test_the_newest_catalog_wins_whatever_order_they_were_stored_in(files: ObjectStore) -> None:
    catalogs = Catalogs(files)
    for day in (2, -1, 1, 0):
        catalogs.store(catalog(entry(f"X{day}USDT"), made_ms=MADE_MS + day * DAY_MS))
    assert names(catalogs) == ["X2USDT"]


def test_a_later_catalog_of_a_day_takes_the_earlier_ones_place(files: ObjectStore) -> None:
    catalogs = Catalogs(files)
    stored = {
        catalogs.store(catalog(entry(name), made_ms=MADE_MS + n))
        for n, name in enumerate(("A", "B"))
    }
    assert stored == {keys.catalog(UM, "2024-06-15")}
    assert names(catalogs) == ["B"]


def test_a_week_of_catalogs_is_kept_of_each_market(files: ObjectStore) -> None:
    catalogs = Catalogs(files)
    spot = catalogs.store(catalog(market=Market.SPOT, made_ms=utc_ms(2020)))
    stored = [catalogs.store(catalog(made_ms=MADE_MS + day * DAY_MS)) for day in range(20)]
    assert [one.key for one in files.list(keys.catalog_folder(UM))] == stored[-KEPT:]
    assert KEPT == 7
    assert files.read(spot)
