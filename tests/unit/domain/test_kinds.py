"""A kind is one file: what it declares is found by its name, and holds together."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from klinefleet.workers.domain import kinds
from klinefleet.workers.domain.kinds.declaration import Aggregate, ColumnType, Kind, RestRows
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND, KINDS, kind_named
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.schema import is_older, schema_of, wire_schema, with_all_columns

each_kind = pytest.mark.parametrize("kind", list(KINDS.values()), ids=str)


def test_every_file_that_declares_a_kind_is_found_and_the_default_comes_first() -> None:
    files = Path(next(iter(kinds.__path__))).glob("*.py")
    declaring = [file for file in files if "\nKIND = " in file.read_text()]
    assert len(KINDS) == len(declaring) >= 5
    assert next(iter(KINDS.values())) is DEFAULT_KIND is KLINES


def test_a_name_that_no_file_declares_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'klinez' is not a kind; there are klines, fundingRate"):
        kind_named("klinez")


@each_kind
def test_a_kind_is_found_by_its_name_and_survives_the_way_to_another_process(kind: Kind) -> None:
    assert kind_named(str(kind)) is kind
    assert pickle.loads(pickle.dumps(kind)) == kind


@each_kind
def test_the_columns_of_a_kind_hold_together(kind: Kind) -> None:
    names = set(kind.names)
    assert len(names) == len(kind.columns)
    assert kind.columns[0].type is ColumnType.TIME
    assert all(column.part_of in names for column in kind.columns if column.part_of)
    assert ColumnType.TEXT not in {column.type for column in kind.columns}
    wire = wire_schema(kind.archive_columns)
    required = {column.name for column in kind.columns if not column.may_be_null}
    assert required <= set(wire)
    if kind.rest_rows is RestRows.OBJECTS:
        assert required <= {column.name for column in kind.columns if column.rest_field}


@each_kind
def test_candles_have_what_makes_them_coarser_and_events_have_a_page_rule(kind: Kind) -> None:
    if kind.has_interval:
        assert kind.names[:5] == ("open_time", "open", "high", "low", "close")
        made = {column.name for column in kind.columns if column.aggregate}
        assert set(kind.names) - made == {"open_time", "close_time"}
    else:
        assert kind.pages


def test_a_kind_spends_its_markets_weight_unless_it_declares_another_pool() -> None:
    assert KLINES.pool(Market.SPOT) is Pool.SPOT
    assert FUNDING_RATE.pool(Market.USD_M) is Pool.FUNDING
    assert FUNDING_RATE.pool(Market.COIN_M) is Pool.FUTURES


def test_a_column_that_was_added_later_has_to_admit_null() -> None:
    count = next(column for column in KLINES.columns if column.aggregate is Aggregate.SUM)
    with pytest.raises(ValueError, match="volume is added, so it may be null"):
        replace(KLINES, columns=(KLINES.columns[0], replace(count, is_added=True)))


@each_kind
def test_an_older_partition_lacks_a_column_and_has_no_other(kind: Kind) -> None:
    today = schema_of(kind).to_frame()
    assert not is_older(kind, today.schema)
    assert not is_older(kind, today.drop(kind.time_column).schema)
    for name in kind.names[1:]:
        older = today.drop(name)
        assert is_older(kind, older.schema)
        assert with_all_columns(kind, older).schema == today.schema
        assert not is_older(kind, older.select(reversed(older.columns)).schema)
