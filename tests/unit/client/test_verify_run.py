"""Verification by the fleet: every piece is checked once, with few in Redis at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.client.job import PIECES_IN_FLIGHT, TRIES
from klinefleet.tasks.client.verify_run import check_by_fleet, check_here
from klinefleet.tasks.jobs.state import Jobs
from klinefleet.tasks.verification.compare import Reference, Sample, draw_units
from klinefleet.tasks.verification.pieces import Findings, VerificationPiece, verify_piece
from klinefleet.tasks.verification.scope import (
    PARTITIONS_PER_PIECE,
    Scope,
    list_partitions,
    split_into_pieces,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.services import Services
from tests.unit.helpers.in_process_fleet import in_process_fleet
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes, opens
from tests.unit.helpers.sound import partition, rows_at

HOUR = minutes(0, 60)
FOUND = Findings(
    1,
    60,
    1,
    5,
    [Fault("k", What.GAP, HOUR, 2, "t"), Fault("k", What.DAMAGED, None, 0, "d")],
    {"a": "b"},
    {},
)


class Silent:
    """A view that nobody looks at."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        pass


@pytest.fixture
def services(redis: Redis, tmp_path: Path) -> Services:
    return in_process_fleet(redis, tmp_path, {}).services


def hold(services: Services, symbols: Iterable[str], months: Iterable[str]) -> None:
    """Put partitions into the lake of which only January 2024 is sound."""
    body = partition(rows_at(MINUTES, opens(HOUR)), [HOUR])
    for symbol in symbols:
        for month in months:
            services.store.put(
                keys.partition(
                    Partition(Series(MINUTES.market, MINUTES.kind, MINUTES.interval, symbol), month)
                ),
                body,
            )


def pieces(count: int) -> list[VerificationPiece]:
    return [
        VerificationPiece(Series(Market.USD_M, KLINES, Interval.M1, f"S{n}"), ("2024-01",))
        for n in range(count)
    ]


def test_what_came_of_a_piece_is_told_once_and_only_to_who_waits(redis: Redis) -> None:
    checks = Jobs(redis)
    one, other = checks.begin(), checks.begin()
    sent_us = checks.mark_sent(one, ["a", "b"])
    assert checks.is_open(one, "a")
    assert not checks.is_open(other, "a")
    assert checks.record_results(one, "a", "first")
    assert not checks.record_results(one, "a", "second")
    assert not checks.record_results(other, "a", "elsewhere")
    assert checks.poll(one) == ({"b": sent_us + 1}, ["first"])
    assert checks.poll(one) == ({"b": sent_us + 1}, [])
    redis.hset(f"klines:job:{one}:open", "b", 1)
    checks.mark_requeued(one, "b")
    assert checks.poll(one)[0]["b"] > sent_us
    checks.end(one)
    checks.mark_requeued(one, "b")
    assert not checks.record_results(one, "b", "too late")
    assert list(redis.scan_iter("klines:job:*")) == []


def test_what_came_of_a_piece_survives_the_way_through_redis() -> None:
    assert Findings.from_json(FOUND.to_json("piece")) == ("piece", FOUND)


def test_a_piece_survives_the_way_through_a_message() -> None:
    for piece in (
        *pieces(1),
        VerificationPiece(
            MINUTES, ("2024-01", "2024-03"), Sample(Reference.REST, 0.5, 7), "2024-03"
        ),
    ):
        assert (
            VerificationPiece.from_arguments(*json.loads(json.dumps(piece.to_arguments()))) == piece
        )


def test_a_lake_is_cut_into_bounded_pieces_of_one_series_each(services: Services) -> None:
    held = MINUTES.partitions(Span(utc_ms(2022), utc_ms(2023, 4)))
    months = [partition.period for partition in held]
    hold(services, ["AUSDT", "BUSDT"], months)
    cut = split_into_pieces(list_partitions(services, Scope()), Sample(Reference.REST, 0.0, 7))
    assert [(piece.series.symbol, len(piece.periods)) for piece in cut] == [
        ("AUSDT", PARTITIONS_PER_PIECE),
        ("AUSDT", 3),
        ("BUSDT", PARTITIONS_PER_PIECE),
        ("BUSDT", 3),
    ]
    assert sorted(month for piece in cut for month in piece.periods) == sorted(months * 2)
    assert [piece.compared_period in piece.periods for piece in cut if piece.compared_period] == [
        True
    ]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(), 6),
        (Scope(market=Market.SPOT), 0),
        (Scope(kind=MARK_PRICE_KLINES), 0),
        (Scope(interval=Interval.M1, symbols=("AUSDT",)), 3),
        (Scope(start_ms=utc_ms(2024, 2)), 4),
        (Scope(start_ms=utc_ms(2024, 2) - 1), 6),
        (Scope(end_ms=utc_ms(2024, 2)), 2),
        (Scope(end_ms=utc_ms(2024, 2) + 1), 4),
    ],
)
def test_only_what_is_named_is_checked_in_the_months_that_are_touched(
    services: Services, scope: Scope, expected: int
) -> None:
    hold(services, ["AUSDT", "BUSDT"], ["2024-01", "2024-02", "2024-03"])
    assert len(list_partitions(services, scope)) == expected


