"""Compaction of a year from files and answers of every source, in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import unconfirmed
from klinefleet.workers.lake.footers.footer import parse_footer
from tests.answers import ASKED_MS
from tests.unit.helpers.compaction import failed, lake, pending, ready
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet, zipped
from tests.unit.helpers.klines import MINUTES, body, row

HOURS = replace(MINUTES, interval=Interval.H1)
YEAR = Partition(HOURS, "2024")
KEY = keys.partition(YEAR)
STEP_MS = HOURS.interval.step_ms
#: Hours that the exchange itself never had, and hours that only the monthly file lacks.
OUTAGE = Span(utc_ms(2024, 3, 9), utc_ms(2024, 3, 9) + 5 * STEP_MS)
LACKED = Span(utc_ms(2024, 5, 17), utc_ms(2024, 5, 18))

#: Stores the raw objects that came together.
Delivery = Callable[[InProcessFleet], None]


def times(span: Span, *, lacks: Iterable[Span] = ()) -> list[int]:
    parts = spans.without([span], [OUTAGE, *lacks])
    return [at for part in parts for at in range(part.start_ms, part.end_ms, STEP_MS)]


def deliver_file(
    one: InProcessFleet, source: Source, span: Span, *, lacks: Iterable[Span] = ()
) -> None:
    file = ArchiveFile.of(HOURS, source, span.start_ms)
    lines = [row(at, STEP_MS).strip("[]").replace('"', "") for at in times(span, lacks=lacks)]
    one.services.raw_zone.store_file(
        YEAR,
        span,
        zipped(file, "\n".join(lines).encode()),
        source,
        f"e{span.start_ms}",
        asked_ms=ASKED_MS + (0 if source == Source.MONTHLY else DAY_MS),
    )


def deliver_rest(one: InProcessFleet, span: Span) -> None:
    page = body(times(span), STEP_MS)
    one.services.raw_zone.store(YEAR, span, [page], asked_ms=ASKED_MS + 2 * DAY_MS)


def month(number: int) -> Delivery:
    """A monthly file; with what REST says of its gaps, for it is not merged before that."""
    start_ms = utc_ms(2024, number)
    span = Span(start_ms, Interval.MO1.advance(start_ms, 1))
    gaps = [gap for gap in (OUTAGE, LACKED) if not gap.clip(span).is_empty]

    def deliver(one: InProcessFleet) -> None:
        deliver_file(one, Source.MONTHLY, span, lacks=gaps)
        for gap in gaps:
            deliver_rest(one, gap)

    return deliver


def day(number: int) -> Delivery:
    start_ms = utc_ms(2024, 11, number)
    return lambda one: deliver_file(one, Source.DAILY, Span(start_ms, start_ms + DAY_MS))


DELIVERIES: list[Delivery] = [
    *(month(number) for number in range(1, 13)),
    *(day(number) for number in range(3, 8)),
    lambda one: deliver_rest(one, Span(utc_ms(2024, 12, 20), utc_ms(2025))),
    lambda one: deliver_rest(one, Span(utc_ms(2024, 11, 7), utc_ms(2024, 11, 7) + 9 * STEP_MS)),
]


def compacted(one: InProcessFleet, several: list[list[Delivery]]) -> bytes:
    """Return the partition's bytes after compactions of these deliveries, one after the other."""
    for deliveries in several:
        for deliver in deliveries:
            deliver(one)
        run = ready(one, YEAR)
        assert compact_partition(one.services, run, YEAR) == ""
        assert (pending(one, run), failed(one, run)) == ([], {})
        assert one.services.raw_zone.entries(YEAR) == []
    return one.services.store.read(KEY) or b""


def in_some_order(seed: int) -> list[list[Delivery]]:
    """Return all deliveries in another order, in groups that are compacted together."""
    random = Random(seed)
    shuffled = random.sample(DELIVERIES, len(DELIVERIES))
    cuts = [0, *sorted(random.sample(range(1, len(shuffled)), random.randint(1, 6))), None]
    return [shuffled[start:end] for start, end in pairwise(cuts)]


@pytest.fixture
def make(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], InProcessFleet]:
    """Make a fleet with an empty lake."""

    def empty() -> InProcessFleet:
        redis.flushall()
        folder = tmp_path_factory.mktemp("lake")
        return in_process_fleet(redis, folder, {"BTCUSDT": 0}).patch(monkeypatch)

    return empty


def test_a_year_has_the_same_bytes_in_whatever_order_its_files_and_answers_come(
    make: Callable[[], InProcessFleet],
) -> None:
    whole = compacted(make(), [DELIVERIES])
    for seed in range(5):
        several = in_some_order(seed)
        assert compacted(make(), several) == whole, f"{len(several)} compactions, seed {seed}"
    one_by_one = [[deliver] for deliver in reversed(DELIVERIES)]
    assert compacted(make(), one_by_one) == whole


def test_a_year_is_whole_and_tells_where_each_part_came_from(
    make: Callable[[], InProcessFleet],
) -> None:
    one = make()
    whole = compacted(one, [DELIVERIES])
    assert lake(one, KEY) == times(YEAR.span)
    assert one.services.coverage.covered(HOURS) == [YEAR.span]
    footer = parse_footer(whole, KEY)
    assert footer.partition == YEAR
    assert footer.proof
    assert footer.proof.gaps == (OUTAGE,)
    assert unconfirmed(footer.answers, [OUTAGE]) == []
    assert [str(part.span) for part in footer.origins if part.source == Source.REST] == [
        str(OUTAGE),
        str(LACKED),
        "2024-11-07..2024-11-07T09:00",
        "2024-12-20..2025-01-01",
    ]
    daily = [part.span for part in footer.origins if part.source == Source.DAILY]
    assert spans.union(daily) == [
        Span(utc_ms(2024, 11, 3), utc_ms(2024, 11, 7)),
        Span(utc_ms(2024, 11, 7) + 9 * STEP_MS, utc_ms(2024, 11, 8)),
    ]


def test_a_file_with_gaps_waits_for_what_rest_says_of_them(
    make: Callable[[], InProcessFleet],
) -> None:
    """Rest is asked for the hours that the files of March and May lack, and for nothing else."""
    one = make()
    for number in range(1, 13):
        start_ms = utc_ms(2024, number)
        span = Span(start_ms, Interval.MO1.advance(start_ms, 1))
        deliver_file(one, Source.MONTHLY, span, lacks=[LACKED])
    run = ready(one, YEAR)
    assert compact_partition(one.services, run, YEAR) == ""
    assert [(w.source, w.span) for w in pending(one, run)] == [
        (Source.REST, OUTAGE),
        (Source.REST, LACKED),
    ]
    assert lake(one, KEY) == []
    one.work()
    assert one.services.coverage.covered(HOURS) == [YEAR.span]
