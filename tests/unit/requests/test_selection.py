"""Symbols as a user names them: on the command line, or in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.tasks.requests.symbols import parse_selection
from klinefleet.workers.domain.errors import RequestError


def listed(symbols: str | None, file: Path | None, top: int | None) -> list[str]:
    return list(parse_selection(symbols, file, top, all_symbols=False).names or ())


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
        ("symbol\n\n", "no symbol in symbols file"),
        ("rank,symbol\n1,\n", "no symbol in symbols file"),
        ("BTCUSDT\n../../etc\n", "invalid symbol '../../etc'"),
        ("symbol\nBTC USDT\n", "invalid symbol 'BTC USDT'"),
    ],
)
def test_a_symbols_file_that_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(RequestError) as refused:
        named(tmp_path, text)
    assert said in str(refused.value)


def test_a_symbols_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(RequestError, match="cannot be read") as refused:
            listed(None, path, None)
        assert str(path) in str(refused.value)
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(RequestError, match="is no text in UTF-8"):
        listed(None, tmp_path / "image.csv", None)


def test_symbols_on_the_command_line_are_capitals_once_and_in_order() -> None:
    assert listed("ethusdt, BTCUSDT ,ETHUSDT,", None, None) == ["ETHUSDT", "BTCUSDT"]


@pytest.mark.parametrize(
    ("symbols", "file", "top", "message"),
    [
        ("A", Path("f"), None, "not both"),
        ("A", None, 3, "--top needs --symbols-file"),
        (None, None, 3, "--top needs --symbols-file"),
        (None, None, None, "no symbols given"),
        ("", None, None, "no symbol in --symbols ''"),
        (",", None, None, "no symbol in --symbols ','"),
    ],
)
def test_symbols_named_in_two_ways_or_in_none_are_refused(
    symbols: str | None, file: Path | None, top: int | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        listed(symbols, file, top)
