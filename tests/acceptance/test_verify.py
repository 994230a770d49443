"""`klines verify`: damaged partitions are named, and just those are fetched again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.footer import parse_footer
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import decode, encode
from klinefleet.workers.storage.open import open_store
from tests.expected import Wanted, ms_of
from tests.harness import AMPLE, Fleet, running_fleet
from tests.servers import ObjectStore

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of its own; each test holds series of its own."""
    with running_fleet(tmp_path_factory.mktemp("verify"), *AMPLE) as fleet:
        yield fleet


@dataclass(frozen=True)
class Verified:
    """How a `klines verify` ended, and what it told."""

    code: int
    told: dict[str, Any]

    @property
    def names(self) -> list[tuple[str, str]]:
        """The faults, each by its partition's symbol and period, and its name."""
        return sorted(
            (Path(fault["key"]).parent.name[7:] + Path(fault["key"]).stem, fault["what"])
            for fault in self.faults
        )

    @property
    def faults(self) -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = self.told["faults"]
        return faults


def verify(fleet: Fleet, wanted: Wanted, *options: str) -> Verified:
    """Verify the series that are wanted, counting calls from here on."""
    what = ("--market", wanted.market, "--kind", wanted.kind, "--symbols", ",".join(wanted.symbols))
    fleet.forget_calls()
    done = fleet.klines("verify", "--json", *what, *options)
    assert done.returncode in (0, 1), (
        f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{fleet.log()}"
    )
    assert done.stdout, done.stderr
    return Verified(done.returncode, json.loads(done.stdout))


def assert_clean(fleet: Fleet, wanted: Wanted, *options: str) -> None:
    done = verify(fleet, wanted, *options)
    assert (done.code, done.faults, done.told["failed"]) == (0, [], {})
    assert done.told["rows"] == wanted.klines


def key_of(wanted: Wanted, symbol: str, month: str) -> str:
    return keys.partition(
        Partition(Series.parse(f"{wanted.market}/{wanted.kind}/{wanted.interval}/{symbol}"), month)
    )


def spoil(fleet: Fleet, key: str, change: Callable[[bytes], bytes]) -> None:
    """Change a partition's bytes where they lie."""
    files = open_store(fleet.store_url)
    body = files.read(key)
    assert body is not None
    files.put(key, change(body))


def proved(change: Callable[[pl.DataFrame], pl.DataFrame], key: str) -> Callable[[bytes], bytes]:
    """Change rows, and prove the others: no checksum tells it."""

    def changed(body: bytes) -> bytes:
        footer, rows = parse_footer(body), change(decode(body))
        found = keys.partition_of(key)
        assert found
        return encode(rows, replace(footer, proof=prove(found.series, rows, footer.covered)))

    return changed


def at(moment: str) -> pl.Expr:
    return pl.col("open_time").dt.timestamp("ms") == ms_of(moment)


