"""An archive file that cannot be used is recorded once, with what answers in its place."""

from __future__ import annotations

from klinefleet.tasks.ingest.replacement import replace_file
from klinefleet.tasks.runs.records import Level
from klinefleet.workers.domain.series import Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.klines import JANUARY

FILES, BOTH = Policy(Mode.ARCHIVE, 20.0), Policy(Mode.AUTO, 0.001)
MONTH = Window(JANUARY, JANUARY.span, Source.MONTHLY)
DAY = Window(JANUARY, Span(JANUARY.span.start_ms, JANUARY.span.start_ms + DAY_MS), Source.DAILY)


def test_a_file_that_nothing_replaces_is_a_failure_and_no_report_of_what_was_done() -> None:
    replacements, (record,) = replace_file(DAY, "data/day.zip", "Restricted: 451", FILES)
    assert replacements == []
    assert (record.level, record.text, record.span) == (
        Level.FAILED,
        "Restricted: 451",
        DAY.span,
    )


def test_a_month_says_that_its_daily_files_are_fetched_and_a_day_that_rest_is_asked() -> None:
    _, (month,) = replace_file(MONTH, "data/month.zip", "ArchiveDamaged: odd", FILES)
    _, (day,) = replace_file(DAY, "data/day.zip", "ArchiveDamaged: odd", BOTH)
    assert (month.level, month.text) == (
        Level.REPORT,
        "ArchiveDamaged: odd; daily files instead",
    )
    assert (day.level, day.text) == (Level.REPORT, "ArchiveDamaged: odd; REST instead")
