"""What is checked before a request is queued: its symbols, workers and store."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.client import preflight
from klinefleet.tasks.requests.symbols import (
    ChosenSymbols,
    SymbolSelection,
    choose_symbols,
)
from klinefleet.workers.coordination.heartbeat import Heartbeat
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.in_process_fleet import in_process_fleet, series_of


def chosen(services: Services, *names: str, **how: bool) -> ChosenSymbols:
    asked = Market.USD_M, KLINES, Interval.M1, SymbolSelection(names or None, **how), Mode.AUTO
    return choose_symbols(services, *asked, lambda _: None)


@pytest.fixture
def services(redis: Redis, tmp_path: Path) -> Services:
    """A market of three symbols, and an archive that has files of a fourth."""
    one = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0, "ETHUSDT": 0, "币安人生USDT": 0})
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
    told = chosen(in_process_fleet(redis, tmp_path, {"ETHUSDT": 0, name: 0}).services)
    assert told.symbols == ("ETHUSDT",)
    assert name in told.notes


def test_a_request_needs_a_worker_on_each_of_its_queues(redis: Redis, tmp_path: Path) -> None:
    services = in_process_fleet(redis, tmp_path, {}).services
    queues = preflight.required_queues(Market.USD_M, KLINES, Mode.REST)
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
    assert sum(waited) == preflight.RESTART_TIMEOUT_S
    Heartbeat(redis, Leases(redis), serves="rest.futures@home").beat()
    preflight.check_workers(services, queues)


def test_a_lane_that_is_starting_again_is_waited_for_and_not_reported_as_missing(
    redis: Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = in_process_fleet(redis, tmp_path, {}).services
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
        == "no worker serves plan now; waiting up to 12 s for one to restart\n"
    )


def test_a_store_that_takes_no_object_is_refused_before_anything_is_queued(
    redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(RequestError, match=r"store .* cannot be written"):
        preflight.check_store(in_process_fleet(redis, tmp_path, {}).services)
