"""Draws the coverage report as one HTML file that needs no server, library or network."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from klinefleet.tasks.coverage.chart_grid import LAYERS, NOT_TRADING, SHADES, ChartGrid, Row, shade
from klinefleet.tasks.coverage.chart_png import COLOURS, GREENS, Colour
from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.coverage.report import CoverageReport
from klinefleet.tasks.coverage.text import counts_text, reason_text, share_text
from klinefleet.workers.domain.timestamps import iso

#: Holes of one series in the page, the longest ones: marks of more would cover each other.
MAX_HOLES = 2_000

_GREENS_ON_DARK: tuple[Colour, ...] = (
    (38, 162, 98),
    (33, 134, 82),
    (29, 110, 69),
    (26, 86, 56),
    (24, 66, 46),
    (23, 50, 38),
)
_GREYS_ON_DARK: dict[str, Colour] = {"r0": (38, 42, 50), "r1": (74, 80, 92)}

_TEMPLATE = Path(__file__).with_name("page.html")
#: The number of shades and of reasons, and the reasons of time without trading, by index.
_PALETTE = {
    "shades": len(SHADES),
    "reasons": len(Reason),
    "not_trading": [list(Reason).index(reason) for reason in NOT_TRADING],
}


def write_page(report: CoverageReport, grids: list[ChartGrid], path: Path) -> None:
    """Write the page to `path`."""
    texts = _TextTable()
    data = {"grids": [_grid_data(grid, texts) for grid in grids], "texts": texts.texts}
    parts = {
        "TITLE": html.escape(f"Coverage of {report.store_url}"),
        "MADE": f"{iso(report.made_ms)[:16]} UTC",
        "STYLE": _style(),
        "LEGEND": _legend_html(),
        "GRIDS": "".join(_grid_html(number, grid) for number, grid in enumerate(grids)),
        "DATA": _script_json(data | _PALETTE),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    path.write_text(page, encoding="utf-8")


class _TextTable:
    """Texts by number. Many holes have the same text, which the page then holds once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def _style() -> str:
    """Return the colours: a larger share is darker on a light page, brighter on a dark one."""
    light = {f"s{n}": colour for n, colour in enumerate(GREENS)}
    dark = {f"s{n}": colour for n, colour in enumerate(_GREENS_ON_DARK)}
    reasons = {f"r{n}": COLOURS[reason] for n, reason in enumerate(Reason)}
    on_light, on_dark = _variables(light | reasons), _variables(dark | _GREYS_ON_DARK)
    return f":root{{{on_light}}}@media(prefers-color-scheme:dark){{:root{{{on_dark}}}}}"


def _variables(colours: dict[str, Colour]) -> str:
    return "".join(f"--{name}:rgb{colour};".replace(" ", "") for name, colour in colours.items())


def _legend_html() -> str:
    shades = [(f"s{n}", name) for n, (_, name) in enumerate(SHADES)]
    reasons = [(f"r{n}", str(reason)) for n, reason in enumerate(Reason)]
    return "".join(f"<p>{_legend_line(entries)}</p>" for entries in (shades, reasons))


def _legend_line(entries: list[tuple[str, str]]) -> str:
    return "".join(
        f"<span><i style=background:var(--{variable})></i>{html.escape(name)}</span>"
        for variable, name in entries
    )


def _grid_html(number: int, grid: ChartGrid) -> str:
    headings, labels = list[str](), list[str]()
    for heading, start, end in grid.headings():
        headings.append(f"<b style=--n:{end - start}>{html.escape(heading)}</b>")
        labels += [
            f"<span data-n={n}>{column.label}</span>"
            for n, column in enumerate(grid.columns[start:end])
        ]
    top = f"<div class=tops>{''.join(headings)}</div><div class=labels>{''.join(labels)}</div>"
    head = f"<div class=head><a></a><div>{top}</div><em></em></div>"
    rows = "".join(_row_html(row) for row in grid.rows)
    return (
        f"<section data-grid={number} style=--columns:{len(grid.columns)}>"
        f"<h2>{html.escape(grid.title)}</h2><div class=grid>{head}{rows}</div></section>"
    )


def _row_html(row: Row) -> str:
    report = row.report
    mark = "" if report.is_complete else " class=incomplete"
    symbol, share = html.escape(report.series.symbol), share_text(report.share)
    return f"<div class=row><a>{symbol}</a><canvas></canvas><em{mark}>{share}</em></div>"


def _grid_data(grid: ChartGrid, texts: _TextTable) -> dict[str, Any]:
    return {
        "columns": [column.name for column in grid.columns],
        "rows": [_row_data(grid, row, texts) for row in grid.rows],
    }


def _row_data(grid: ChartGrid, row: Row, texts: _TextTable) -> dict[str, Any]:
    report = row.report
    by_length = sorted(report.holes, key=lambda hole: hole.span.start_ms - hole.span.end_ms)
    drawn = sorted(by_length[:MAX_HOLES], key=lambda hole: (LAYERS.index(hole.reason), hole.span))
    summary = [
        f"{report.rows:,} rows, {share_text(report.share)}",
        f"held: {report.held or 'nothing'}",
        counts_text(report),
    ]
    return {
        "summary": " · ".join(text for text in summary if text),
        "shares": [
            None if share is None else [shade(share), share_text(share)] for share in row.shares
        ],
        "holes": [_hole_data(grid, hole, texts) for hole in drawn],
    }


def _hole_data(grid: ChartGrid, hole: MissingSpan, texts: _TextTable) -> list[Any]:
    """Return [first column, last column, index of the reason, span, number of the text]."""
    columns = (round(grid.position(ms), 4) for ms in (hole.span.start_ms, hole.span.end_ms))
    reason = list(Reason).index(hole.reason)
    return [*columns, reason, str(hole.span), texts.number(reason_text(hole))]


def _script_json(data: dict[str, Any]) -> str:
    """Return JSON for a script element: no text in it can end the element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
