"""A store that fails a tenth of its writes, before and after it has stored them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.expected import Wanted
from tests.harness import Fleet
from tests.servers import ObjectStore

WANTED = Wanted("um", ("BTCUSDT", "ETHUSDT", "BNBUSDT"), "2024-01-01", "2024-05-01")


def test_a_store_that_fails_a_tenth_of_its_writes_loses_no_row(
    store: ObjectStore, fleet_of: Callable[..., Fleet]
) -> None:
    fleet = fleet_of("--latency-ms", "5", store_url="s3://lake/klines")
    fleet.start_worker()
    store.faults(before=0.05, after=0.05, seed=5, methods=["PUT", "DELETE"])
    told = fleet.download(*WANTED.arguments)
    writes = store.writes()
    failed = Counter(write["fault"] for write in writes if write["fault"])
    assert min(failed["before"], failed["after"]) >= 3, (
        f"too few writes failed to prove anything: {failed}"
    )
    partitions = [
        write for write in writes if write["method"] == "PUT" and write["key"].endswith(".parquet")
    ]
    assert len({write["key"] for write in partitions}) == 12
    assert all(write["if_match"] or write["if_none_match"] == "*" for write in partitions), (
        "an unconditional publish"
    )
    assert [key for key in store.objects() if "/raw/" in key] == []
    assert told["rows_gained"] == told["klines"] == WANTED.klines
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == 0
    store.faults()
    WANTED.assert_nothing_is_missing(fleet)


def test_two_fleets_that_share_nothing_but_the_store_lose_no_row_of_each_other(
    store: ObjectStore, fleet_of: Callable[..., Fleet], tmp_path: Path
) -> None:
    """Two Redis servers do not know each other's claims: only the conditional PUT protects rows."""
    halves = [
        Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-01-16"),
        Wanted("um", ("BTCUSDT",), "2024-01-16", "2024-02-01"),
    ]
    fleet = fleet_of("--latency-ms", "50", store_url="s3://lake")
    fleet.start_worker()
    commands = [
        fleet.start("download", "--json", *halves[0].arguments),
        fleet.start("download", "--json", "--local", *halves[1].arguments),
    ]
    for done in [command.result() for command in commands]:
        assert done.returncode == 0, done.stderr
    whole = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-02-01")
    whole.assert_held(fleet)
    whole.assert_nothing_is_missing(fleet)
