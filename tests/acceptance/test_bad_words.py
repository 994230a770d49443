"""Bad words for kinds, sources, lists of symbols and times, and an exchange or archive that is away: one clear line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Exchange, Fleet, RedisServer, Wanted
from workers.heart import now_ms
from workers.lake.catalog import Catalogs
from workers.lake.files import open_files
from workers.model import DAY_MS, Market

GOOD = {"market": "um", "symbols": "BTCUSDT", "interval": "1m", "start": "2024-01-01", "end": "2024-02-01"}
#: Enough calls that `auto` asks the archive.
LARGE = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-03-01", source="auto")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("bad-words")
    exchange = Exchange(folder, "--symbols", "24", "--futures-limit", "24000", "--spot-limit", "60000")
    fleet = Fleet(folder, exchange, RedisServer(folder / "redis"), str(folder / "store"))
    fleet.start_worker()
    yield fleet
    assert fleet.exchange.refused(429) == 0
    fleet.close()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The URL of a port of this machine where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


def options(*flags: str, **changes: str | None) -> list[str]:
    """Return a good download's options with some changed, None leaves one out."""
    named = [part for name, value in (GOOD | changes).items() if value is not None for part in (f"--{name}", value)]
    return ["download", *named, *flags]


def runs(fleet: Fleet) -> list[bytes]:
    """Return the runs there ever were."""
    client = fleet.redis.client()
    try:
        found: list[bytes] = client.zrange("klines:runs", 0, -1)
        return found
    finally:
        client.close()


def assert_refused(fleet: Fleet, *arguments: str, words: tuple[str, ...]) -> None:
    """Exit 2, one line on stderr that names the thing, no run, and no row asked for."""
    before, asked = runs(fleet), len(fleet.exchange.calls())
    done = fleet.klines(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("klines: ")
    assert [word for word in words if word not in lines[0]] == [], f"not named: {lines[0]}"
    assert runs(fleet) == before, "something was queued"
    assert len(fleet.exchange.calls()) == asked, "rows were asked for"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (options(market="spot", kind="markPriceKlines"), ("spot", "markPriceKlines")),
        (options(market="spot", kind="indexPriceKlines"), ("spot", "indexPriceKlines")),
        (options(market="spot", kind="premiumIndexKlines"), ("spot", "premiumIndexKlines")),
        (options(market="spot", kind="fundingRate", interval=None), ("spot", "fundingRate")),
        (options(kind="aggTrades"), ("aggTrades", "klines", "markPriceKlines", "fundingRate")),
        (options(kind=""), ("kind", "klines")),
        (options(kind="fundingRate", interval="1m"), ("fundingRate", "--interval 1m")),
        (options(interval="events"), ("events", "1m")),
        (options(interval="1mo"), ("1mo", "1M")),
        (options(source="nonsense"), ("nonsense", "auto", "archive", "rest")),
        (options(source=""), ("source", "auto")),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_kinds_intervals_and_sources_that_there_are_not_are_refused(
    fleet: Fleet, arguments: list[str], words: tuple[str, ...]
) -> None:
    assert_refused(fleet, *arguments, words=words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (options("--all"), ("--symbols", "--all")),
        (options("--quote", "USDT"), ("--quote", "--all")),
        (options("--status", "trading"), ("--status", "--all")),
        (options("--top", "3"), ("--top", "--symbols-file")),
        (options("--all", "--top", "3", symbols=None), ("--top", "--symbols-file")),
        (options(symbols=None), ("--symbols", "--symbols-file", "--all")),
        (options("--all", "--quote", "NOSUCH", symbols=None), ("um", "NOSUCH")),
        (options("--all", "--quote", "NOSUCH", "--status", "trading", symbols=None), ("um", "NOSUCH", "trading")),
        (options("--all", "--quote", "NOSUCH", symbols=None, source="rest"), ("um", "NOSUCH")),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_ways_to_name_symbols_that_do_not_go_together_or_name_none_are_refused(
    fleet: Fleet, arguments: list[str], words: tuple[str, ...]
) -> None:
    if "--all" in arguments:
        # The catalog is made once, which tells how far it is; what is refused then is refused in one line.
        assert fleet.klines("catalog", "list", "--market", "um").returncode == 0
    assert_refused(fleet, *arguments, words=words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("symbols.csv", "empty")),
        ("\n \n", ("symbols.csv", "empty")),
        ("rank,name\n1,BTCUSDT\n", ("symbols.csv", "no column", "symbol", "binance_symbol")),
        ("rank,binance_symbol\n1,BTCUSDX\n", ("BTCUSDX", "did you mean BTCUSD")),
        ("BTCUSDT\nETHUSDX\n", ("ETHUSDX", "did you mean ETHUSD")),
    ],
    ids=["empty", "blank", "no such column", "unknown in a column", "unknown in a line"],
)
def test_a_symbols_file_without_what_it_should_tell_is_refused(
    fleet: Fleet, text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "symbols.csv"
    file.write_text(text)
    assert_refused(fleet, *options("--symbols-file", str(file), symbols=None), words=words)
    assert_refused(fleet, *options("--symbols-file", str(file), "--top", "2", symbols=None), words=words)
    assert_refused(fleet, *options("--symbols-file", str(file)), words=("--symbols", "--symbols-file", "not both"))


@pytest.mark.parametrize("kind", ["klines", "fundingRate"])
@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2012-01-01", "2013-01-01", ("2012-01-01", "2013-01-01")),
        ("2099-01-01", "2099-02-01", ("2099-01-01", "future")),
        ("2024-02-01", "2024-01-01", ("2024-02-01", "2024-01-01", "not before")),
        ("2024-01-01", "2024-01-01", ("2024-01-01", "not before")),
    ],
    ids=["before the exchange", "in the future", "backwards", "empty"],
)
def test_a_time_in_which_there_can_be_nothing_is_refused(
    fleet: Fleet, kind: str, start: str, end: str, words: tuple[str, ...]
) -> None:
    interval = "1m" if kind == "klines" else None
    assert_refused(fleet, *options(kind=kind, interval=interval, start=start, end=end), words=words)


