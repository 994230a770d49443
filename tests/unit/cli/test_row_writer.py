"""Rows that are written: whole or not at all, in parts, in forms that say what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet
import pytest

from klinefleet.tasks.cli.output.row_writer import (
    PART_ROWS,
    Format,
    parse_format,
    read_in_parts,
    write_file,
)
from klinefleet.workers.domain.errors import FleetError, NotWritten, RequestError
from tests.unit.helpers.klines import frame, minutes, opens

ROWS = frame(opens(minutes(0, 5)))


@pytest.mark.parametrize("form", Format)
def test_no_rows_are_a_file_with_columns_and_no_rows(tmp_path: Path, form: Format) -> None:
    assert write_file([ROWS.clear()], tmp_path / "rows", form)[0] == 0
    readers = {Format.CSV: pl.read_csv, Format.PARQUET: pl.read_parquet, Format.JSON: None}
    if read := readers.get(form, pl.read_ipc):
        assert read(tmp_path / "rows").columns == ROWS.columns


@pytest.mark.parametrize("form", Format)
def test_a_failure_half_way_leaves_what_stood_there_and_nothing_beside_it(
    tmp_path: Path, form: Format
) -> None:
    def parts() -> Iterator[pl.DataFrame]:
        yield ROWS
        raise FleetError("the store went away")

    (tmp_path / "rows").write_text("before")
    with pytest.raises(FleetError, match="went away"):
        write_file(parts(), tmp_path / "rows", form)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("rows", "before")]


def test_a_full_disk_is_told_in_one_line_and_leaves_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        NotWritten, match=r"rows\.csv: No space left on device; nothing was written"
    ):
        write_file([ROWS], tmp_path / "rows.csv", Format.CSV)
    assert list(tmp_path.iterdir()) == []


def test_many_small_parts_become_row_groups_that_are_worth_reading(tmp_path: Path) -> None:
    part = frame(opens(minutes(0, 1000)))
    count = PART_ROWS // 1000 + 50
    written = write_file((part for _ in range(count)), tmp_path / "rows", Format.PARQUET)
    told = pyarrow.parquet.read_metadata(tmp_path / "rows")
    assert written == (told.num_rows, (tmp_path / "rows").stat().st_size)
    assert (told.num_rows, told.num_row_groups) == (count * 1000, 2)
    assert told.row_group(0).column(0).statistics.has_min_max


def test_a_volume_without_decimals_is_not_taken_for_a_whole_number_by_whoever_reads_it(
    tmp_path: Path,
) -> None:
    write_file([pl.DataFrame({"volume": [1.0, 1e15, 1e-8]})], tmp_path / "rows", Format.CSV)
    assert (tmp_path / "rows").read_text() == "volume\n1.0\n1000000000000000.0\n1e-8\n"


def test_moments_are_written_in_utc_whatever_their_zone(tmp_path: Path) -> None:
    zoned = ROWS.head(1).select(
        pl.col("open_time").dt.convert_time_zone("Asia/Tokyo").cast(pl.Datetime("us", "Asia/Tokyo"))
    )
    write_file([zoned], tmp_path / "rows", Format.CSV)
    assert (tmp_path / "rows").read_text() == "open_time\n2024-01-01T00:00:00.000Z\n"


def test_a_list_does_not_go_into_a_cell_of_csv(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="column several"):
        write_file([pl.DataFrame({"several": [[1, 2]]})], tmp_path / "rows", Format.CSV)


def test_parts_of_lazy_rows_begin_with_their_columns_and_keep_their_order() -> None:
    first, *parts = read_in_parts(ROWS.lazy())
    assert (first.height, first.schema) == (0, ROWS.schema)
    assert pl.concat(parts).equals(ROWS)


@pytest.mark.parametrize(
    ("target", "told", "form"),
    [
        ("-", None, Format.CSV),
        ("-", "arrow", Format.ARROW),
        ("a.PARQUET", None, Format.PARQUET),
        ("folder.d/a.csv", "csv", Format.CSV),
        ("-", "feather", None),
        ("a", None, None),
        ("a.csv.gz", None, None),
        ("a.csv", "json", None),
    ],
)
def test_the_form_is_that_of_the_ending_or_the_option_and_never_a_guess(
    target: str, told: str | None, form: Format | None
) -> None:
    if form:
        assert parse_format(target, told) is form
    else:
        with pytest.raises(RequestError):
            parse_format(target, told)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "none" / "rows.csv"):
        with pytest.raises(RequestError, match="folder"):
            write_file([ROWS], target, Format.CSV)
