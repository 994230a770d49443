"""Footers of format 1 are read, with and without sources and proof, and kept on merging."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import UNRECORDED, Answer
from klinefleet.workers.lake.footers.footer import FOOTER_KEY, Footer, parse_footer
from klinefleet.workers.lake.footers.format_1 import COVERAGE_KEY, PROOF_KEY, SOURCES_KEY
from klinefleet.workers.lake.footers.proof import Proof, checksum
from klinefleet.workers.lake.integrity import check
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.open import open_store
from tests.answers import ASKED_MS, CONTENT, ETAG, covering
from tests.unit.helpers.klines import JANUARY, MINUTES, covered, frame, minutes, opens, times_of
from tests.unit.helpers.sound import rows_at

HOUR = minutes(0, 60)
ROWS = rows_at(MINUTES, [*opens(minutes(0, 20)), *opens(minutes(25, 60))])
PROOF = Proof(55, checksum(ROWS), (minutes(20, 25),), is_on_grid=True)
KEY = keys.partition(JANUARY)


def pair(span: Span) -> list[int]:
    return [span.start_ms, span.end_ms]


def metadata(
    *parts: Span, sources: list[list[object]] | None = None, proof: Proof | None = None
) -> dict[str, str]:
    """The footer as format 1 wrote it; its first versions had neither sources nor proof."""
    told = {COVERAGE_KEY: json.dumps([pair(part) for part in parts])}
    if sources is not None:
        told[SOURCES_KEY] = json.dumps(sources)
    if proof is not None:
        gaps = None if proof.gaps is None else [pair(gap) for gap in proof.gaps]
        fields = {"rows": proof.rows, "checksum": proof.checksum, "gaps": gaps}
        told[PROOF_KEY] = json.dumps(fields | {"even": proof.is_on_grid})
    return told


def partition(footer: dict[str, str], rows: pl.DataFrame = ROWS) -> bytes:
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", metadata=footer)
    return buffer.getvalue()


def test_covered_time_without_sources_is_of_an_unrecorded_one() -> None:
    footer = parse_footer(partition(metadata(minutes(0, 30), minutes(40, 60))), KEY)
    assert footer == Footer(
        (Answer(minutes(0, 30), UNRECORDED), Answer(minutes(40, 60), UNRECORDED))
    )
    assert footer.covered == [minutes(0, 30), minutes(40, 60)]


def test_sources_are_read_with_their_file_and_without_a_time_of_asking() -> None:
    told = metadata(
        HOUR,
        sources=[
            ["monthly", *pair(minutes(0, 30)), ETAG, CONTENT],
            ["rest", *pair(minutes(30, 60))],
        ],
        proof=PROOF,
    )
    assert parse_footer(partition(told), KEY) == Footer(
        (
            Answer(minutes(0, 30), Source.MONTHLY, 0, ETAG, CONTENT),
            Answer(minutes(30, 60), Source.REST),
        ),
        PROOF,
    )


def test_covered_time_that_no_source_has_is_covered_all_the_same() -> None:
    told = metadata(HOUR, sources=[["daily", *pair(minutes(20, 40)), ETAG]])
    footer = Footer.from_metadata(told)
    assert footer.covered == [HOUR]
    assert [(one.span, one.source) for one in footer.origins] == [
        (minutes(0, 20), UNRECORDED),
        (minutes(20, 40), Source.DAILY),
        (minutes(40, 60), UNRECORDED),
    ]


def test_a_source_of_time_that_is_not_covered_covers_nothing() -> None:
    told = metadata(minutes(0, 10), sources=[["daily", *pair(HOUR), ETAG, CONTENT]])
    assert Footer.from_metadata(told).covered == [minutes(0, 10)]


def test_a_source_that_this_version_does_not_know_keeps_its_name() -> None:
    told = metadata(HOUR, sources=[["websocket", *pair(HOUR)]])
    (origin,) = Footer.from_metadata(told).origins
    assert (str(origin.source), origin.source.is_witness) == ("websocket", False)


@pytest.mark.parametrize(
    "spoilt",
    [
        {COVERAGE_KEY: "[[1"},
        {COVERAGE_KEY: "5"},
        {COVERAGE_KEY: "[[1]]"},
        {SOURCES_KEY: "[5]"},
        {SOURCES_KEY: '[["daily"]]'},
        {PROOF_KEY: '{"rows": 1}'},
        {PROOF_KEY: "[1]"},
    ],
)
def test_a_spoilt_footer_is_damage_and_never_an_empty_one(spoilt: dict[str, str]) -> None:
    body = partition(metadata(HOUR, proof=PROOF) | spoilt)
    with pytest.raises(PartitionDamaged, match=r"2024-01\.parquet: its footer does not decode"):
        parse_footer(body, KEY)


@pytest.mark.parametrize("has_proof", [False, True])
def test_a_sound_partition_has_no_fault(has_proof: bool) -> None:
    body = partition(metadata(HOUR, proof=PROOF if has_proof else None))
    assert check(JANUARY, body).faults == []


def test_a_merge_keeps_what_was_covered_and_writes_the_footer_of_today(tmp_path: Path) -> None:
    files, next_hour = open_store(str(tmp_path)), minutes(60, 120)
    files.put(KEY, partition(metadata(HOUR, sources=[["rest", *pair(HOUR)]], proof=PROOF)))
    Partitions(files).merge(JANUARY, frame(opens(next_hour)), covering(next_hour))
    body = files.read(KEY) or b""
    assert covered(files, MINUTES) == [minutes(0, 120)]
    assert times_of(decode(body)) == [*times_of(ROWS), *opens(next_hour)]
    footer = parse_footer(body, KEY)
    assert footer.partition == JANUARY
    assert footer.answers == (
        Answer(HOUR, Source.REST),
        Answer(next_hour, Source.MONTHLY, ASKED_MS, ETAG, CONTENT),
    )
    assert footer.proof
    assert footer.proof.gaps == (minutes(20, 25),)
    ours = {name for name in pl.read_parquet_metadata(io.BytesIO(body)) if "klinefleet" in name}
    assert ours == {FOOTER_KEY}


def test_a_month_of_a_coarse_series_is_read_though_its_partitions_are_years_now() -> None:
    month = Partition(replace(MINUTES, interval=Interval.H1), "2024-01")
    assert parse_footer(partition(metadata(HOUR)), keys.partition(month)).covered == [HOUR]
