"""Complete means proved: an exchange lies, workers die, and what is called complete is the truth.

The whole core works here (plan, fetch, compact, coverage), on days of one symbol.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, iso, utc_ms
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.lying_exchange import SYMBOL, LyingExchange, Truth
from tests.unit.helpers.lying_fleet import LyingFleet

SERIES = Series(Market.USD_M, KLINES, Interval.D1, SYMBOL)
#: The requested time touches two partitions; the symbol was listed within the first.
WANTED = Span(utc_ms(2023, 12), utc_ms(2024, 2, 10))
LISTED_MS = utc_ms(2023, 12, 5)
DAYS = (WANTED.end_ms - WANTED.start_ms) // DAY_MS


def some_truth(rng: random.Random) -> Truth:
    """Return days with outages of one to nine days, and with odd rows."""
    truth = Truth(LISTED_MS, WANTED.end_ms)
    for _ in range(rng.randrange(4)):
        start_ms = LISTED_MS + rng.randrange(1, 60) * DAY_MS
        truth.absent |= {start_ms + n * DAY_MS for n in range(rng.choice([1, 2, 9]))}
    truth.odd = {LISTED_MS + rng.randrange(60) * DAY_MS for _ in range(rng.randrange(3))}
    return truth


def publish(fleet: LyingFleet, rng: random.Random) -> None:
    """Publish some months, and the days of some."""
    for month, bounds in months_of(WANTED):
        if rng.random() < 0.6:
            fleet.archive.publish(SERIES, month)
        if rng.random() < 0.6:
            first_ms = bounds.start_ms + rng.randrange(25) * DAY_MS
            for at in range(first_ms, min(first_ms + 9 * DAY_MS, bounds.end_ms), DAY_MS):
                fleet.archive.publish(SERIES, iso(at)[:10])


def wanted(mode: Mode, rng: random.Random) -> Request:
    """Return a request for all of the time, or for a part of it."""
    start, end = (0, DAYS) if rng.random() < 0.7 else sorted(rng.sample(range(DAYS + 1), 2))
    start_ms = WANTED.start_ms + start * DAY_MS
    return Request(
        SERIES.market,
        KLINES,
        SERIES.interval,
        (SYMBOL,),
        start_ms,
        min(WANTED.end_ms, WANTED.start_ms + end * DAY_MS),
        mode,
    )


def held(fleet: LyingFleet) -> dict[int, tuple[float, ...]]:
    """Return the lake's rows by their open time."""
    services, found = fleet.one.services, dict[int, tuple[float, ...]]()
    for partition in SERIES.partitions(WANTED):
        rows = services.partitions.rows(partition).drop("close_time")
        times = rows["open_time"].dt.timestamp("ms")
        found |= dict(zip(times, rows.drop("open_time").rows(), strict=True))
    return found


def differences(fleet: LyingFleet, span: Span) -> Iterator[str]:
    """Yield each day on which the lake is not the truth, unless it says so itself."""
    truth, rows = fleet.exchange.truth, held(fleet)
    lake = fleet.one.services.coverage.held(SERIES)
    known = {at: tuple(truth.values(at)) for at in truth.days(span.start_ms, span.end_ms)}
    for at in range(span.start_ms, span.end_ms, DAY_MS):
        day = Span(at, at + DAY_MS)
        if rows.get(at) != known.get(at) and not spans.clip(lake.unconfirmed, day):
            yield f"{iso(at)}: {rows.get(at)} is held, {known.get(at)} is true"


def play(redis: Redis, folder: Path, seed: int) -> None:
    """Play one example: lies and deaths first, honesty afterwards."""
    rng = random.Random(seed)
    redis.flushall()
    with pytest.MonkeyPatch.context() as monkeypatch:
        exchange = LyingExchange(some_truth(rng), rng, every=rng.randint(1, 6))
        fleet = LyingFleet(redis, folder, exchange, rng, monkeypatch)
        publish(fleet, rng)
        fleet.death_rate = rng.choice([0.0, 0.02, 0.1])
        modes = rng.choices([Mode.AUTO, Mode.REST, Mode.ARCHIVE], k=rng.randint(1, 2))
        asked = [wanted(mode, rng) for mode in modes]
        for run, request in zip(fleet.play(asked), asked, strict=True):
            if fleet.runs.state(run) is State.COMPLETE:
                wrong = list(differences(fleet, request.span))
                assert not wrong, (wrong, request.source, exchange.told)
        fleet.death_rate, exchange.is_honest = 0.0, True
        fleet.forget_listings()
        honest = Request(SERIES.market, KLINES, SERIES.interval, (SYMBOL,), *WANTED_BOUNDS)
        (last,) = fleet.play([honest])
        progress = fleet.runs.progress(last)
        assert progress
        assert (progress.state, progress.failed) == (State.COMPLETE, {}), exchange.told
        wrong = list(differences(fleet, WANTED))
        assert not wrong, (wrong, exchange.told)
        assert fleet.one.services.coverage.held(SERIES).unconfirmed == [], exchange.told


WANTED_BOUNDS = (WANTED.start_ms, WANTED.end_ms)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 1 << 32))
def test_what_is_called_complete_is_the_truth_whoever_lies_and_dies(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    play(redis, tmp_path_factory.mktemp("lake"), seed)
