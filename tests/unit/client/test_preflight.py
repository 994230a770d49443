from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from klinefleet.tasks.client import preflight
from klinefleet.tasks.requests import build
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.requests.symbols import (
    ChosenSymbols,
    SymbolSelection,
    choose_symbols,
    parse_selection,
)
from klinefleet.workers.coordination.heartbeat import Heartbeat
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, iso, utc_ms
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.crew import crew, series_of
from tests.unit.helpers.strategies import intervals, moments, symbols

NOW_MS = utc_ms(2024, 6, 15) + 10 * 3_600_000 + 30_500
D = Interval.D1


def listed(symbols: str | None, file: Path | None, top: int | None) -> list[str]:
    return list(parse_selection(symbols, file, top, every=False).names or ())


def range_of(
    start: str, end: str | None = None, *, interval: Interval = Interval.M1, now_ms: int = NOW_MS
) -> list[str]:
    return [iso(ms) for ms in build.range_of(KLINES, interval, start, end, now_ms=now_ms)]


@pytest.mark.parametrize(
    ("start", "end", "interval", "wanted"),
    [
        ("2024-01-01", "2024-02-01", Interval.M1, ["2024-01-01", "2024-02-01"]),
        (
            "2024-01-01T00:00:30",
            "2024-01-01T00:05:30",
            Interval.M1,
            ["2024-01-01T00:01", "2024-01-01T00:06"],
        ),
        (
            "2024-01-01T02:00+02:00",
            "2024-01-01T00:01Z",
            Interval.M1,
            ["2024-01-01", "2024-01-01T00:01"],
        ),
        ("2024-01-03", "2024-01-30", Interval.W1, ["2024-01-08", "2024-02-05"]),
        ("2024-01-15", "2024-03-15", Interval.MO1, ["2024-02-01", "2024-04-01"]),
        ("2024-06-01", None, Interval.D1, ["2024-06-01", "2024-06-15"]),
        ("2024-06-01", "2025-01-01", Interval.D1, ["2024-06-01", "2024-06-15"]),
        ("2024-06-15", None, Interval.M1, ["2024-06-15", "2024-06-15T10:00"]),
        ("20240101", "20240102", Interval.M1, ["2024-01-01", "2024-01-02"]),
    ],
)
def test_a_range_is_the_open_times_between_its_ends(
    start: str, end: str | None, interval: Interval, wanted: list[str]
) -> None:
    assert range_of(start, end, interval=interval) == wanted


@pytest.mark.parametrize(
    ("past_ms", "last"),
    [(0, "23:59"), (KLINES.settle_ms - 1, "23:59"), (KLINES.settle_ms, "24:00")],
)
def test_a_candle_is_asked_for_only_once_it_has_been_closed_for_a_while(
    past_ms: int, last: str
) -> None:
    wanted = "2024-01-02" if last == "24:00" else f"2024-01-01T{last}"
    assert range_of("2024-01-01", now_ms=utc_ms(2024, 1, 2) + past_ms) == ["2024-01-01", wanted]


@settings(max_examples=70, deadline=None)
@given(
    interval=intervals,
    start_ms=moments.filter(lambda ms: ms >= build.FIRST_MS),
    length=st.integers(0, 60 * DAY_MS),
    ago=st.integers(-DAY_MS, 90 * DAY_MS),
)
def test_every_candle_of_a_range_opens_in_it_and_is_closed(
    interval: Interval, start_ms: int, length: int, ago: int
) -> None:
    now_ms, end_ms = start_ms + ago, start_ms + length
    texts = [f"{iso(ms)}Z" if "T" in iso(ms) else iso(ms) for ms in (start_ms, end_ms)]
    closed = [
        at
        for n in range(61)
        if (at := interval.advance(interval.ceil(start_ms), n)) < end_ms
        and interval.advance(at, 1) <= now_ms - KLINES.settle_ms
    ]
    try:
        first_ms, last_ms = build.range_of(KLINES, interval, *texts, now_ms=now_ms)
    except RequestError:
        assert closed == []
        return
    assert closed
    assert first_ms == closed[0]
    assert last_ms == interval.floor(last_ms) <= interval.ceil(end_ms)
    assert last_ms <= now_ms - KLINES.settle_ms
    assert len(closed) == 61 or last_ms == interval.advance(closed[-1], 1)