def valued(moment: str, **values: float) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Give the row of a moment other values."""
    return lambda rows: rows.with_columns(
        pl.when(at(moment)).then(value).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def without(moment: str) -> Callable[[bytes], bytes]:
    """Lose the row of a moment; the proof knows of no gap there."""

    def changed(body: bytes) -> bytes:
        footer, rows = parse_footer(body), decode(body).filter(~at(moment))
        assert footer.proof
        assert footer.proof.gaps is not None
        series = Series.parse("um/klines/1m/ANY")
        known = prove(series, rows, footer.covered)
        return encode(rows, replace(footer, proof=replace(known, gaps=footer.proof.gaps)))

    return changed


def fetched(fleet: Fleet) -> list[tuple[str, int, int]]:
    """Return the symbol and the minutes [start, end) of each call for rows."""
    calls = [call for call in fleet.exchange.calls() if call["end"]]
    return sorted((call["symbol"], int(call["start"]), int(call["end"]) + 1) for call in calls)


def minute(moment: str, count: int = 1) -> tuple[int, int]:
    return ms_of(moment), ms_of(moment) + count * MINUTE_MS


WANTED = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-03-01", "1m")


def test_planted_faults_are_all_found_and_exactly_their_windows_are_fetched_again(
    fleet: Fleet,
) -> None:
    fleet.download(*WANTED.arguments)
    assert_clean(fleet, WANTED)
    key = key_of(WANTED, "BTCUSDT", "2024-01")
    spoil(fleet, key, proved(valued("2024-01-03T04:05", high=0.5), key))
    spoil(fleet, key, proved(lambda rows: pl.concat([rows[:100], rows[99:]]), key))
    spoil(fleet, key, proved(valued("2024-01-20T00:00", volume=-1.0), key))
    spoil(fleet, key_of(WANTED, "BTCUSDT", "2024-02"), without("2024-02-10T10:00"))
    spoil(fleet, key_of(WANTED, "ETHUSDT", "2024-02"), lambda body: body[: len(body) // 2])
    found = verify(fleet, WANTED)
    assert found.code == 1
    assert found.names == [
        ("BTCUSDT2024-01", "duplicate rows"),
        ("BTCUSDT2024-01", "high or low out of bounds"),
        ("BTCUSDT2024-01", "negative volume or count"),
        ("BTCUSDT2024-02", "gap that is not the exchange's"),
        ("ETHUSDT2024-02", "damaged file"),
    ]
    assert fetched(fleet) == []
    mended = verify(fleet, WANTED, "--repair")
    assert (mended.code, mended.faults) == (0, found.faults)
    assert len(mended.told["repair"]["mended"]) == len(found.faults)
    assert (mended.told["repair"]["left"], mended.told["repair"]["failed"]) == ([], {})
    calls = fetched(fleet)
    assert [call[1:] for call in calls if call[0] == "BTCUSDT"] == [
        minute("2024-01-01T01:39"),
        minute("2024-01-03T04:05"),
        minute("2024-01-20T00:00"),
        minute("2024-02-10T10:00"),
    ]
    of_eth = [call[1:] for call in calls if call[0] == "ETHUSDT"]
    assert (of_eth[0][0], of_eth[-1][1]) == (ms_of("2024-02-01"), ms_of("2024-03-01"))
    WANTED.assert_held(fleet)
    assert_clean(fleet, WANTED)
    kept = sorted(path.name[:7] for path in Path(fleet.store_url, "damaged").rglob("*.parquet"))
    assert kept == ["2024-01", "2024-02", "2024-02"]
    WANTED.assert_nothing_is_missing(fleet)


def test_one_process_does_the_same_without_a_redis_or_a_worker(fleet: Fleet) -> None:
    wanted = Wanted("spot", ("BTCUSDT",), "2024-01-01", "2024-01-03")
    fleet.download(*wanted.arguments)
    settings, fleet.settings = (
        fleet.settings,
        {**fleet.settings, "KLINES_REDIS_URL": "unix:///nowhere/redis.sock"},
    )
    try:
        assert_clean(fleet, wanted, "--local")
        key = key_of(wanted, "BTCUSDT", "2024-01")
        spoil(fleet, key, lambda body: body[:4] + bytes(2_000) + body[2_004:])
        done = verify(fleet, wanted, "--local")
        assert (done.code, done.names) == (1, [("BTCUSDT2024-01", "damaged file")])
        mended = verify(fleet, wanted, "--local", "--repair")
        assert (mended.code, len(mended.told["repair"]["mended"])) == (0, 1)
        wanted.assert_held(fleet)
        assert_clean(fleet, wanted, "--local")
    finally:
        fleet.settings = settings


@pytest.mark.parametrize(("against", "symbol"), [("rest", "BNBUSDT"), ("archive", "SOLUSDT")])
def test_a_changed_value_that_every_other_check_passes_is_found_against_the_source(
    fleet: Fleet, against: str, symbol: str
) -> None:
    wanted = Wanted("um", (symbol,), "2024-01-01", "2024-02-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    assert_clean(fleet, wanted, "--against", against, "--sample", "0.2")
    key = key_of(wanted, symbol, "2024-01")
    closed = (
        wanted.truth(symbol).filter(at("2024-01-09T12:00")).select("low", "high", "close").row(0)
    )
    other = closed[0] if closed[2] != closed[0] else closed[1]
    assert other != closed[2]
    spoil(fleet, key, proved(valued("2024-01-09T12:00", close=other), key))
    assert_clean(fleet, wanted)
    done = verify(fleet, wanted, "--against", against, "--sample", "1", "--seed", "7")
    assert (done.code, done.names) == (1, [(f"{symbol}2024-01", "differs from the source")])
    assert (done.told["seed"], done.told["compared"]) == (7, wanted.klines)
    (fault,) = done.faults
    assert fault["span"] == list(minute("2024-01-09T12:00", 5))
    assert f"close {other}, {against} {closed[2]}" in fault["told"]
    mended = verify(fleet, wanted, "--against", against, "--sample", "1", "--seed", "7", "--repair")
    assert mended.code == 0
    wanted.assert_held(fleet)


def test_the_same_seed_draws_the_same_days_and_at_least_one(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SIM001USDT",), "2024-01-01", "2024-03-01", "5m", "archive")
    fleet.download(*wanted.arguments)
    drawn = []
    for seed in ("1", "1", "2", "3"):
        done = verify(fleet, wanted, "--against", "archive", "--sample", "0.0001", "--seed", seed)
        assert (done.code, done.told["compared"]) == (0, 288)
        drawn.append({call["path"] for call in fleet.exchange.files()})
    assert drawn[0] == drawn[1]
    assert len({frozenset(days) for days in drawn}) > 1


def test_what_the_source_does_not_have_is_told_and_is_no_fault(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SIM002USDT",), "2024-01-01", "2024-01-04", "5m")
    fleet.download(*wanted.arguments)
    fleet.exchange.archive_faults({"absent": 1.0})
    done = verify(fleet, wanted, "--against", "archive", "--sample", "1")
    fleet.exchange.archive_faults({})
    assert (done.code, done.faults, done.told["compared"]) == (0, [], 0)
    assert len(done.told["told"]) == 3


def test_a_gap_that_the_exchange_has_itself_is_asked_for_once_and_believed(fleet: Fleet) -> None:
    """Somebody wrote a proof that knows of no gap where the exchange has one."""
    wanted = Wanted("spot", ("ETHUSDT",), "2020-12-21", "2020-12-22")
    fleet.download(*wanted.arguments)
    assert wanted.klines < 1440
    key = key_of(wanted, "ETHUSDT", "2020-12")

    def forgetful(body: bytes) -> bytes:
        footer = parse_footer(body)
        assert footer.proof
        return encode(decode(body), replace(footer, proof=replace(footer.proof, gaps=())))

    spoil(fleet, key, forgetful)
    done = verify(fleet, wanted, "--repair")
    assert done.code == 0
    assert {name for _, name in done.names} == {"gap that is not the exchange's"}
    wanted.assert_held(fleet)
    assert_clean(fleet, wanted)


def test_a_repair_that_cannot_fetch_leaves_time_missing_that_the_next_download_mends(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", ("SIM003USDT",), "2024-01-01", "2024-01-03")
    fleet.download(*wanted.arguments)
    key = key_of(wanted, "SIM003USDT", "2024-01")
    spoil(fleet, key, proved(valued("2024-01-02T00:00", low=-1.0), key))
    fleet.exchange.faults({"500": 1.0})
    done = verify(fleet, wanted, "--repair")
    fleet.exchange.faults({})
    assert (done.code, done.names) == (1, [("SIM003USDT2024-01", "price not positive")])
    assert done.told["repair"]["mended"] == []
    assert "2024-01-02" in str(done.told["repair"]["failed"])
    fleet.forget_calls()
    fleet.download(*wanted.arguments)
    assert fetched(fleet) == [("SIM003USDT", *minute("2024-01-02"))]
    wanted.assert_held(fleet)
    assert_clean(fleet, wanted)


def test_a_verification_leaves_nothing_behind_in_redis(fleet: Fleet) -> None:
    assert_clean(fleet, WANTED)
    with fleet.redis.client() as client:
        assert list(client.scan_iter("klines:job:*")) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--market", "moon"), "moon"),
        (("--kind", "trades"), "trades"),
        (("--interval", "7m"), "7m"),
        (("--start", "2024-02-01", "--end", "2024-01-01"), "not before"),
        (("--symbols", "NOSUCHUSDT"), "NOSUCHUSDT"),
        (("--against", "hearsay"), "hearsay"),
        (("--sample", "2"), "--sample"),
        (("--detach",), "--detach"),
        (("--quote", "USDT"), "--quote"),
        (("--revisions", "--repair", "--market", "um", "--all"), "--repair"),
        (("--revisions", "--all"), "--market"),
    ],
)
def test_a_verification_that_makes_no_sense_is_refused_in_one_line(
    fleet: Fleet, arguments: tuple[str, ...], word: str
) -> None:
    done = fleet.klines("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("klines: ")
    assert word in line


def test_faults_are_listed_a_line_each_for_people(fleet: Fleet) -> None:
    wanted = Wanted("um", ("SIM004USDT",), "2024-01-01", "2024-01-02")
    fleet.download(*wanted.arguments)
    key = key_of(wanted, "SIM004USDT", "2024-01")
    spoil(fleet, key, proved(valued("2024-01-01T05:00", low=-1.0), key))
    done = fleet.klines(
        "verify", "--symbols", "SIM004USDT", "--start", "2024-01-01", "--end", "2024-01-02"
    )
    assert done.returncode == 1
    fault, total = done.stdout.splitlines()
    assert fault.startswith(
        f"{key}: price not positive, 1 rows, 2024-01-01T05:00..2024-01-01T05:01: 2024-01-01T05:00 "
    )
    assert "low -1.0" in fault
    assert total == "1 partitions, 1,440 rows: 1 faults in 1 partitions"
    assert (
        fleet.klines("verify", "--symbols", "SIM004USDT", "--start", "2024-02-01").returncode == 2
    )


def test_without_a_worker_the_command_says_how_to_go_on(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of()
    done = fleet.klines("verify")
    assert done.returncode == 0, "an empty lake needs nobody"
    spoilt = Path(fleet.store_url, key_of(WANTED, "BTCUSDT", "2024-01"))
    spoilt.parent.mkdir(parents=True)
    spoilt.write_bytes(b"")
    done = fleet.klines("verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no worker serves compact" in done.stderr
    assert "--local" in done.stderr
    assert fleet.klines("verify", "--local").returncode == 1


def test_the_pieces_of_a_killed_worker_are_checked_by_another(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(*AMPLE)
    fleet.start_worker()
    wanted = Wanted("um", ("BTCUSDT",), "2023-01-01", "2023-03-01", "1h")
    fleet.download(*wanted.arguments)
    fleet.start_worker()
    command = fleet.start("verify", "--json")
    fleet.workers.pop(0).kill_tree()
    done = command.result(60)
    assert done.returncode == 0, done.stderr + fleet.log()
    assert json.loads(done.stdout)["rows"] == wanted.klines


def test_a_lake_on_s3_is_verified_and_mended_too(
    fleet_of: Callable[..., Fleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ObjectStore(tmp_path) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        fleet = fleet_of(*AMPLE, store_url="s3://lake/test")
        fleet.start_worker()
        wanted = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-01-03")
        fleet.download(*wanted.arguments)
        assert_clean(fleet, wanted)
        key = key_of(wanted, "BTCUSDT", "2024-01")
        spoil(fleet, key, proved(valued("2024-01-02T03:04", low=-1.0), key))
        spoil(fleet, key_of(wanted, "ETHUSDT", "2024-01"), lambda body: body[:-100])
        mended = verify(fleet, wanted, "--repair", "--start", "2024-01-01", "--end", "2024-01-02")
        assert (mended.code, [what for _, what in mended.names]) == (
            0,
            ["price not positive", "damaged file"],
        )
        wanted_of_btc = replace(wanted, symbols=("BTCUSDT",))
        wanted_of_btc.assert_held(fleet)
        assert_clean(fleet, wanted_of_btc)
        kept = [name for name in store.objects() if "/damaged/" in name]
        assert len(kept) == 2
