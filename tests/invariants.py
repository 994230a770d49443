"""What must hold after every run: asserted of Redis and of `klines coverage`."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from klinefleet.tasks.coverage.build import CoverageQuery, coverage_report
from klinefleet.tasks.coverage.holes import Reason
from klinefleet.tasks.requests.request import closed_ms
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.parsing import parse_interval, parse_timestamp
from klinefleet.workers.domain.queues import QUEUES
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, parse_iso
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.harness import Command, Fleet

Done = subprocess.CompletedProcess[str]
#: Keys that belong to the fleet, not to a run: they may stay without an expiry.
FLEET_WIDE = re.compile(
    r"klines:(runs|limits|workers|widths|leases(:owners|:fence)?|(listed|first|budget):.+)"
    r"|_kombu\.binding.+|unacked(_index|_mutex)?"
    rf"|({'|'.join(map(re.escape, QUEUES))})(\x06\x16\d)?"
)
#: The options of a download that name series and time; `klines coverage` has the same.
SERIES, TIME = ("--market", "--kind", "--interval", "--symbols"), ("--start", "--end")
DEFAULTS = {"--kind": "klines", "--interval": "1m"}
#: How a run notes that it asked only for a part of the requested range, or for none of it.
TRADED_ONLY, DID_NOT_TRADE, LEFT_OUT = "traded only in ", "did not trade then", "left out"


@contextmanager
def checked_after_every_download() -> Iterator[None]:
    """Check every `klines download` that exits with 0, as soon as it has ended."""
    run, start, result = Fleet.klines, Fleet.start, Command.result
    begun: dict[int, tuple[Fleet, tuple[str, ...]]] = {}

    def klines(fleet: Fleet, *arguments: str, timeout_s: float = 240.0, **settings: str) -> Done:
        done = run(fleet, *arguments, timeout_s=timeout_s, **settings)
        _check(fleet, arguments, done, settings)
        return done

    def started(fleet: Fleet, *arguments: str) -> Command:
        command = start(fleet, *arguments)
        begun[id(command)] = fleet, arguments
        return command

    def ended(command: Command, within_s: float = 240.0) -> Done:
        done = result(command, within_s)
        if id(command) in begun:
            fleet, arguments = begun.pop(id(command))
            _check(fleet, arguments, done, {})
        return done

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Fleet, "klines", klines)
        patched.setattr(Fleet, "start", started)
        patched.setattr(Command, "result", ended)
        yield


def _check(fleet: Fleet, arguments: Sequence[str], done: Done, settings: dict[str, str]) -> None:
    if (
        arguments[0] != "download"
        or done.returncode != 0
        or {"--detach", "--dry-run"} & set(arguments)
    ):
        return
    if "--json" in arguments:
        assert_complete_means_held(fleet, arguments, json.loads(done.stdout), **settings)
    if "--local" in arguments:
        return
    with fleet.redis.client() as client:
        if not client.exists("klines:active"):
            assert_nothing_left(client)


def assert_nothing_left(redis: Redis) -> None:
    """Assert that only keys of the fleet have no expiry in Redis.

    To be called when no run is under way.
    """
    lasting = [key.decode() for key in redis.scan_iter(count=1000) if redis.pttl(key) == -1]
    left = sorted(key for key in lasting if not FLEET_WIDE.fullmatch(key))
    assert not left, f"{len(left)} keys without an expiry were left in Redis: {left[:10]}"


def assert_complete_means_held(
    fleet: Fleet, arguments: Sequence[str], summary: dict[str, Any], **settings: str
) -> None:
    """Assert that the lake holds everything that a complete run was asked for.

    `klines coverage` must find no hole that could be fetched. `arguments` are those of `klines
    download`, `summary` its `--json` output. A range that the run's notes clip is checked within
    the clipped part only. Without `--symbols` only series in the lake are checked, without `--end`
    only the time until the last row of the kind.
    """
    assert summary["state"] == "complete", f"the run is {summary['state']}: {summary['failed']}"
    lacking = lacking_parts(fleet, arguments, summary, **settings)
    assert not lacking, (
        f"run {summary['run']} is complete, but {lacking[:5]}; its notes: {summary['notes']}"
    )


def lacking_parts(
    fleet: Fleet, arguments: Sequence[str], summary: dict[str, Any], **settings: str
) -> list[str]:
    """Return the parts of a request that `klines coverage` says could be fetched.

    Only within the range that the run's notes clip it to.
    """
    given = DEFAULTS | {name: value for name, value in pairwise(arguments) if name in SERIES + TIME}
    left_out = {symbol for symbol, note in summary["notes"].items() if LEFT_OUT in note}
    if "--symbols" in given:
        given["--symbols"] = ",".join(set(given["--symbols"].upper().split(",")) - left_out)
    if given["--kind"] == "fundingRate":
        given.pop("--interval", None)
    told = coverage_of(fleet, given, settings)
    # A run is named by the time it began at. What closes later, or just then by another clock, it
    # was not asked for.
    began_ms, interval = int(summary["run"].partition("-")[0], 16), Interval(summary["interval"])
    ends_ms = closed_ms(kind_named(given["--kind"]), interval, began_ms) - (
        interval.step_ms if interval.is_grid else 0
    )
    found = []
    for series in told["series"]:
        within = _clipped(summary["notes"].get(series["symbol"], "")).clip(Span(0, ends_ms))
        for hole in series["holes"]:
            span = Span(parse_iso(hole["start"]), parse_iso(hole["end"]))
            if Reason(hole["reason"]).is_fetchable and spans.clip([span], within):
                found.append(f"{series['symbol']} {span} is {hole['reason']}")
    return found


def coverage_of(fleet: Fleet, given: dict[str, str], settings: dict[str, str]) -> dict[str, Any]:
    """Return what `klines coverage --json` prints.

    Of a folder it is built in this process, as this is called often.
    """
    store_url = settings.get("KLINES_STORE_URL", fleet.store_url)
    if store_url.startswith("s3://"):
        done = fleet.klines(
            "coverage", "--json", *(word for pair in given.items() for word in pair), **settings
        )
        assert done.returncode in (0, 1), done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told
    market, kind = Market(given["--market"]), kind_named(given["--kind"])
    symbols = tuple(given["--symbols"].split(",")) if "--symbols" in given else ()
    start_ms, end_ms = (
        parse_timestamp(name, given[name]) if name in given else None for name in TIME
    )
    query = CoverageQuery(
        market,
        kind,
        parse_interval(market, kind, given.get("--interval")),
        symbols,
        start_ms,
        end_ms,
    )
    services = Services(Settings(redis_url=fleet.redis.url, store_url=store_url))
    return coverage_report(services, query, now_ms=time.time_ns() // 1_000_000).facts()


def _clipped(note: str) -> Span:
    """Return the time that a run asked for, as far as its note of a symbol clips it."""
    if note == DID_NOT_TRADE or LEFT_OUT in note:
        return Span(0, 0)
    if note.startswith(TRADED_ONLY):
        return Span.parse(note.removeprefix(TRADED_ONLY))
    return Span(0, NEVER_MS)