@pytest.mark.parametrize("source", ["auto", "archive", "rest"])
def test_an_unknown_symbol_is_refused_with_the_names_closest_to_it(fleet: Fleet, source: str) -> None:
    assert_refused(fleet, *options(symbols="BTCUSDX", source=source), words=("um", "BTCUSDX", "did you mean BTCUSD"))
    assert_refused(fleet, *options(symbols="ETHUSDT,BTCUSDX,NOSUCH1", source=source), words=("BTCUSDX", "1 more"))
    unlike = options("--skip-unknown", symbols="QQQQ", source=source)
    assert_refused(fleet, *unlike, words=("um", "QQQQ"))


def test_unknown_symbols_are_left_out_and_reported_where_they_may_be_and_the_others_are_whole(fleet: Fleet) -> None:
    wanted = Wanted("um", ("ETHUSDT",), "2024-01-01", "2024-01-03")
    asked = ["--market", "um", "--symbols", "ETHUSDX,ETHUSDT,QQQQ", "--start", wanted.start, "--end", wanted.end]
    told = fleet.download("--skip-unknown", *asked)
    wanted.assert_held(fleet)
    assert told["symbols"] == 1
    assert set(told["notes"]) == {"ETHUSDX", "QQQQ"}
    assert "did you mean ETHUSDT" in told["notes"]["ETHUSDX"]
    assert all("left out" in note for note in told["notes"].values())
    shown = fleet.klines("download", "--skip-unknown", *asked)
    assert shown.returncode == 0
    assert [line for line in shown.stdout.splitlines() if "QQQQ" in line and "left out" in line]


def lines_of(done: Any, word: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if word in line]


