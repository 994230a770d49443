"""The same request twice at once: it is fetched once, and both commands see it complete."""

from __future__ import annotations

from collections.abc import Callable

from tests.expected import Wanted
from tests.harness import Fleet

WANTED = Wanted("um", ("BTCUSDT", "ETHUSDT", "SOLUSDT"), "2024-01-01", "2024-04-01")


def test_the_same_request_twice_at_once_fetches_no_page_twice(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of("--latency-ms", "50")
    fleet.start_worker()
    fleet.start_worker()
    commands = [fleet.start("download", "--json", *WANTED.arguments) for _ in range(2)]
    for done in [command.result() for command in commands]:
        assert done.returncode == 0, done.stderr + fleet.log()
    assert [page for page, times in fleet.exchange.pages().items() if times > 1] == []
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == fleet.exchange.refused(418) == 0
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)


def test_two_requests_that_overlap_fetch_no_page_of_the_overlap_twice(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of("--latency-ms", "50")
    fleet.start_worker()
    earlier = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-03-10")
    later = Wanted("spot", ("ETHUSDT", "BNBUSDT"), "2024-02-10", "2024-05-01")
    commands = [fleet.start("download", "--json", *wanted.arguments) for wanted in (earlier, later)]
    for done in [command.result() for command in commands]:
        assert done.returncode == 0, done.stderr + fleet.log()
    all_of_eth = Wanted("spot", ("ETHUSDT",), "2024-01-01", "2024-05-01")
    for wanted in (
        Wanted("spot", ("BTCUSDT",), earlier.start, earlier.end),
        all_of_eth,
        Wanted("spot", ("BNBUSDT",), later.start, later.end),
    ):
        wanted.assert_held(fleet)
    rows = [
        call["rows"]
        for call in fleet.exchange.calls()
        if call["symbol"] == "ETHUSDT" and call["end"]
    ]
    assert sum(rows) == all_of_eth.klines
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()
