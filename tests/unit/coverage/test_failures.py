"""Failures that runs recorded, from Redis and from the reports that outlive it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.coverage.failures import NEXT_DOWNLOAD, Failure, failures_of, load_run_notes
from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.planning.ending import end_run
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.report_file import to_csv
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, parse_iso, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import NO_FILE
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.settings import Settings
from tests.answers import ASKED_MS
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes

NOW_MS = utc_ms(2024, 6, 14)
ETHER = Series(MINUTES.market, KLINES, Interval.M1, "ETHUSDT")
REQUEST = Request(
    MINUTES.market,
    KLINES,
    Interval.M1,
    (MINUTES.symbol, ETHER.symbol),
    utc_ms(2024),
    utc_ms(2024, 6),
)
WHY = "ServerFault: HTTP 500"


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def failures(record: Record, request: Request | None = REQUEST) -> list[tuple[Series, Span]]:
    return [(failure.series, failure.span) for failure in failures_of("run", [record], request)]


def of_january(text: str = WHY) -> Record:
    return Record.for_partition(Level.FAILED, JANUARY, text)


def test_a_failure_says_which_time_of_which_series() -> None:
    window = Window(JANUARY, minutes(1, 7), Source.DAILY)
    assert failures(Record.for_window(Level.FAILED, window, WHY)) == [(MINUTES, minutes(1, 7))]
    assert failures(of_january()) == [(MINUTES, JANUARY.span)]


def test_a_symbol_or_a_run_that_failed_as_a_whole_lacks_all_that_was_asked_for() -> None:
    assert failures(Record(Level.FAILED, WHY, ETHER)) == [(ETHER, REQUEST.span)]
    whole = Record(Level.FAILED, WHY, source="plan")
    assert failures(whole) == [(MINUTES, REQUEST.span), (ETHER, REQUEST.span)]
    assert failures(whole, None) == []


@pytest.mark.parametrize("level", [Level.REPORT, Level.NOTE])
def test_what_is_no_failure_is_left_out(level: Level) -> None:
    assert failures(Record.for_partition(level, JANUARY, WHY)) == []


def missing_spans(
    redis: Redis | None, files: ObjectStore, series: Series = MINUTES, *raw: RawEntry
) -> list[MissingSpan]:
    return load_run_notes(Runs(redis) if redis else None, files).missing_spans(
        series, raw, now_ms=NOW_MS
    )


def ended(redis: Redis, *failed: Record) -> str:
    runs = Runs(redis)
    run = runs.create(REQUEST)
    runs.record(run, *failed)
    runs.end(run, State.INCOMPLETE)
    return run


def test_what_failed_is_tried_again_by_the_next_download_as_nobody_retries_by_the_clock(
    redis: Redis, files: ObjectStore
) -> None:
    run = ended(redis, of_january())
    assert missing_spans(redis, files) == [
        MissingSpan(JANUARY.span, Reason.FAILED, f"run {run}: {WHY}", NEXT_DOWNLOAD)
    ]
    assert missing_spans(redis, files, ETHER) == []


def test_a_failure_of_a_whole_run_is_known_of_each_of_many_symbols_after_its_end(
    redis: Redis, files: ObjectStore
) -> None:
    names = ("BTCUSDT", *(f"S{number}USDT" for number in range(100)), "ETHUSDT")
    services, runs = Services(Settings(store_url=files.address(""))), Runs(redis)
    services.__dict__["redis"] = redis
    run = runs.create(replace(REQUEST, symbols=names))
    runs.record(run, Record(Level.FAILED, WHY, source="plan"))
    end_run(services, runs, run)
    for series in (MINUTES, ETHER):
        (missing,) = missing_spans(redis, files, series)
        assert (missing.span, missing.reason) == (REQUEST.span, Reason.FAILED)


def test_what_failed_and_another_run_wants_is_being_tried_again(
    redis: Redis, files: ObjectStore
) -> None:
    failed = ended(redis, of_january())
    runs = Runs(redis)
    active = runs.create(REQUEST)
    first, *_ = missing_spans(redis, files)
    assert first == MissingSpan(
        JANUARY.span, Reason.FAILED, f"run {failed}: {WHY}", f"run {active} is fetching it"
    )
    # That run is past January itself, and has the partition no longer under way.
    runs.advance(active, 0, JANUARY.span.end_ms, 0)
    first, second = missing_spans(redis, files)
    assert first.next_step == NEXT_DOWNLOAD
    february_on = Span(JANUARY.span.end_ms, REQUEST.end_ms)
    assert second == MissingSpan(february_on, Reason.BEING_FETCHED, f"run {active} is fetching it")
    assert missing_spans(redis, files, ETHER) == [
        MissingSpan(REQUEST.span, Reason.BEING_FETCHED, f"run {active} is fetching it")
    ]


def test_a_run_does_not_try_again_what_failed_in_it(redis: Redis, files: ObjectStore) -> None:
    runs = Runs(redis)
    run = runs.create(REQUEST)
    runs.record(run, of_january())
    first, *_ = missing_spans(redis, files)
    assert first == MissingSpan(JANUARY.span, Reason.FAILED, f"run {run}: {WHY}", NEXT_DOWNLOAD)


def test_partitions_under_way_are_being_fetched_behind_the_cursor_too(
    redis: Redis, files: ObjectStore
) -> None:
    runs = Runs(redis)
    run = runs.create(REQUEST)
    assert runs.partitions.claim(run, JANUARY)
    assert runs.partitions.open(run, JANUARY, [Window(JANUARY, minutes(0, 60))])
    runs.advance(run, 2, 0, 0)
    assert missing_spans(redis, files) == [
        MissingSpan(JANUARY.span, Reason.BEING_FETCHED, f"run {run} is fetching it")
    ]


def test_a_file_that_may_still_be_published_has_not_failed(
    redis: Redis, files: ObjectStore
) -> None:
    """Forty-five days after a month nobody waits for its file any more."""
    april, may = (MINUTES.partition(utc_ms(2024, month)) for month in (4, 5))
    asked = [Record.for_partition(Level.FAILED, partition, NO_FILE) for partition in (april, may)]
    window = Window(JANUARY, minutes(0, 9), Source.DAILY)
    run = ended(
        redis, *asked, Record.for_window(Level.FAILED, window, "NotPublished: no such file")
    )
    reasons = {hole.span: hole.reason for hole in missing_spans(redis, files)}
    assert reasons == {
        april.span: Reason.NOT_PUBLISHED,
        may.span: Reason.NOT_PUBLISHED,
        minutes(0, 9): Reason.FAILED,
    }
    later = load_run_notes(Runs(redis), files).missing_spans(
        MINUTES, (), now_ms=NOW_MS + 10 * DAY_MS
    )
    assert {hole.span: hole.reason for hole in later}[april.span] is Reason.FAILED
    assert all(run in hole.detail for hole in later)


def test_without_a_redis_the_reports_tell_what_failed_and_the_newest_stands_first(
    files: ObjectStore,
) -> None:
    late = Record(Level.REPORT, "late; REST instead", MINUTES, source="some/file")
    for n, why in ((1, "older"), (2, "newer")):
        body = to_csv([late, of_january(why)], REQUEST.to_json()) + b'"broken\n'
        files.put(keys.report(f"18d{n}-a", "report.csv"), body)
        files.put(keys.report(f"18d{n}-a", "disputed.csv"), body)
    assert [hole.detail for hole in missing_spans(None, files)] == [
        "run 18d2-a: newer",
        "run 18d1-a: older",
    ]


def test_a_report_tells_of_which_kind_and_time_a_symbol_was_that_failed_as_a_whole(
    files: ObjectStore,
) -> None:
    body = to_csv([Record(Level.FAILED, WHY, MINUTES)], REQUEST.to_json())
    files.put(keys.report("1-a", "report.csv"), body)
    assert [hole.span for hole in missing_spans(None, files)] == [REQUEST.span]
    files.put(keys.report("1-a", "report.csv"), body.replace(b"start_ms", b"began_ms"))
    assert missing_spans(None, files) == []


def test_time_that_is_fetched_but_not_compacted_is_being_fetched(files: ObjectStore) -> None:
    entry = RawEntry("raw/x", JANUARY, minutes(0, 9), ASKED_MS, "0" * 16)
    (hole,) = missing_spans(None, files, MINUTES, entry)
    assert (hole.span, hole.reason) == (minutes(0, 9), Reason.BEING_FETCHED)


@pytest.mark.parametrize("ms", [0, 1, 60_000, utc_ms(2024), utc_ms(2024) + 86_399_999])
def test_a_moment_is_read_as_it_was_written(ms: int) -> None:
    span = Span(ms, ms + 1)
    assert Span.parse(str(span)) == span
    assert parse_iso(str(span).split("..")[0]) == ms
    assert isinstance(Partition.parse(str(JANUARY)), Partition)
    assert Failure(MINUTES, span, "r", NO_FILE).is_missing_file
