"""The picture of coverage as one HTML file that needs nothing else: no server, no library, no
network.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from klinefleet.tasks.coverage.chart_grid import LAYERS, NEVER, SHADES, ChartGrid, Row, shade
from klinefleet.tasks.coverage.chart_png import COLOURS, GREENS, Colour
from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.coverage.report import CoverageReport
from klinefleet.tasks.coverage.text import counts_text, share_text
from klinefleet.workers.domain.timestamps import iso

#: Holes of one series that the page holds, the longest; beyond, marks lie on one another.
MOST_HOLES = 2_000

_GREENS_ON_DARK: tuple[Colour, ...] = (
    (38, 162, 98), (33, 134, 82), (29, 110, 69), (26, 86, 56), (24, 66, 46), (23, 50, 38)
)  # fmt: skip
_GREYS_ON_DARK: dict[str, Colour] = {"r0": (38, 42, 50), "r1": (74, 80, 92)}

_TEMPLATE = Path(__file__).with_name("page.html")
#: How many colours the page has, and which of them are of time in which there was nothing to be
#: had.
_COUNTS = {
    "shades": len(SHADES),
    "reasons": len(Reason),
    "never": [list(Reason).index(reason) for reason in NEVER],
}


def write_page(report: CoverageReport, grids: list[ChartGrid], path: Path) -> None:
    """Write the page to `path`."""
    told: list[str] = []
    parts = {
        "TITLE": html.escape(f"Coverage of {report.store_url}"),
        "MADE": f"{iso(report.made_ms)[:16]} UTC",
        "STYLE": _style(),
        "LEGEND": "".join(_legend()),
        "GRIDS": "".join(_grid(number, grid) for number, grid in enumerate(grids)),
        "DATA": _script({"grids": [_data(grid, told) for grid in grids], "told": told} | _COUNTS),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    path.write_text(page, encoding="utf-8")


def _style() -> str:
    """Return the colours: on a light page more is darker, on a dark one brighter."""
    light = {f"s{n}": colour for n, colour in enumerate(GREENS)}
    dark = {f"s{n}": colour for n, colour in enumerate(_GREENS_ON_DARK)}
    reasons = {f"r{n}": COLOURS[reason] for n, reason in enumerate(Reason)}
    bright, dim = _variables(light | reasons), _variables(dark | _GREYS_ON_DARK)
    return f":root{{{bright}}}@media(prefers-color-scheme:dark){{:root{{{dim}}}}}"


def _variables(colours: dict[str, Colour]) -> str:
    return "".join(f"--{name}:rgb{colour};".replace(" ", "") for name, colour in colours.items())


def _legend() -> list[str]:
    shades = [(f"s{n}", name) for n, (_, name) in enumerate(SHADES)]
    reasons = [(f"r{n}", str(reason)) for n, reason in enumerate(Reason)]
    return [
        f"<p>{''.join(f'<span><i style=background:var(--{v})></i>{html.escape(name)}</span>' for v, name in line)}</p>"
        for line in (shades, reasons)
    ]


def _grid(number: int, grid: ChartGrid) -> str:
    headings = "".join(
        f"<b style=--n:{end - start}>{html.escape(name)}</b>"
        for name, start, end in grid.headings()
    )
    labels = "".join(
        f"<span data-n={n}>{grid.columns[start + n].label}</span>"
        for _, start, end in grid.headings()
        for n in range(end - start)
    )
    rows = "".join(
        f"<div class=row><a>{html.escape(row.report.series.symbol)}</a><canvas></canvas>"
        f"<em{' class=lacks' if row.report.is_lacking else ''}>{share_text(row.report.share)}</em></div>"
        for row in grid.rows
    )
    head = f"<div class=tops>{headings}</div><div class=labels>{labels}</div>"
    return (
        f"<section data-grid={number} "
        f"style=--columns:{len(grid.columns)}><h2>{html.escape(grid.title)}</h2>"
        "<div class=grid><div "
        f"class=head><a></a><div>{head}</div><em></em></div>{rows}</div></section>"
    )


def _data(grid: ChartGrid, told: list[str]) -> dict[str, Any]:
    known: dict[str, int] = {text: n for n, text in enumerate(told)}

    def number(text: str) -> int:
        if text not in known:
            known[text] = len(told)
            told.append(text)
        return known[text]

    def row(one: Row) -> dict[str, Any]:
        report = one.report
        longest = sorted(report.holes, key=lambda hole: hole.span.start_ms - hole.span.end_ms)[
            :MOST_HOLES
        ]
        drawn = sorted(longest, key=lambda hole: (LAYERS.index(hole.reason), hole.span))
        about = [
            f"{report.rows:,} rows, {share_text(report.share)}",
            f"held: {report.held or 'nothing'}",
            counts_text(report),
        ]
        return {
            "about": " · ".join(text for text in about if text),
            "shares": [
                None if share is None else [shade(share), share_text(share)] for share in one.shares
            ],
            "holes": [_hole(grid, hole, number) for hole in drawn],
        }

    return {
        "columns": [column.name for column in grid.columns],
        "rows": [row(one) for one in grid.rows],
    }


def _hole(grid: ChartGrid, hole: MissingSpan, number: Any) -> list[Any]:
    """Return a hole as [from column, to column, reason, from, to, number of what is told]."""
    text = (
        str(hole.reason)
        + (f" ({hole.told})" if hole.told else "")
        + (f"; again: {hole.again}" if hole.again else "")
    )
    places = (round(grid.place(ms), 4) for ms in (hole.span.start_ms, hole.span.end_ms))
    return [*places, list(Reason).index(hole.reason), str(hole.span), number(text)]


def _script(data: dict[str, Any]) -> str:
    """Return JSON that may stand in a page: no text in it can end the script."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
