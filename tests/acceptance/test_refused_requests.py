"""Invalid markets, kinds, intervals, sources and times: one line, and nothing queued."""

from __future__ import annotations

import pytest

from tests.acceptance.refusals import assert_refused, download
from tests.harness import Fleet


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"market": "stocks"}, ("stocks", "spot", "um", "cm")),
        ({"symbols": "BTCUSDTT"}, ("BTCUSDTT", "did you mean BTCUSDT")),
        ({"symbols": "ETHUSDT,BTCUSD_PERP,XXX"}, ("BTCUSD_PERP", "1 more")),
        ({"market": "cm"}, ("cm", "BTCUSDT")),
        ({"symbols": "BTC/USDT"}, ("BTC/USDT",)),
        ({"symbols": "../../etc"}, ("../../etc",)),
        ({"symbols": ".."}, ("..",)),
        ({"symbols": "BTC USDT"}, ("BTC USDT",)),
        ({"symbols": "BTC\nUSDT"}, ("BTC",)),
        ({"symbols": ","}, ("no symbol",)),
        ({"symbols": None}, ("--symbols",)),
        ({"interval": "7m"}, ("7m", "1m", "1M")),
        ({"interval": "1s"}, ("um", "1s")),
        ({"market": "cm", "symbols": "BTCUSD_PERP", "interval": "1s"}, ("cm", "1s")),
        ({"start": "last week"}, ("start", "last week")),
        ({"start": "2024-13-01"}, ("start", "2024-13-01")),
        ({"end": "2024-02-30"}, ("end", "2024-02-30")),
        ({"end": "2024-01-01"}, ("2024-01-01", "not before")),
        ({"end": "2023-01-01"}, ("2024-01-01", "2023-01-01", "not before")),
        ({"start": "2099-01-01", "end": None}, ("2099-01-01", "future")),
        ({"start": "2024-01-01T00:00:10", "end": "2024-01-01T00:00:50"}, ("no 1m candle",)),
        ({"start": "0001-01-01"}, ("start", "0001-01-01")),
        ({"start": "1950-01-01"}, ("start", "1950-01-01")),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_a_request_that_makes_no_sense_is_refused(
    fleet: Fleet, changes: dict[str, str | None], words: tuple[str, ...]
) -> None:
    assert_refused(fleet, *download(**changes), words=words)


def test_the_installed_command_says_what_its_fork_says_in_these_tests(fleet: Fleet) -> None:
    for arguments in (download(market="stocks"), ("status",), ("--help",)):
        installed, fork = fleet.start(*arguments).result(), fleet.klines(*arguments)
        assert (installed.returncode, installed.stdout, installed.stderr) == (
            fork.returncode,
            fork.stdout,
            fork.stderr,
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (download(market="spot", kind="markPriceKlines"), ("spot", "markPriceKlines")),
        (download(market="spot", kind="indexPriceKlines"), ("spot", "indexPriceKlines")),
        (download(market="spot", kind="premiumIndexKlines"), ("spot", "premiumIndexKlines")),
        (download(market="spot", kind="fundingRate", interval=None), ("spot", "fundingRate")),
        (download(kind="aggTrades"), ("aggTrades", "klines", "markPriceKlines", "fundingRate")),
        (download(kind=""), ("kind", "klines")),
        (download(kind="fundingRate", interval="1m"), ("fundingRate", "interval 1m")),
        (download(interval="events"), ("events", "1m")),
        (download(interval="1mo"), ("1mo", "1M")),
        (download(source="nonsense"), ("nonsense", "auto", "archive", "rest")),
        (download(source=""), ("source", "auto")),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_kinds_intervals_and_sources_that_there_are_not_are_refused(
    fleet: Fleet, arguments: list[str], words: tuple[str, ...]
) -> None:
    assert_refused(fleet, *arguments, words=words)


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
    assert_refused(
        fleet, *download(kind=kind, interval=interval, start=start, end=end), words=words
    )


WHOLE = (
    "download",
    "--market",
    "um",
    "--symbols",
    "BTCUSDT",
    "--start",
    "2024-01-01",
    "--end",
    "2024-01-02",
)


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
def test_what_no_command_takes_is_refused_in_one_line(
    fleet: Fleet, arguments: tuple[str, ...]
) -> None:
    done = fleet.klines(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")


def test_unknown_runs_and_queues_are_named(fleet: Fleet) -> None:
    assert_refused(fleet, "status", "nonsense", words=("nonsense",))
    assert_refused(fleet, "cancel", "nonsense", words=("nonsense",))
    assert_refused(fleet, "worker", "--queues", "rest.moon", words=("rest.moon", "rest.spot"))


@pytest.mark.parametrize("to", ["file", "file/below"])
def test_reports_go_nowhere_but_to_a_folder(fleet: Fleet, to: str) -> None:
    (fleet.folder / "file").write_text("in the way")
    done = fleet.klines("catalog", "report", "--to", str(fleet.folder / to))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot be written" in line
