"""The picture of coverage as a PNG: pixels are set one by one, so that a hole of a minute is seen
in nine years.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klinefleet.tasks.coverage.chart_grid import LAYERS, NEVER, SHADES, ChartGrid, Row, shade
from klinefleet.tasks.coverage.holes import Reason
from klinefleet.tasks.coverage.report import CoverageReport
from klinefleet.tasks.coverage.text import share_text
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.support.optional import require_extra

if TYPE_CHECKING:
    import numpy as np


#: Pixels of a row, of the columns together at most, and of one column at most and at least.
ROW, WIDTH, WIDEST, NARROWEST = 15, 1_120, 42, 4
#: What stands beside, above and between: names, shares, headings, title, a line of the legend, the
#: page's edge.
NAMES, SHARES, HEADINGS, TITLE, LEGEND, EDGE = 170, 70, 34, 30, 22, 16
#: About how wide a letter is: of the page's heading, of a grid's title, in the legend.
LETTER_OF_HEADING, LETTER_OF_TITLE, LETTER = 9, 7.6, 6
#: The least width of a hole's mark.
LEAST_MARK = 2
#: The highest picture; rows become narrower beyond, and lose their names where those cannot be
#: read.
HIGHEST, READABLE = 60_000, 9
#: From so many rows on the headings stand below as well.
MANY = 30
DPI = 100

Colour = tuple[int, int, int]
PAPER, INK, FAINT = (255, 255, 255), "#1c2330", "#5b6472"
#: A shade for each of SHADES, and a colour for each reason.
GREENS: Sequence[Colour] = (
    (22, 120, 68), (70, 158, 104), (122, 188, 138), (170, 213, 172), (205, 232, 199), (232, 244, 226)
)  # fmt: skip
COLOURS: dict[Reason, Colour] = {
    Reason.BEFORE_LISTING: (236, 238, 241),
    Reason.AFTER_END: (190, 196, 205),
    Reason.OUTAGE: (122, 63, 196),
    Reason.NO_CANDLE: (14, 165, 196),
    Reason.FAILED: (214, 34, 56),
    Reason.NOT_PUBLISHED: (236, 120, 176),
    Reason.BEING_FETCHED: (48, 98, 222),
    Reason.NOT_FETCHED: (246, 178, 48),
    Reason.DAMAGED: (112, 58, 22),
}
#: Fonts for symbols in letters that the first does not have, where one is installed.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
)


def write_png(report: CoverageReport, grids: list[ChartGrid], path: Path) -> None:
    """Draw the report to `path`; RequestError without matplotlib."""
    require_extra("matplotlib", "--plot to a .png")
    from matplotlib import font_manager, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sum(len(grid.rows) for grid in grids)
    row = max(2, min(ROW, (HIGHEST - len(grids) * 200) // max(1, rows)))
    sizes = [_column(grid) for grid in grids]
    inner = max(max(size * len(grid.columns) for size, grid in zip(sizes, grids, strict=True)), 560)
    heading = f"Coverage of {report.store_url}, {iso(report.made_ms)[:16]} UTC"
    written = max(
        LETTER_OF_HEADING * len(heading),
        *(int(LETTER_OF_TITLE * len(grid.title)) for grid in grids),
    )
    width = EDGE + max(NAMES + inner + SHARES, written) + EDGE
    legend = _legend(width)
    grids_top = EDGE + TITLE + LEGEND * len(legend) + EDGE
    height = (
        grids_top + sum(TITLE + 2 * HEADINGS + row * len(grid.rows) + EDGE for grid in grids) + EDGE
    )
    installed = {font.name for font in font_manager.fontManager.ttflist}
    with (
        rc_context({"font.family": [font for font in FONTS if font in installed]}),
        warnings.catch_warnings(),
    ):
        # A symbol in letters that no font here has is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        page = _Page(figure, width, height)
        page.text(EDGE, EDGE, heading, size=11, weight="bold")
        for line, entries in enumerate(legend):
            for x, colour, name in entries:
                y = EDGE + TITLE + line * LEGEND
                page.pixels(x, y, _blank(12, 18, colour))
                page.text(x + 24, y + 6, name, size=8, va="center_baseline")
        top = grids_top
        for size, grid in zip(sizes, grids, strict=True):
            top = _draw(page, grid, top, size, row)
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png")


class _Page:
    """A figure that is measured in pixels from its upper left corner."""

    def __init__(self, figure: Any, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def text(
        self, x: float, y: float, text: str, *, size: float = 7.5, colour: str = INK, **options: Any
    ) -> None:
        """Write a text whose upper left corner (or middle, by `ha` and `va`) is at (x, y)."""
        options = {"va": "top", "fontsize": size, "color": colour, "parse_math": False} | options
        self._figure.text(x / self._width, 1 - y / self._height, text, **options)

    def pixels(self, x: int, y: int, pixels: np.ndarray[Any, Any]) -> None:
        """Set pixels, one of the picture's for each."""
        high, wide = pixels.shape[:2]
        box = (
            x / self._width,
            1 - (y + high) / self._height,
            wide / self._width,
            high / self._height,
        )
        axes = self._figure.add_axes(box)
        axes.set_axis_off()
        axes.imshow(pixels, interpolation="none", aspect="auto")


