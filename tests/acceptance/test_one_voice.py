"""No single answer is believed: gaps and faulty rows are put to others before they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.expected import Wanted
from tests.harness import Fleet

BY_ONE = "absent by one witness"


@pytest.fixture(autouse=True)
def _honest(fleet: Fleet) -> Iterator[None]:
    """Begin with an empty lake and empty books, and leave the exchange and the archive honest."""
    fleet.empty()
    fleet.exchange.ask("DELETE", "books")
    yield
    fleet.exchange.faults({})
    fleet.exchange.archive_faults({})


def verify(fleet: Fleet, *options: str) -> dict[str, Any]:
    done = fleet.klines("verify", "--json", *options)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def reasons(fleet: Fleet, *options: str) -> set[str]:
    """Return the reasons of all holes."""
    done = fleet.klines("coverage", "--json", *options)
    assert done.returncode in (0, 1), done.stderr
    return {hole["reason"] for one in json.loads(done.stdout)["series"] for hole in one["holes"]}


@pytest.mark.parametrize("source", ["rest", "auto"])
@pytest.mark.parametrize("lie", ["short", "empty", "hole", "faulty"])
def test_one_untrue_answer_of_rest_costs_no_row(fleet: Fleet, lie: str, source: str) -> None:
    # The first call of all asks for the first candle; it is not the one that is untrue.
    fleet.download(*Wanted("spot", ("BTCUSDT",), "2024-02-01", "2024-02-02").arguments)
    fleet.empty_lake()
    fleet.exchange.faults({lie: 1.0}, most=1)
    wanted = Wanted("spot", ("BTCUSDT",), "2024-03-01", "2024-03-03", source=source)
    told = fleet.download(*wanted.arguments)
    assert fleet.exchange.ask("GET", "books")["faults"] == {lie: 1}
    wanted.assert_held(fleet)
    assert (told["rows_absent"], told["failed"]) == (0, {})
    assert reasons(fleet) == set()
    wanted.assert_nothing_is_missing(fleet)


def test_real_outages_are_absent_after_two_answers_and_are_never_asked_about_again(
    fleet: Fleet,
) -> None:
    wanted = Wanted("spot", ("BTCUSDT",), "2023-03-24", "2023-03-25")
    told = fleet.download(*wanted.arguments)
    assert (told["rows_absent"], told["rows_absent_by_one_witness"]) == (80, 0)
    assert BY_ONE not in reasons(fleet)
    wanted.assert_nothing_is_missing(fleet)
    wanted.assert_held(fleet)


def test_a_month_that_lacks_rows_is_made_whole_by_its_days_where_rest_may_not_be_asked(
    fleet: Fleet,
) -> None:
    fleet.exchange.archive_faults({"short": 1.0}, only="monthly")
    wanted = Wanted("um", ("BTCUSDT",), "2023-01-01", "2023-03-01", "5m", "archive")
    told = fleet.download(*wanted.arguments)
    assert (told["requests"], told["failed"]) == (0, {})
    assert told["files"] > 2
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)


def test_a_symbol_that_rest_has_forgotten_loses_no_row_that_its_days_have(fleet: Fleet) -> None:
    fleet.exchange.archive_faults({"short": 1.0}, only="monthly")
    wanted = Wanted("um", ("SRMUSDT",), "2022-09-01", "2022-11-01", "1h", "auto")
    fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert reasons(fleet) == set()


def test_what_one_witness_alone_could_tell_is_named_and_asked_again_by_a_later_download(
    fleet: Fleet,
) -> None:
    """The days of the month are not published; REST is allowed only the second time."""
    files = Wanted("spot", ("BTCUSDT",), "2023-03-01", "2023-04-01", "5m", "archive")
    fleet.exchange.archive_faults({"absent": 1.0}, only="daily")
    told = fleet.download(*files.arguments)
    assert (told["rows_absent"], told["rows_absent_by_one_witness"]) == (16, 16)
    assert reasons(fleet) == {BY_ONE}
    files.assert_held(fleet)
    both = replace(files, source="auto")
    told = fleet.download(*both.arguments)
    assert (told["requests"], told["rows_absent_by_one_witness"]) == (1, 0)
    assert BY_ONE not in reasons(fleet)
    both.assert_nothing_is_missing(fleet)


def test_a_second_witness_that_fails_leaves_the_run_incomplete_and_the_next_asks_it(
    fleet: Fleet,
) -> None:
    files = Wanted("spot", ("BTCUSDT",), "2023-03-01", "2023-04-01", "5m", "archive")
    fleet.exchange.archive_faults({"absent": 1.0}, only="daily")
    fleet.download(*files.arguments)
    both = replace(files, source="auto")
    fleet.exchange.faults({"400": 1.0})
    done = fleet.klines("download", "--json", *both.arguments)
    told = json.loads(done.stdout)
    assert (done.returncode, told["state"]) == (1, "incomplete"), done.stderr
    assert list(told["failed"]) == ["spot BTCUSDT 5m 2023-03-24T12:40..2023-03-24T14:00"]
    assert reasons(fleet) == {BY_ONE}
    fleet.exchange.faults({})
    assert fleet.download(*both.arguments)["requests"] == 1
    both.assert_held(fleet)
    assert BY_ONE not in reasons(fleet)


@pytest.mark.parametrize("fault", ["faulty", "field_short"])
def test_faulty_rows_of_a_file_are_replaced_by_what_others_have(fleet: Fleet, fault: str) -> None:
    fleet.exchange.archive_faults({fault: 1.0}, only="monthly")
    wanted = Wanted("um", ("BTCUSDT",), "2023-01-01", "2023-03-01", "5m", "archive")
    told = fleet.download(*wanted.arguments)
    wanted.assert_held(fleet)
    assert told["report"]
    assert verify(fleet)["faults"] == []


def test_a_faulty_row_that_is_all_there_is_stays_marked_and_verify_is_silent_about_it(
    fleet: Fleet,
) -> None:
    fleet.exchange.faults({"faulty": 1.0})
    wanted = Wanted("spot", ("BTCUSDT",), "2024-03-01", "2024-03-02", "1h", "rest")
    told = fleet.download(*wanted.arguments)
    (kept,) = [text for text in told["report"].values() if "kept as rest" in text]
    assert "rows kept as rest have them: price not positive (1 rows)" in kept or "bounds" in kept
    assert verify(fleet)["faults"] == []
    calls = len(fleet.exchange.calls())
    assert verify(fleet, "--repair")["faults"] == []
    assert len(fleet.exchange.calls()) == calls
    wanted.assert_nothing_is_missing(fleet)
