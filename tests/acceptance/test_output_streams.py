"""Output that nobody can read: one line or none, never a traceback, and work goes on to its end."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.refusals import download
from tests.harness import KLINES, Fleet

READ = ["read", "--market", "um", "--symbols", "BTCUSDT"]
#: A result that fills any pipe.
ENDLESS = ["read", "--sql", "FROM range(1000000000)", "--to", "-"]
PRINTING = [
    ["--help"],
    ["--version"],
    ["status"],
    ["workers"],
    ["coverage", "--json"],
    ["catalog", "list", "--market", "um", "--csv"],
    READ,
    [*READ, "--to", "-", "--format", "parquet"],
]


@pytest.fixture(scope="module")
def held(fleet: Fleet) -> Fleet:
    """A fleet whose lake holds a month, and whose catalog is made."""
    done = fleet.klines(*download())
    assert done.returncode == 0, done.stderr
    assert fleet.klines("catalog", "list", "--market", "um").returncode == 0
    return fleet


def shell(fleet: Fleet, command: list[str], rest: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does that redirects its output."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {rest}', "bash", str(KLINES), *command],
        cwd=fleet.folder,
        env=fleet.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_full_device_is_named_in_one_line(held: Fleet, command: list[str]) -> None:
    done = shell(held, command, "> /dev/full")
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("klines: ")]
    assert line.startswith("klines: stdout cannot be written: no space left on device")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_closed_stdout_is_named(held: Fleet, command: list[str]) -> None:
    done = shell(held, command, ">&- <&-")
    assert done.returncode == 1
    assert "klines: stdout is closed; the output is incomplete" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("rest", ["2>&-", "2> /dev/full", "<&- 2>&-"])
def test_an_stderr_that_takes_nothing_hides_no_result(held: Fleet, rest: str) -> None:
    done = shell(held, ["catalog", "list", "--market", "um"], rest)
    assert done.returncode == 0
    assert "BTCUSDT" in done.stdout


@pytest.mark.parametrize("command", [*PRINTING[4:], ENDLESS], ids=" ".join)
def test_a_reader_that_has_enough_ends_a_command_without_a_word(
    held: Fleet, command: list[str]
) -> None:
    done = shell(held, command, "| true")
    assert "Traceback" not in done.stderr
    assert "klines: " not in done.stderr
    assert done.returncode == 0


def test_a_result_that_fills_a_device_is_not_made_to_its_end(held: Fleet) -> None:
    done = shell(held, ENDLESS, "> /dev/full")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no space left on device" in done.stderr


def test_a_run_whose_summary_cannot_be_printed_is_complete(held: Fleet) -> None:
    march = download(start="2024-03-01", end="2024-03-02")
    done = shell(held, march, "> /dev/full")
    assert done.returncode == 1
    assert "klines: stdout cannot be written" in done.stderr
    assert not list(Path(held.store_url).glob("reports/*/report.csv"))
    held.assert_fetches_nothing(*march[1:])


def test_a_symbol_in_letters_that_the_terminal_lacks_is_no_error(held: Fleet) -> None:
    settings = held.env | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [KLINES, "read", "--sql", "SELECT '币安人生USDT' AS symbol"],
        cwd=held.folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u5e01\u5b89" in done.stdout


#: It clears a terminal, names its window, and turns what follows around.
EVIL = "\x1b[2J\x1b]0;x\x07\u202e\x9b1m"


@pytest.mark.parametrize(
    "command",
    [
        [EVIL],
        ["download", f"--{EVIL}"],
        ["status", EVIL],
        download(symbols=f"BTC{EVIL}USDT"),
        [*download(symbols=None), "--symbols-file", f"nowhere{EVIL}"],
        download(start=EVIL),
        ["read", "--sql", f"SELECT '{EVIL}' AS \"{EVIL}\""],
        ["read", "--sql", f"SELECT '{EVIL}' AS x, 1 AS x", "--describe"],
        ["read", "--sql", f'FROM "{EVIL}"'],
        ["coverage", "--symbols", EVIL],
        ["cancel", EVIL],
    ],
    ids=str,
)
def test_no_control_character_from_outside_reaches_a_terminal(
    held: Fleet, command: list[str]
) -> None:
    done = held.klines(*command)
    assert "Traceback" not in done.stderr
    for text in (done.stdout, done.stderr):
        assert all(line.isprintable() for line in text.split("\n"))
    assert (done.stdout == "") == (done.returncode != 0)


def test_a_store_with_control_characters_in_its_name_is_printed_without_them(held: Fleet) -> None:
    odd = replace(held, store_url=f"{held.folder}/a{EVIL}\nb")
    for command in (READ, ["coverage"], ["coverage", "--json"], download("--dry-run")):
        done = odd.klines(*command)
        assert "Traceback" not in done.stderr
        for text in (done.stdout, done.stderr):
            assert all(line.isprintable() for line in text.split("\n"))


def test_a_terminal_that_claims_to_know_ascii_alone_gets_no_control_character(held: Fleet) -> None:
    ascii_only = replace(held, settings={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    done = shell(ascii_only, ["read", "--sql", "SELECT chr(27) || '[2J币' AS x"], "")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u001b[2J" in done.stdout
    assert "\x1b" not in done.stdout