def _column(grid: ChartGrid) -> int:
    """Return the pixels of one column."""
    return max(NARROWEST, min(WIDEST, WIDTH // len(grid.columns)))


def _legend(width: int) -> list[list[tuple[int, Colour, str]]]:
    """Return the legend's lines, as many as a page of this width needs: of each entry its place,
    colour and name.
    """
    lines: list[list[tuple[int, Colour, str]]] = []
    shades = [(colour, name) for colour, (_, name) in zip(GREENS, SHADES, strict=True)]
    for entries in (shades, [(COLOURS[reason], str(reason)) for reason in Reason]):
        lines.append([])
        x = EDGE
        for colour, name in entries:
            wide = 24 + LETTER * len(name)
            if x + wide > width - EDGE:
                lines.append([])
                x = EDGE
            lines[-1].append((x, colour, name))
            x += wide + 20
    return lines


def _draw(page: _Page, grid: ChartGrid, top: int, size: int, row: int) -> int:
    """Draw one grid from `top` down; returns where it ends."""
    page.text(EDGE, top + 6, grid.title, size=9, weight="bold")
    left, rows_top = EDGE + NAMES, top + TITLE + HEADINGS
    wide, high = size * len(grid.columns), row * len(grid.rows)
    pixels = _blank(high, wide, PAPER)
    for n, one in enumerate(grid.rows):
        _paint(pixels[n * row : n * row + row - (row > 3)], grid, one, size)
        if row >= READABLE:
            middle = rows_top + n * row + row / 2 - 1
            page.text(left - 8, middle, one.report.series.symbol, ha="right", va="center_baseline")
            lacks = "#b3132a" if one.report.is_lacking else FAINT
            share = share_text(one.report.share)
            page.text(
                left + wide + SHARES - 8,
                middle,
                share,
                ha="right",
                va="center_baseline",
                colour=lacks,
            )
    page.pixels(left, rows_top, pixels)
    _headings(page, grid, left, top + TITLE, size)
    if len(grid.rows) > MANY:
        _headings(page, grid, left, rows_top + high, size)
    return rows_top + high + HEADINGS + EDGE


def _headings(page: _Page, grid: ChartGrid, left: int, top: int, size: int) -> None:
    """Write years over months, or days over hours, as many as there is room for."""
    every = next(n for n in (1, 2, 3, 6, 12, 24) if n * size >= 15 or n == 24)
    for heading, start, end in grid.headings():
        page.pixels(left + start * size, top + 2, _blank(28, 1, (205, 210, 217)))
        if (end - start) * size >= 6 * len(heading):
            page.text(left + start * size + 4, top + 2, heading, size=8)
        for n in range(start, end):
            if (n - start) % every == 0:
                label = grid.columns[n].label
                page.text(
                    left + (n + 0.5) * size, top + 17, label, size=6.5, colour=FAINT, ha="center"
                )


def _paint(pixels: np.ndarray[Any, Any], grid: ChartGrid, row: Row, size: int) -> None:
    """Set one row's pixels: a shade for each column, and over it each hole where it lies, two
    pixels wide at least.
    """
    for n, share in enumerate(row.shares):
        if share is not None:
            pixels[:, n * size : (n + 1) * size] = GREENS[shade(share)]
    wide = size * len(grid.columns)
    for hole in sorted(row.report.holes, key=lambda hole: LAYERS.index(hole.reason)):
        start, end = (round(size * grid.place(ms)) for ms in (hole.span.start_ms, hole.span.end_ms))
        if hole.reason not in NEVER:
            start, end = min(start, wide - LEAST_MARK), max(end, start + LEAST_MARK)
        pixels[:, start:end] = COLOURS[hole.reason]
    if size >= 8:
        pixels[:, size - 1 :: size] = PAPER


def _blank(high: int, wide: int, colour: Colour) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.full((max(1, high), max(1, wide), 3), colour, dtype=np.uint8)
