"""A partition that was copied over another's is found wherever it is read, and never merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from klinefleet.tasks.verification.pieces import VerificationPiece, verify_piece
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.faults import What
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.services import Services
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from klinefleet.workers.support.settings import Settings
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, covered, minutes
from tests.unit.helpers.partitions import KEY, held, put

NAMED = r"2024-0\d\.parquet: it is the partition um/klines/1m/BTCUSDT/2024-01, under another's name"
OTHERS = [
    Partition(MINUTES, "2024-02"),
    Partition(replace(MINUTES, symbol="ETHUSDT"), "2024-01"),
    Partition(replace(MINUTES, market=Market.SPOT), "2024-01"),
    Partition(replace(MINUTES, interval=Interval.M5), "2024-01"),
]


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    """A lake that holds an hour of January."""
    files = open_store(str(tmp_path / "store"))
    put(Partitions(files), minutes(0, 60))
    return files


def copy_to(files: ObjectStore, other: Partition) -> bytes:
    body = files.read(KEY) or b""
    files.put(keys.partition(other), body)
    return body


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_coverage_does_not_take_it_for_its_own(files: ObjectStore, other: Partition) -> None:
    copy_to(files, other)
    for _ in range(2):
        with pytest.raises(PartitionDamaged, match=NAMED):
            Coverage(files, FooterCache("", None)).covered(other.series)
    if other.series != MINUTES:
        assert covered(files, MINUTES) == [minutes(0, 60)]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_verification_names_it(tmp_path: Path, files: ObjectStore, other: Partition) -> None:
    copy_to(files, other)
    services = Services(Settings(store_url=str(tmp_path / "store")))
    found = verify_piece(services, VerificationPiece(other.series, (other.period,)))
    (fault,) = found.faults
    assert (fault.key, fault.what, fault.span) == (keys.partition(other), What.FOOTER, None)
    assert fault.detail.startswith("it is the partition um/klines/1m/BTCUSDT/2024-01, under")


@pytest.mark.parametrize("is_cached", [False, True])
def test_no_row_of_it_is_read(tmp_path: Path, files: ObjectStore, is_cached: bool) -> None:
    other = Series(Market.USD_M, MINUTES.kind, Interval.M1, "ETHUSDT")
    copy_to(files, other.partition(JANUARY_MS))
    cache = ArrowCache(tmp_path / "cache") if is_cached else False
    clock = ManualClock(minutes(0, 60).end_ms)
    lake = Reader(str(tmp_path / "store"), cache=cache, clock=clock)
    assert lake.read("um", "BTCUSDT", "1m", "2024-01-01").height == 60
    with pytest.raises(PartitionDamaged, match=NAMED):
        lake.read("um", "ETHUSDT", "1m", "2024-01-01")
    with pytest.raises(Exception, match=NAMED):
        lake.scan("um", "ETHUSDT", "1m", "2024-01-01").collect()


def test_nothing_is_merged_into_it_and_it_stays_as_it_is(files: ObjectStore) -> None:
    put(Partitions(files), minutes(60, 70))
    february = Partition(MINUTES, "2024-02")
    before = copy_to(files, february)
    with pytest.raises(PartitionDamaged, match=NAMED):
        Partitions(files).merge(february, Partitions(files).rows(JANUARY), ())
    assert files.read(keys.partition(february)) == before


def test_all_of_it_is_forgotten_and_kept_aside_and_the_true_one_stays(files: ObjectStore) -> None:
    february = Partition(MINUTES, "2024-02")
    body = copy_to(files, february)
    assert Partitions(files).forget(february) == [february.span]
    assert covered(files, MINUTES) == [minutes(0, 60)]
    assert len(held(files)) == 60
    assert Partitions(files).rows(february).is_empty()
    assert [files.read(entry.key) for entry in files.list("damaged")] == [body]
