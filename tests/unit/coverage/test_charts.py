"""The coverage chart: every reason has its colour, and the legend is never cut off."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from klinefleet.tasks.coverage.chart_grid import LAYERS, SHADES, build_grids
from klinefleet.tasks.coverage.chart_html import write_page
from klinefleet.tasks.coverage.chart_png import COLOURS, LEGEND_LETTER, MARGIN, _legend
from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.tasks.coverage.scan import Group
from tests.unit.helpers.klines import MINUTES, minutes

HOUR = minutes(0, 60)
HOLES = [MissingSpan(minutes(n, n + 1), reason) for n, reason in enumerate(Reason)]
SERIES = SeriesReport(MINUTES, HOUR, HOUR, HOUR, 51, 60, 51, HOLES)
REPORT = CoverageReport(
    "store", HOUR.end_ms, False, [GroupReport(Group.from_series(MINUTES), HOUR, None, [], [SERIES])]
)


def test_every_reason_has_a_colour_of_its_own_and_is_drawn() -> None:
    assert set(COLOURS) == set(LAYERS) == set(Reason)
    assert len(set(COLOURS.values())) == len(Reason)


def test_the_page_defines_a_colour_for_every_hole_and_reads_all_that_are_defined(
    tmp_path: Path,
) -> None:
    write_page(REPORT, build_grids(REPORT), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    data = json.loads(re.findall(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[0])
    reasons = {reason for *_, reason, _, _ in data["grids"][0]["rows"][0]["holes"]}
    assert reasons == set(range(data["reasons"])) == set(range(len(Reason)))
    assert data["shades"] == len(SHADES)
    light = page.partition("@media(prefers-color-scheme:dark)")[0]
    assert all(f"--r{n}:rgb(" in light for n in reasons)
    assert all(f"--s{n}:rgb(" in light for n in range(len(SHADES)))
    assert "data.shades" in page
    assert "data.reasons" in page


@pytest.mark.parametrize("width", [400, 832, 2_000])
def test_the_legend_is_as_many_lines_as_the_page_is_narrow_and_lacks_nothing(width: int) -> None:
    lines = _legend(width)
    assert [name for line in lines for _, _, name in line] == [name for _, name in SHADES] + [
        str(r) for r in Reason
    ]
    assert all(
        x + 24 + LEGEND_LETTER * len(name) <= width - MARGIN
        for line in lines
        for x, _, name in line
    )
