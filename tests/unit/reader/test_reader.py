"""The reader returns exactly the requested rows that the lake holds."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import Candle, schema_of
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.lake.catalog import Catalogs
from klinefleet.workers.reader.partition_reader import MAX_BATCH_PARTITIONS, PartitionReader
from klinefleet.workers.reader.reader import Moment
from klinefleet.workers.storage.open import open_store
from tests.expected import ms_of
from tests.unit.helpers.catalogs import catalog, entry
from tests.unit.helpers.small_lakes import (
    DECEMBER,
    FEBRUARY,
    JANUARY,
    NOW_MS,
    TWO_MONTHS,
    between,
    hold,
    hold_all,
    hours,
    reader,
    rows_at,
    series,
)


def test_rows_are_returned_as_they_were_stored(store: Path, held: pl.DataFrame) -> None:
    assert_frame_equal(reader(store).read("um", "BTCUSDT", "1h"), held)
    assert_frame_equal(reader(store).scan("um", "BTCUSDT", "1h").collect(), held)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2023-12-20", "2024-01-10T12:00"),
        (date(2023, 12, 20), datetime(2024, 1, 10, 12)),
        (utc_ms(2023, 12, 20), "2024-01-10T14:00+02:00"),
        ("2023-12-19T23:00:00.001", datetime(2024, 1, 10, 11, 30, tzinfo=UTC)),
    ],
)
def test_a_range_is_half_open_whatever_the_type_of_its_ends(
    store: Path, held: pl.DataFrame, start: Moment, end: Moment
) -> None:
    wanted = between(held, utc_ms(2023, 12, 20), utc_ms(2024, 1, 10) + 12 * HOUR_MS)
    assert_frame_equal(reader(store).read("um", "BTCUSDT", "1h", start, end), wanted)
    assert_frame_equal(reader(store).scan("um", "BTCUSDT", "1h", start, end).collect(), wanted)


def test_a_query_on_a_scan_gives_the_same_as_on_the_rows(store: Path, held: pl.DataFrame) -> None:
    lazy = reader(store).scan("um", "BTCUSDT", "1h", "2023-12-10")
    rows = between(held, utc_ms(2023, 12, 10), FEBRUARY)
    high = pl.col("high") > pl.col("low") + 300
    for query in (
        lambda frame: frame.select(pl.len()),
        lambda frame: frame.filter(high).select("close", "open_time"),
        lambda frame: frame.filter(pl.col("open_time") >= datetime(2024, 1, 3, tzinfo=UTC)).select(
            pl.col("close").sum()
        ),
        lambda frame: frame.select("close").head(7),
        lambda frame: frame.tail(3),
        lambda frame: frame.slice(700, 60),
        lambda frame: (
            frame.group_by(pl.col("open_time").dt.date())
            .agg(pl.col("volume").sum())
            .sort("open_time")
        ),
        lambda frame: frame.filter(pl.lit(False)),
    ):
        assert_frame_equal(query(lazy).collect(), query(rows.lazy()).collect())


def test_columns_are_those_requested_in_their_order(store: Path, held: pl.DataFrame) -> None:
    wanted = ["close", "open_time"]
    assert_frame_equal(
        reader(store).read("um", "BTCUSDT", "1h", columns=wanted), held.select(wanted)
    )
    assert_frame_equal(
        reader(store).scan("um", "BTCUSDT", "1h", columns=wanted).collect(), held.select(wanted)
    )
    with pytest.raises(RequestError, match="no column 'vol'; there are open_time, open"):
        reader(store).scan("um", "BTCUSDT", "1h", columns=["vol"])


def test_times_are_the_same_read_or_computed_from_the_footers(store: Path) -> None:
    """A year without gaps, one with gaps, and one with a candle off its hour: whole, in part."""
    gone, late = DECEMBER + 7 * HOUR_MS, JANUARY + 3 * HOUR_MS
    held = Span(utc_ms(2022, 12), NOW_MS)
    opened = range(held.start_ms, held.end_ms, HOUR_MS)
    times = [at + (at == late) * 20 for at in opened if at != gone]
    rows = rows_at(times, step_ms=HOUR_MS)
    hold(store, hours(), rows, [held])
    lake, two = reader(store), ["close", "open_time"]
    for start, end in [
        ("2022-12-01", "2023-01-01"),
        ("2022-12-01", "2024-01-01"),
        ("2022-12-01", None),
        ("2023-12-10", None),
        ("2024-02-01", None),
    ]:
        wanted = between(rows, ms_of(start), ms_of(end) if end else NOW_MS)
        arguments = ("um", "BTCUSDT", "1h", start, end)
        assert_frame_equal(lake.read(*arguments, columns=two), wanted.select(two))
        assert_frame_equal(lake.scan(*arguments).select(two).collect(), wanted.select(two))
        assert_frame_equal(lake.read(*arguments), wanted)


def test_several_symbols_follow_in_the_requested_order(store: Path, held: pl.DataFrame) -> None:
    eth = hold_all(store, hours("ETHUSDT"), TWO_MONTHS, salt=0.5)
    long = pl.concat(
        rows.select(pl.lit(symbol).alias("symbol"), pl.all())
        for symbol, rows in (("ETHUSDT", eth), ("BTCUSDT", held))
    )
    arguments = ("um", ["ethusdt", "BTCUSDT", "ETHUSDT"], "1h")
    assert_frame_equal(reader(store).read(*arguments), long)
    assert_frame_equal(reader(store).scan(*arguments).collect(), long)
    one_symbol = (
        reader(store)
        .scan(*arguments)
        .filter(pl.col("symbol") == "BTCUSDT")
        .select("close", "symbol")
    )
    assert_frame_equal(
        one_symbol.collect(), long.filter(pl.col("symbol") == "BTCUSDT").select("close", "symbol")
    )


def test_a_list_one_symbol_symbol_names_it_too(store: Path, held: pl.DataFrame) -> None:
    assert reader(store).read("um", ["BTCUSDT"], "1h")["symbol"].unique().to_list() == ["BTCUSDT"]
    assert "symbol" not in reader(store).read("um", "BTCUSDT", "1h").columns


def test_a_panel_has_the_symbols_side_by_side(store: Path, held: pl.DataFrame) -> None:
    eth = hold_all(store, hours("ETHUSDT"), Span(JANUARY, FEBRUARY), salt=0.5)
    panel = reader(store).panel("um", ["ETHUSDT", "BTCUSDT"], "1h", partial=True)
    assert panel.columns == ["open_time", "ETHUSDT", "BTCUSDT"]
    assert panel["BTCUSDT"].to_list() == held["close"].to_list()
    assert panel["ETHUSDT"].null_count() == 31 * 24
    assert panel["ETHUSDT"].drop_nulls().to_list() == eth["close"].to_list()
    counts = reader(store).panel("um", ["BTCUSDT"], "1h", value="count")
    assert counts["BTCUSDT"].to_list() == held["count"].to_list()


def test_candles_come_in_the_order_of_time_then_of_the_symbols(
    store: Path, held: pl.DataFrame
) -> None:
    eth = hold_all(store, hours("ETHUSDT"), Span(DECEMBER, JANUARY + 2 * HOUR_MS), salt=0.5)
    candles = list(
        reader(store).iter_candles("um", ["ETHUSDT", "BTCUSDT"], "1h", "2023-12-31T22:00")
    )
    assert [(c.symbol, c.timestamp.hour) for c in candles[:9]] == [
        *((symbol, hour) for hour in (22, 23, 0, 1) for symbol in ("ETHUSDT", "BTCUSDT")),
        ("BTCUSDT", 2),
    ]
    last = eth.row(-1, named=True)
    opened = datetime(2024, 1, 1, 1, tzinfo=UTC)
    values = (last[name] for name in ("open", "high", "low", "close", "volume"))
    assert candles[6] == Candle("ETHUSDT", opened, *values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"market": "futures"}, "unknown market 'futures'; known are spot, um, cm"),
        ({"interval": "1H"}, "unknown interval '1H'"),
        ({"market": "um", "interval": "1s"}, "market um has no interval 1s"),
        ({"kind": "trades"}, "unknown kind 'trades'"),
        ({"start": "yesterday"}, "start 'yesterday' is no date"),
        ({"start": "2024-01-01", "end": "2024-01-01"}, "no 1h candle opens between"),
        ({"symbols": []}, "no symbols given"),
        ({"symbols": "../../x"}, "invalid symbol"),
        (
            {"symbols": "BTCUSDT", "resample": "30m"},
            "a 30m candle is not a whole number of 1h candles",
        ),
        ({"resample": "soon"}, "no interval 'soon'"),
        ({"fill": "backward"}, "fill must be 'forward', not 'backward'"),
        ({"kind": "fundingRate", "interval": None, "fill": "forward"}, "events, not candles"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(
    store: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        reader(store).read(**({"market": "um", "symbols": "BTCUSDT", "interval": "1h"} | arguments))  # type: ignore[arg-type]


def test_funding_events_are_read_as_they_are(store: Path) -> None:
    events = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
    times = [DECEMBER + 12, DECEMBER + 8 * HOUR_MS + 3]
    wire = {
        "calc_time": times,
        "funding_interval_hours": [8, 8],
        "last_funding_rate": [0.0001, -0.0002],
    }
    rows = pl.DataFrame(wire).with_columns(mark_price=pl.lit(None)).cast(schema_of(FUNDING_RATE))  # type: ignore[arg-type]
    hold(store, events, rows, [Span(DECEMBER, JANUARY)])
    assert_frame_equal(reader(store).read("um", "BTCUSDT", kind="fundingRate"), rows)
    with pytest.raises(RequestError, match="events, not candles"):
        reader(store).iter_candles("um", "BTCUSDT", kind="fundingRate")


def test_monthly_candles_are_read_as_1M_whatever_their_folder_is_called(store: Path) -> None:
    months = series(interval=Interval.MO1)
    hold(store, months, rows_at([DECEMBER, JANUARY]), [TWO_MONTHS])
    assert reader(store).read("um", "BTCUSDT", "1M", "2023-12-01", "2024-02-01").height == 2


def test_the_report_says_where_each_part_came_from(store: Path, held: pl.DataFrame) -> None:
    lake = reader(store)
    lake.read("um", "BTCUSDT", "1h", "2023-12-20", "2024-01-10")
    parts = lake.report.parts
    assert [(part.span, part.held, part.source) for part in parts] == [
        (Span(utc_ms(2023, 12, 20), JANUARY), "lake", Source.MONTHLY),
        (Span(JANUARY, utc_ms(2024, 1, 10)), "lake", Source.MONTHLY),
    ]
    assert str(lake.report).splitlines()[0] == "BTCUSDT 2023-12-20..2024-01-01: lake (monthly)"


def test_only_the_partitions_of_the_range_are_opened(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = [f"SIM{n}USDT" for n in range(5)]
    for symbol in symbols:
        hold_all(store, hours(symbol), TWO_MONTHS)
    lake = reader(store)
    opened: list[str] = []
    scan = pl.scan_parquet
    monkeypatch.setattr(
        pl, "scan_parquet", lambda files, **o: (opened.extend(files), scan(files, **o))[1]
    )
    tails: list[str] = []
    tail = type(lake._lookup._files).read_tail  # reads the footers
    monkeypatch.setattr(
        type(lake._lookup._files),
        "read_tail",
        lambda s, key, n: (tails.append(key), tail(s, key, n))[1],
    )
    lake.read("um", symbols, "1h", "2024-01-10", "2024-01-11")
    assert sorted(Path(path).name for path in opened) == ["2024.parquet"] * 5
    assert len(set(tails)) == len(tails) == 5


def test_a_long_series_is_read_some_partitions_at_a_time(store: Path) -> None:
    """One candle in two hours is held, and the rest are gaps: five years of all are too many."""
    fives, held = series(interval=Interval.M5), Span(utc_ms(2019), FEBRUARY)
    years = rows_at(range(held.start_ms, held.end_ms, 2 * HOUR_MS), step_ms=fives.interval.step_ms)
    hold(store, fives, years, [held])
    span = Span(utc_ms(2019, 1, 15), utc_ms(2024, 1, 15))
    partitions = PartitionReader(open_store(str(store)), str(store), cache=None)
    batches = list(partitions.list(fives, span).batches())
    assert [len(batch.entries) for batch in batches] == [
        MAX_BATCH_PARTITIONS,
        61 - MAX_BATCH_PARTITIONS,
    ]
    assert all(one.span.end_ms == other.span.start_ms for one, other in itertools.pairwise(batches))
    wanted = between(years, span.start_ms, span.end_ms)
    lake, query = reader(store), ("um", "BTCUSDT", "5m", "2019-01-15", "2024-01-15")
    assert_frame_equal(lake.read(*query), wanted)
    assert_frame_equal(lake.scan(*query).head(4000).collect(), wanted[:4000])


def test_a_call_loads_the_catalog_once_for_all_symbols(
    store: Path, held: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, symbols = open_store(str(store)), ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
    Catalogs(files).store(catalog(*map(entry, symbols)))
    for symbol in symbols[1:]:
        hold_all(store, hours(symbol), TWO_MONTHS)
    lake, loaded = reader(store), list[Market]()
    newest = lake._lookup._catalogs.newest
    monkeypatch.setattr(
        lake._lookup._catalogs, "newest", lambda market: (loaded.append(market), newest(market))[1]
    )
    for _ in range(2):
        lake.read("um", symbols, "1h", "2023-01-01", resample="1d", partial=True)
    assert loaded == [Market.USD_M] * 2
