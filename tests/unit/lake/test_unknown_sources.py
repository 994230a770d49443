"""Rows of a source that only a newer version knows are read, named, and kept on merging."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.domain.series import Source, known_source, source_named
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import Answer, origins
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.integrity import check
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.answers import ASKED_MS, covering
from tests.unit.helpers.klines import JANUARY, MINUTES, covered, minutes, opens
from tests.unit.helpers.sound import rows_at

HOUR = minutes(0, 60)
ROWS = rows_at(MINUTES, opens(HOUR))
WEBSOCKET = Answer(HOUR, source_named("websocket"), ASKED_MS - 1)
KEY = keys.partition(JANUARY)


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    """A lake with an hour that came from a source of a newer version."""
    files = open_store(str(tmp_path))
    files.put(KEY, encode(ROWS, Footer().sealed(JANUARY, ROWS, [WEBSOCKET])))
    return files


def test_a_source_of_a_newer_version_keeps_its_name_and_cannot_be_asked() -> None:
    source = source_named("websocket")
    assert (str(source), source.is_witness, source.is_archive) == ("websocket", False, False)
    assert all(source.trust < known.trust for known in (Source.REST, Source.DAILY, Source.MONTHLY))
    with pytest.raises(ValueError, match="'websocket' is not a source; there are rest, daily"):
        known_source("websocket")


def test_sources_of_one_name_are_the_same_whichever_version_made_them() -> None:
    assert Source("rest", is_witness=False) == Source.REST
    assert {source_named("x"), source_named("x"), Source("x", trust=5)} == {Source("x")}
    assert source_named("daily") == known_source("daily") == Source.DAILY
    assert Source.DAILY != Source.MONTHLY
    assert Source.REST != "rest"
    assert sorted([Source.REST, Source("b"), Source.DAILY]) == [
        Source("b"),
        Source.DAILY,
        Source.REST,
    ]


def test_its_rows_are_covered_sound_and_read_and_the_report_names_it(
    tmp_path: Path, files: ObjectStore
) -> None:
    assert covered(files, MINUTES) == [HOUR]
    assert check(JANUARY, files.read(KEY) or b"").faults == []
    lake = Reader(str(tmp_path), cache=False, clock=ManualClock(HOUR.end_ms))
    assert lake.read("um", "BTCUSDT", "1m", "2024-01-01").equals(ROWS)
    assert str(lake.report).splitlines()[0].endswith(": lake (websocket)")


def test_a_merge_keeps_its_answers_and_its_name(files: ObjectStore) -> None:
    later = minutes(50, 90)
    Partitions(files).merge(JANUARY, rows_at(MINUTES, opens(later)), covering(later))
    footer = parse_footer(files.read(KEY) or b"", KEY)
    assert [(str(one.source), one.span) for one in origins(footer.answers)] == [
        ("websocket", minutes(0, 50)),
        ("monthly", later),
    ]
    assert covered(files, MINUTES) == [minutes(0, 90)]
