"""Invalid symbols and lists of symbols: one line, and nothing queued."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.refusals import assert_refused, download
from tests.expected import Wanted
from tests.harness import Fleet


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("symbols.csv", "No such file")),
        ("", ("symbols.csv", "empty")),
        ("\n\n", ("symbols.csv", "empty")),
        ("name,weight\nBTCUSDT,1\n", ("symbols.csv", "no column", "symbol")),
        ("symbol,weight\n,1\n", ("no symbol",)),
        ("symbol\n../x\n", ("../x",)),
        ("symbol,weight\nBTCUSDT,1\n4\n", ("market um has no symbol 4",)),
        (b"\xff\xfe\x00\x81", ("symbols.csv",)),
    ],
    ids=["missing", "empty", "blank", "no column", "no symbol", "climbing", "unknown", "no text"],
)
def test_a_symbols_file_that_is_none_is_refused(
    fleet: Fleet, text: str | bytes | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "symbols.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(fleet, *download(symbols=None), "--symbols-file", str(file), words=words)


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
    assert_refused(fleet, *download("--symbols-file", str(file), symbols=None), words=words)
    assert_refused(
        fleet, *download("--symbols-file", str(file), "--top", "2", symbols=None), words=words
    )
    assert_refused(
        fleet,
        *download("--symbols-file", str(file)),
        words=("--symbols", "--symbols-file", "not both"),
    )


def test_ways_to_name_symbols_that_contradict_each_other_are_refused(fleet: Fleet) -> None:
    assert_refused(fleet, *download(), "--all", words=("--all",))
    assert_refused(fleet, *download(), "--top", "3", words=("--top",))
    assert_refused(fleet, *download(), "--local", "--detach", words=("--local", "--detach"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (download("--all"), ("--symbols", "--all")),
        (download("--quote", "USDT"), ("--quote", "--all")),
        (download("--status", "trading"), ("--status", "--all")),
        (download("--top", "3"), ("--top", "--symbols-file")),
        (download("--all", "--top", "3", symbols=None), ("--top", "--symbols-file")),
        (download(symbols=None), ("--symbols", "--symbols-file", "--all")),
        (download("--all", "--quote", "NOSUCH", symbols=None), ("um", "NOSUCH")),
        (
            download("--all", "--quote", "NOSUCH", "--status", "trading", symbols=None),
            ("um", "NOSUCH", "trading"),
        ),
        (download("--all", "--quote", "NOSUCH", symbols=None, source="rest"), ("um", "NOSUCH")),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_ways_to_name_symbols_that_do_not_go_together_or_name_none_are_refused(
    fleet: Fleet, arguments: list[str], words: tuple[str, ...]
) -> None:
    if "--all" in arguments:
        # The catalog is made once, which tells how far it is; what is refused then is refused in
        # one line.
        assert fleet.klines("catalog", "list", "--market", "um").returncode == 0
    assert_refused(fleet, *arguments, words=words)


@pytest.mark.parametrize("source", ["auto", "archive", "rest"])
def test_an_unknown_symbol_is_refused_with_the_names_closest_to_it(
    fleet: Fleet, source: str
) -> None:
    assert_refused(
        fleet,
        *download(symbols="BTCUSDX", source=source),
        words=("um", "BTCUSDX", "did you mean BTCUSD"),
    )
    assert_refused(
        fleet,
        *download(symbols="ETHUSDT,BTCUSDX,NOSUCH1", source=source),
        words=("BTCUSDX", "1 more"),
    )
    unlike = download("--skip-unknown", symbols="QQQQ", source=source)
    assert_refused(fleet, *unlike, words=("um", "QQQQ"))


def test_unknown_symbols_are_left_out_and_reported_where_they_may_be_and_the_others_are_whole(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("ETHUSDT",), "2024-01-01", "2024-01-03")
    asked = [
        "--market",
        "um",
        "--symbols",
        "ETHUSDX,ETHUSDT,QQQQ",
        "--start",
        wanted.start,
        "--end",
        wanted.end,
    ]
    told = fleet.download("--skip-unknown", *asked)
    wanted.assert_held(fleet)
    assert told["symbols"] == 1
    assert set(told["notes"]) == {"ETHUSDX", "QQQQ"}
    assert "did you mean ETHUSDT" in told["notes"]["ETHUSDX"]
    assert all("left out" in note for note in told["notes"].values())
    shown = fleet.klines("download", "--skip-unknown", *asked)
    assert shown.returncode == 0
    assert [line for line in shown.stdout.splitlines() if "QQQQ" in line and "left out" in line]


def test_the_hint_for_a_pair_names_pairs(fleet: Fleet) -> None:
    by_pair = ("--kind", "indexPriceKlines", "--start", "2024-01-01", "--end", "2024-01-02")
    done = fleet.klines("download", "--market", "cm", "--symbols", "BTCUSD_PERP", *by_pair)
    assert done.returncode == 2
    assert "did you mean BTCUSD?" in done.stderr.replace(" or ", "? ")