def test_a_process_of_its_own_finds_the_same_as_a_piece_after_the_other(services: Services) -> None:
    hold(services, [f"S{n}" for n in range(9)], ["2024-01", "2024-02"])
    cut = split_into_pieces(list_partitions(services, Scope()), Sample())
    expected = Findings()
    for piece in cut:
        expected.add(verify_piece(services, piece))
    assert check_here(services, cut, Silent()) == expected
    assert expected.partitions == 18
    assert {fault.key[-15:-8] for fault in expected.faults} == {"2024-02"}


def test_the_fleet_checks_every_piece_though_messages_and_workers_are_lost(
    services: Services,
) -> None:
    """The first message of every third piece goes nowhere, every second is delivered twice."""
    sent, most, checks = list[str](), 0, Jobs(services.redis)

    def send(check: str, batch: list[VerificationPiece], sent_us: int, *, first: bool) -> None:
        nonlocal most
        for piece in batch:
            name, number = str(piece), int(piece.series.symbol[1:])
            is_first = name not in sent
            sent.append(name)
            if number % 3 == 0 and is_first:
                continue
            for _ in range(1 + number % 2):
                checks.record_results(
                    check, name, Findings(partitions=1, rows=number).to_json(name)
                )
        most = max(most, len(batch))

    wanted = PIECES_IN_FLIGHT + 50
    found = check_by_fleet(services, pieces(wanted), Silent(), send=send, lost_work_interval_s=0.0)
    assert (found.partitions, found.rows) == (wanted, sum(range(wanted)))
    assert most <= PIECES_IN_FLIGHT
    assert list(services.redis.scan_iter("klines:job:*")) == []


def test_a_redis_that_forgot_everything_is_told_again(services: Services) -> None:
    checks, times = Jobs(services.redis), 0

    def send(check: str, batch: list[VerificationPiece], sent_us: int, *, first: bool) -> None:
        nonlocal times
        times += 1
        if times == 1:
            services.redis.flushall()
        else:
            for piece in batch:
                checks.record_results(check, str(piece), Findings(partitions=1).to_json(str(piece)))

    assert check_by_fleet(services, pieces(3), Silent(), send=send).partitions == 3


def test_a_piece_that_every_worker_dies_of_is_given_up_and_told(services: Services) -> None:
    sent = list[str]()

    def send(check: str, batch: list[VerificationPiece], *_: object, **__: object) -> None:
        sent.extend(map(str, batch))

    found = check_by_fleet(services, pieces(1), Silent(), send=send, lost_work_interval_s=0.0)
    assert found.failed.keys() == set(sent)
    assert len(sent) == TRIES


def test_a_sample_is_drawn_by_its_seed_from_what_is_covered_alone() -> None:
    covered = [Span(utc_ms(2024, 1, 5), utc_ms(2024, 1, 15))]
    ten = [
        draw_units(JANUARY, covered, Sample(Reference.REST, 0.3, seed), at_least_one=False)
        for seed in range(10)
    ]
    assert ten == [
        draw_units(JANUARY, covered, Sample(Reference.REST, 0.3, n), at_least_one=False)
        for n in range(10)
    ]
    assert {len(days) for days in ten} == {3}
    assert len({tuple(days) for days in ten}) > 1
    assert all(
        covered[0].start_ms <= day.start_ms < day.end_ms <= covered[0].end_ms
        for days in ten
        for day in days
    )
    assert draw_units(JANUARY, covered, Sample(Reference.REST, 0.0, 1), at_least_one=False) == []
    assert len(draw_units(JANUARY, covered, Sample(Reference.REST, 0.0, 1), at_least_one=True)) == 1
    assert draw_units(JANUARY, [], Sample(Reference.REST, 1.0, 1), at_least_one=True) == []
    weekly = Series(Market.SPOT, KLINES, Interval.W1, "BTCUSDT")
    assert draw_units(
        Partition(weekly, "2024"), covered, Sample(Reference.REST, 1.0, 1), at_least_one=False
    ) == [JANUARY.span]