def test_with_the_archive_host_down_rest_answers_and_one_line_says_so(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = replace(fleet, settings={"KLINES_ARCHIVE_URL": closed_port, "KLINES_ARCHIVE_LIST_URL": closed_port})
    away.start_worker()
    done = away.klines("download", *LARGE.arguments)
    assert done.returncode == 0, done.stderr + away.log()
    LARGE.assert_held(away)
    (line,) = lines_of(done, "archive:")
    assert closed_port.rpartition(":")[2] in line or "refused" in line
    assert line.endswith("REST instead")
    assert "Traceback" not in done.stdout + done.stderr
    assert fleet.exchange.files() == []


def test_an_archive_that_may_not_serve_this_address_costs_no_candle_and_one_line_says_so(
    fleet_of_its_own: Fleet,
) -> None:
    fleet = fleet_of_its_own
    fleet.exchange.archive_faults({}, status=451)
    fleet.start_worker()
    done = fleet.klines("download", *LARGE.arguments)
    assert done.returncode == 0, done.stderr + fleet.log()
    LARGE.assert_held(fleet)
    (line,) = lines_of(done, "archive:")
    assert "451" in line
    assert line.endswith("REST instead")


def test_with_the_archive_down_and_no_rest_the_run_ends_incomplete_and_names_the_archive(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    away = replace(fleet, settings={"KLINES_ARCHIVE_URL": closed_port, "KLINES_ARCHIVE_LIST_URL": closed_port})
    away.start_worker()
    done = away.klines("download", "--json", *replace(LARGE, source="archive").arguments)
    assert done.returncode == 1, (done.stdout, done.stderr)
    failed: dict[str, str] = json.loads(done.stdout)["failed"]
    assert failed
    assert all("archive" in reason for reason in failed.values()), failed
    assert fleet.exchange.calls() == []


@pytest.fixture
def fleet_of_its_own(tmp_path: Path) -> Iterator[Fleet]:
    exchange = Exchange(tmp_path, "--symbols", "24")
    fleet = Fleet(tmp_path, exchange, RedisServer(tmp_path / "redis"), str(tmp_path / "store"))
    yield fleet
    fleet.close()


def kept(fleet: Fleet) -> dict[str, bytes]:
    """Return every file of the store."""
    files = (path for path in Path(fleet.store_url).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def exchange_away(fleet: Fleet, url: str) -> Fleet:
    return replace(fleet, settings=dict.fromkeys(("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL"), url))


def assert_one_line(fleet: Fleet, *arguments: str, words: tuple[str, ...]) -> None:
    """A failure that no word of the user made: not 0, and one line."""
    done = fleet.klines(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")
    assert [word for word in words if word not in line] == [], line


def test_with_the_exchange_down_there_is_no_catalog_and_one_line_says_why(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    away = exchange_away(fleet_of_its_own, closed_port)
    for command in (["list", "--market", "um"], ["update", "--market", "um"]):
        assert_one_line(away, "catalog", *command, words=("um", "exchangeInfo"))
    assert kept(away) == {}


def test_with_the_exchange_down_the_catalog_that_is_held_stays_as_it_is(
    fleet_of_its_own: Fleet, closed_port: str
) -> None:
    fleet = fleet_of_its_own
    assert fleet.klines("catalog", "update", "--market", "um").returncode == 0
    before = kept(fleet)
    assert len(before) == 1
    away = exchange_away(fleet, closed_port)
    assert_one_line(away, "catalog", "update", "--market", "um", words=("um", "exchangeInfo"))
    assert kept(fleet) == before
    # It is fresh, so it is told without asking anybody.
    told = away.klines("catalog", "list", "--market", "um")
    assert (told.returncode, "BTCUSDT" in told.stdout) == (0, True)
    age(fleet, 2 * DAY_MS)
    before = kept(fleet)
    assert_one_line(away, "catalog", "list", "--market", "um", words=("um", "exchangeInfo"))
    assert kept(fleet) == before
    assert "BTCUSDT" in fleet.klines("catalog", "list", "--market", "um").stdout


def age(fleet: Fleet, ms: int) -> None:
    """Have the catalog of USD-M be as old as that."""
    catalogs = Catalogs(open_files(fleet.store_url))
    held = catalogs.newest(Market.USD_M)
    assert held
    for path in kept(fleet):
        Path(path).unlink()
    client = fleet.redis.client()
    held.made_ms = now_ms(client) - ms
    client.close()
    catalogs.store(held)


WHOLE = ("download", "--market", "um", "--symbols", "BTCUSDT", "--start", "2024-01-01", "--end", "2024-01-02")


@pytest.mark.parametrize(
    "arguments",
    [
        (*WHOLE, "--top", "0"),
        (*WHOLE, "--status", "nonsense"),
        (*WHOLE, "--intervall", "1m"),
        ("download", "--symbols", "BTCUSDT", "--start", "2024-01-01"),
        ("catalog", "report"),
        ("catalog", "nonsense"),
        ("nonsense",),
        (*WHOLE, "--interval", ""),
        (*WHOLE[:-1], ""),
    ],
    ids=" ".join,
)
def test_what_no_command_takes_is_refused_in_one_line(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    done = fleet.klines(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")


def test_the_hint_for_a_pair_names_pairs(fleet: Fleet) -> None:
    by_pair = ("--kind", "indexPriceKlines", "--start", "2024-01-01", "--end", "2024-01-02")
    done = fleet.klines("download", "--market", "cm", "--symbols", "BTCUSD_PERP", *by_pair)
    assert done.returncode == 2
    assert "did you mean BTCUSD?" in done.stderr.replace(" or ", "? ")


@pytest.mark.parametrize("to", ["file", "file/below"])
def test_reports_go_nowhere_but_to_a_folder(fleet: Fleet, to: str) -> None:
    (fleet.folder / "file").write_text("in the way")
    done = fleet.klines("catalog", "report", "--to", str(fleet.folder / to))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "the reports cannot be written" in line
