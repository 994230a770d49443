"""A request, windows of January, and the steps of a partition to its end."""

from __future__ import annotations

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import Phase, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.timestamps import utc_ms
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes

FEBRUARY = Partition(MINUTES, "2024-02")


def request(*symbols: str, market: Market = Market.USD_M, months: int = 2) -> Request:
    chosen = symbols or ("BTCUSDT",)
    return Request(market, KLINES, Interval.M1, chosen, utc_ms(2024, 1), utc_ms(2024, 1 + months))


def windows(number: int, partition: Partition = JANUARY) -> list[Window]:
    return [Window(partition, minutes(n * 100, n * 100 + 100)) for n in range(number)]


def counts(runs: Runs, run: str) -> dict[str, int]:
    progress = runs.progress(run)
    assert progress
    return {name: count for name, count in progress.counts.items() if count}


def begin(runs: Runs, run: str, several: list[Window], partition: Partition = JANUARY) -> None:
    assert runs.partitions.claim(run, partition)
    assert runs.partitions.open(run, partition, several)


def phases(runs: Runs, run: str) -> dict[Partition, Phase]:
    return {partition: told.phase for partition, told in runs.partitions.states(run).items()}


def close(
    runs: Runs, run: str, partition: Partition = JANUARY, fence: int = 1, why: str = ""
) -> bool:
    records = [Record.for_partition(Level.FAILED, partition, why)] if why else []
    return runs.partitions.begin_compaction(run, partition, fence) and runs.partitions.close(
        run, partition, fence, {"rows": 100}, records=records
    )


def say_all_there_is(runs: Runs, run: str) -> None:
    """Do all that somebody may do who has not heard yet that the run has ended."""
    window = windows(1)[0]
    runs.record(
        run,
        Record.for_window(Level.FAILED, window, "late"),
        Record(Level.REPORT, "late", source="archive"),
    )
    runs.partitions.record_attempt(run, "late", 5)
    runs.partitions.finish_window(
        run,
        window,
        {"klines": 1},
        records=[Record.for_window(Level.FAILED, window, "late")],
        replacements=[window],
    )
    runs.partitions.claim(run, JANUARY)
    runs.partitions.open(run, JANUARY, [window])
    runs.partitions.release_unneeded(run, JANUARY)
    runs.advance(run, 1, 1, 1)
    runs.partitions.begin_compaction(run, JANUARY, 9)
    runs.partitions.close(
        run, JANUARY, 9, {"rows": 1}, records=[Record.for_partition(Level.FAILED, JANUARY, "late")]
    )
    runs.partitions.mark_sent(run, [window], [JANUARY])
    runs.mark_plan_sent(run)
    runs.partitions.reconcile(run)
    runs.end(run, State.COMPLETE)