@pytest.mark.parametrize(
    ("start", "end", "interval", "said"),
    [
        ("2024-06-16", None, Interval.M1, "start 2024-06-16 lies in the future"),
        ("2024-02-01", "2024-01-01", Interval.M1, "start 2024-02-01 is not before end 2024-01-01"),
        ("2024-01-01", "2024-01-01", Interval.M1, "is not before end"),
        (
            "2024-06-15",
            None,
            Interval.D1,
            "no 1d candle opens and closes between 2024-06-15 and now",
        ),
        ("2024-01-02", "2024-01-06", Interval.W1, "no 1w candle opens and closes between"),
        ("yesterday", None, Interval.M1, "start 'yesterday' is no date like 2024-01-31"),
        ("2024-01-01", "2024-02-30", Interval.M1, "end '2024-02-30' is no date like"),
        ("", None, Interval.M1, "start '' is no date"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_in_one_line(
    start: str, end: str | None, interval: Interval, said: str
) -> None:
    with pytest.raises(RequestError) as refused:
        range_of(start, end, interval=interval)
    assert said in str(refused.value)
    assert str(refused.value).endswith("nothing was queued")
    assert "\n" not in str(refused.value)


def test_an_end_in_the_far_future_means_now() -> None:
    assert range_of("2024-06-01", "9999-12-31", interval=Interval.D1) == [
        "2024-06-01",
        "2024-06-15",
    ]


def test_an_end_in_the_last_month_there_is_means_now_too() -> None:
    assert range_of("2024-01-01", "9999-12-31", interval=Interval.MO1) == [
        "2024-01-01",
        "2024-06-01",
    ]


def named(tmp_path: Path, text: str, top: int | None = None) -> list[str] | None:
    file = tmp_path / "symbols.csv"
    file.write_text(text, encoding="utf-8")
    return listed(None, file, top)


@pytest.mark.parametrize(
    "text",
    [
        "BTCUSDT\nETHUSDT\n币安人生USDT\n",
        "btcusdt\r\n\r\n ETHUSDT \r\n币安人生usdt",
        "\ufeffsymbol\nBTCUSDT\nETHUSDT\n币安人生USDT\n",
        'rank,symbol,name\n1,BTCUSDT,"Bitcoin, the first"\n2,ETHUSDT,Ether\n3,币安人生USDT,x\n',
        "name,binance_symbol\nBitcoin,BTCUSDT\nnothing,\nEther,ETHUSDT\nLife,币安人生USDT\n",
        "symbol,binance_symbol\nBTCUSDT,X\nETHUSDT,Y\n币安人生USDT,Z\n",
        "BTCUSDT\nETHUSDT\nBTCUSDT\n币安人生USDT\nETHUSDT\n",
    ],
    ids=["list", "windows", "byte order mark", "csv", "other column", "both columns", "doubles"],
)
def test_a_symbols_file_is_a_list_or_a_table_and_names_each_symbol_once(
    tmp_path: Path, text: str
) -> None:
    assert named(tmp_path, text) == ["BTCUSDT", "ETHUSDT", "币安人生USDT"]


def test_top_takes_the_first_of_a_file(tmp_path: Path) -> None:
    assert named(tmp_path, "symbol\nB\nA\nB\nC\n", 2) == ["B", "A"]
    assert named(tmp_path, "symbol\nB\nA\n", 5) == ["B", "A"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("rank,coin\n1,BTC\n", "has no column symbol or binance_symbol"),
        ("symbol\n\n", "no symbol was named"),
        ("rank,symbol\n1,\n", "no symbol was named"),
        ("BTCUSDT\n../../etc\n", "symbol '../../etc' cannot be one"),
        ("symbol\nBTC USDT\n", "symbol 'BTC USDT' cannot be one"),
    ],
)
def test_a_symbols_file_that_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(RequestError, match="nothing was queued") as refused:
        named(tmp_path, text)
    assert said in str(refused.value)


def test_a_symbols_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(RequestError, match="cannot be read") as refused:
            listed(None, path, None)
        assert str(path) in str(refused.value)
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(RequestError, match="cannot be read"):
        listed(None, tmp_path / "image.csv", None)


def test_symbols_on_the_command_line_are_capitals_once_and_in_order() -> None:
    assert listed("ethusdt, BTCUSDT ,ETHUSDT,", None, None) == ["ETHUSDT", "BTCUSDT"]


@pytest.mark.parametrize(
    ("symbols", "file", "top"),
    [
        ("A", Path("f"), None),
        ("A", None, 3),
        (None, None, 3),
        (None, None, None),
        ("", None, None),
        (",", None, None),
    ],
)
def test_symbols_named_in_two_ways_or_in_none_are_refused(
    symbols: str | None, file: Path | None, top: int | None
) -> None:
    with pytest.raises(RequestError, match="nothing was queued"):
        listed(symbols, file, top)


def test_markets_and_intervals_are_told_by_name() -> None:
    assert build.market_of("UM") is Market.USD_M
    assert build.interval_of(Market.SPOT, KLINES, "1M") is Interval.MO1
    assert build.interval_of(Market.SPOT, KLINES, "1m") is Interval.M1
    with pytest.raises(
        RequestError, match="no market 'futures'; there are spot, um, cm; nothing was queued"
    ):
        build.market_of("futures")
    with pytest.raises(RequestError, match="no interval '1H'; there are 1s, 1m"):
        build.interval_of(Market.SPOT, KLINES, "1H")
    with pytest.raises(RequestError, match="market um has no interval 1s"):
        build.interval_of(Market.USD_M, KLINES, "1s")


def chosen(services: Services, *names: str, **how: bool) -> ChosenSymbols:
    asked = Market.USD_M, KLINES, Interval.M1, SymbolSelection(names or None, **how), Mode.AUTO
    return choose_symbols(services, *asked, lambda _: None)


@pytest.fixture
def services(redis: Redis, tmp_path: Path) -> Services:
    """A market of three symbols, and an archive that has files of a fourth."""
    one = crew(redis, tmp_path, {"BTCUSDT": 0, "ETHUSDT": 0, "币安人生USDT": 0})
    one.archive.publish(series_of("SRMUSDT"), "2022-01")
    return one.services


def test_a_symbol_that_nobody_knows_is_refused_with_the_nearest(services: Services) -> None:
    assert chosen(services, "ETHUSDT", "币安人生USDT").symbols == ("ETHUSDT", "币安人生USDT")
    with pytest.raises(RequestError) as refused:
        chosen(services, "BTCUSD", "ETHUSDT", "NOPE")
    assert "market um has no symbol BTCUSD (and 1 more) (did you mean BTCUSDT" in str(refused.value)
    with pytest.raises(RequestError, match="no symbol ETHUSD"):
        chosen(services, "ETHUSD")


def test_a_symbol_that_only_the_archive_knows_is_no_unknown_one(services: Services) -> None:
    assert chosen(services, "SRMUSDT", "ETHUSDT").symbols == ("SRMUSDT", "ETHUSDT")


def test_unknown_symbols_of_a_list_are_left_out_only_where_that_is_asked_for(
    services: Services,
) -> None:
    told = chosen(services, "ETHUSDT", "ETHUSD", skip_unknown=True)
    assert told.symbols == ("ETHUSDT",)
    assert "did you mean ETHUSDT" in told.notes["ETHUSD"]
    with pytest.raises(RequestError, match="no symbol NOPE"):
        chosen(services, "NOPE", skip_unknown=True)


def test_all_symbols_are_those_of_the_catalog_delisted_ones_included(services: Services) -> None:
    assert chosen(services).symbols == ("BTCUSDT", "ETHUSDT", "SRMUSDT", "币安人生USDT")
    trading = choose_symbols(
        services,
        Market.USD_M,
        KLINES,
        Interval.M1,
        SymbolSelection(None, "USDT", "trading"),
        Mode.AUTO,
        lambda _: None,
    )
    assert trading.symbols == ("BTCUSDT", "ETHUSDT", "币安人生USDT")


@pytest.mark.parametrize("name", ["../../etc", "A/B", "..", "A B", "A\x00B"])
def test_a_listed_name_that_cannot_be_a_symbol_is_never_handed_to_a_run_and_told(
    redis: Redis, tmp_path: Path, name: str
) -> None:
    told = chosen(crew(redis, tmp_path, {"ETHUSDT": 0, name: 0}).services)
    assert told.symbols == ("ETHUSDT",)
    assert name in told.notes


def test_a_request_needs_a_worker_on_each_of_its_queues(redis: Redis, tmp_path: Path) -> None:
    services = crew(redis, tmp_path, {}).services
    queues = preflight.queues_of(Market.USD_M, KLINES, Mode.REST)
    waited: list[float] = []
    with pytest.raises(
        RequestError, match=r"no worker serves plan, rest\.futures, compact: start one"
    ):
        preflight.check_workers(services, queues, pause=waited.append)
    assert waited == [], "where nobody ever was, nobody is waited for"
    for serves in ("plan", "rest.spot@home", "compact"):
        Heartbeat(redis, Leases(redis), serves=serves).beat()
    with pytest.raises(RequestError, match=r"no worker serves rest\.futures: start one"):
        preflight.check_workers(services, queues, pause=waited.append)
    assert sum(waited) == preflight.RETURNS_S
    Heartbeat(redis, Leases(redis), serves="rest.futures@home").beat()
    preflight.check_workers(services, queues)


def test_a_lane_that_is_starting_again_is_waited_for_and_not_reported_as_missing(
    redis: Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = crew(redis, tmp_path, {}).services
    Heartbeat(redis, Leases(redis), serves="compact").beat()
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            Heartbeat(redis, Leases(redis), serves="plan").beat()

    preflight.check_workers(services, ["plan", "compact"], pause=pause)
    assert len(waited) == 3
    assert (
        capsys.readouterr().err
        == "no worker serves plan now; waiting up to 12 s for one to start again\n"
    )


def test_a_store_that_takes_no_object_is_refused_before_anything_is_queued(
    redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(RequestError, match=r"store .* cannot be written.*nothing was queued"):
        preflight.check_store(crew(redis, tmp_path, {}).services)


some_request = st.builds(
    Request,
    st.sampled_from(Market),
    st.just(KLINES),
    intervals.filter(lambda i: i is not Interval.S1),
    st.lists(symbols, min_size=1, max_size=4).map(tuple),
    st.integers(utc_ms(2023), utc_ms(2024)),
    st.integers(utc_ms(2024) + MINUTE_MS, utc_ms(2024, 3)),
)


@settings(max_examples=50, deadline=None)
@given(some_request)
def test_a_request_survives_the_way_through_redis(request: Request) -> None:
    assert Request.from_json(request.to_json()) == request
    assert Request.from_json(request.to_json().encode()) == request


@settings(max_examples=50, deadline=None)
@given(some_request)
def test_a_request_knows_what_one_symbol_costs(request: Request) -> None:
    from klinefleet.workers.domain.paging import pages

    series = next(request.series())
    calls = [
        page
        for block in series.blocks(request.span)
        for page in pages(series, block.span.clip(request.span))
    ]
    assert request.calls_of_one() == len(calls)
    assert request.weight_of_call() >= 1


def test_series_are_those_of_the_symbols_from_an_index_on() -> None:
    request = Request(Market.SPOT, KLINES, D, ("A", "B", "C"), 0, 1)
    assert [s.symbol for s in request.series()] == ["A", "B", "C"]
    assert [s.symbol for s in request.series(first=2)] == ["C"]
