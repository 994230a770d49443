"""Draws the coverage report as a PNG.

Pixels are set one by one, so that a hole of one minute is visible in a chart of nine years.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klinefleet.tasks.coverage.chart_grid import LAYERS, NOT_TRADING, SHADES, ChartGrid, Row, shade
from klinefleet.tasks.coverage.holes import Reason
from klinefleet.tasks.coverage.report import CoverageReport, SeriesReport
from klinefleet.tasks.coverage.text import share_text
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.support.optional import require_extra

if TYPE_CHECKING:
    import numpy as np

# Sizes are in pixels.
ROW_HEIGHT = 15
MAX_COLUMNS_WIDTH, MIN_COLUMNS_WIDTH = 1_120, 560
MAX_COLUMN_WIDTH, MIN_COLUMN_WIDTH = 42, 4
SYMBOLS_WIDTH, SHARES_WIDTH = 170, 70
TITLE_HEIGHT, HEADINGS_HEIGHT, LEGEND_HEIGHT = 30, 34, 22
MARGIN = 16
#: About how wide a letter is: in the page's heading, in a grid's title, in the legend.
HEADING_LETTER, TITLE_LETTER, LEGEND_LETTER = 9, 7.6, 6
#: What a legend entry takes besides its name: its box, and the space after it.
LEGEND_BOX, LEGEND_SPACE = 24, 20
#: The least width of a hole's mark.
MIN_MARK = 2
#: The height above which rows become lower, about.
MAX_HEIGHT = 60_000
#: The least height of a row that shows its symbol.
MIN_TEXT_ROW = 9
#: The number of rows above which headings stand below a grid as well.
MAX_ROWS_WITHOUT_FOOT = 30
DPI = 100

Colour = tuple[int, int, int]
#: A place, a colour and a name.
LegendEntry = tuple[int, Colour, str]
PAPER = (255, 255, 255)
TEXT, FAINT_TEXT, INCOMPLETE_TEXT = "#1c2330", "#5b6472", "#b3132a"
#: The colour of each of SHADES.
GREENS: Sequence[Colour] = (
    (22, 120, 68),
    (70, 158, 104),
    (122, 188, 138),
    (170, 213, 172),
    (205, 232, 199),
    (232, 244, 226),
)
COLOURS: dict[Reason, Colour] = {
    Reason.BEFORE_LISTING: (236, 238, 241),
    Reason.AFTER_END: (190, 196, 205),
    Reason.OUTAGE: (122, 63, 196),
    Reason.NO_CANDLE: (14, 165, 196),
    Reason.ONE_WITNESS: (58, 66, 88),
    Reason.FAILED: (214, 34, 56),
    Reason.NOT_PUBLISHED: (236, 120, 176),
    Reason.BEING_FETCHED: (48, 98, 222),
    Reason.NOT_FETCHED: (246, 178, 48),
    Reason.DAMAGED: (112, 58, 22),
}
#: Fonts by preference: those that are installed fill in letters that the first lacks.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
)


@dataclass(frozen=True)
class _Layout:
    """Where the parts of the picture are."""

    width: int
    height: int
    legend: list[list[LegendEntry]]
    grids_top: int
    row_height: int


def write_png(report: CoverageReport, grids: list[ChartGrid], path: Path) -> None:
    """Draw the report to `path`; RequestError if matplotlib is not installed."""
    require_extra("matplotlib", "--plot to a .png")
    from matplotlib import font_manager, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heading = f"Coverage of {report.store_url}, {iso(report.made_ms)[:16]} UTC"
    layout = _lay_out(heading, grids)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    with (
        rc_context({"font.family": [font for font in FONTS if font in installed]}),
        warnings.catch_warnings(),
    ):
        # Letters that no font here has are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        size = (layout.width / DPI, layout.height / DPI)
        figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        page = _Page(figure, layout.width, layout.height)
        page.text(MARGIN, MARGIN, heading, size=11, weight="bold")
        _draw_legend(page, layout.legend)
        top = layout.grids_top
        for grid in grids:
            top = _draw_grid(page, grid, top, layout.row_height)
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png")


def _lay_out(heading: str, grids: list[ChartGrid]) -> _Layout:
    rows = sum(len(grid.rows) for grid in grids)
    row_height = max(2, min(ROW_HEIGHT, (MAX_HEIGHT - len(grids) * 200) // max(1, rows)))
    widest = max(_column_width(grid) * len(grid.columns) for grid in grids)
    chart_width = SYMBOLS_WIDTH + max(widest, MIN_COLUMNS_WIDTH) + SHARES_WIDTH
    titles_width = max(int(TITLE_LETTER * len(grid.title)) for grid in grids)
    width = MARGIN + max(chart_width, titles_width, HEADING_LETTER * len(heading)) + MARGIN
    legend = _legend(width)
    grids_top = MARGIN + TITLE_HEIGHT + LEGEND_HEIGHT * len(legend) + MARGIN
    around_rows = TITLE_HEIGHT + 2 * HEADINGS_HEIGHT + MARGIN
    height = grids_top + around_rows * len(grids) + row_height * rows + MARGIN
    return _Layout(width, height, legend, grids_top, row_height)


class _Page:
    """A figure on which positions are pixels from the upper left corner."""

    def __init__(self, figure: Any, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 7.5,
        colour: str = TEXT,
        **options: Any,
    ) -> None:
        """Write a text at (x, y): its upper left corner, or what the options `ha` and `va` say."""
        options = {"va": "top", "fontsize": size, "color": colour, "parse_math": False} | options
        self._figure.text(x / self._width, 1 - y / self._height, text, **options)

    def pixels(self, x: int, y: int, pixels: np.ndarray[Any, Any]) -> None:
        """Set pixels, with the upper left one at (x, y)."""
        height, width = pixels.shape[:2]
        box = (
            x / self._width,
            1 - (y + height) / self._height,
            width / self._width,
            height / self._height,
        )
        axes = self._figure.add_axes(box)
        axes.set_axis_off()
        axes.imshow(pixels, interpolation="none", aspect="auto")


def _column_width(grid: ChartGrid) -> int:
    return max(MIN_COLUMN_WIDTH, min(MAX_COLUMN_WIDTH, MAX_COLUMNS_WIDTH // len(grid.columns)))


def _legend(width: int) -> list[list[LegendEntry]]:
    """Return the lines of the legend, as many as a page of this width needs."""
    lines: list[list[LegendEntry]] = []
    shades = [(colour, name) for colour, (_, name) in zip(GREENS, SHADES, strict=True)]
    for entries in (shades, [(COLOURS[reason], str(reason)) for reason in Reason]):
        lines.append([])
        x = MARGIN
        for colour, name in entries:
            entry_width = LEGEND_BOX + LEGEND_LETTER * len(name)
            if x + entry_width > width - MARGIN:
                lines.append([])
                x = MARGIN
            lines[-1].append((x, colour, name))
            x += entry_width + LEGEND_SPACE
    return lines


def _draw_legend(page: _Page, legend: list[list[LegendEntry]]) -> None:
    for line, entries in enumerate(legend):
        y = MARGIN + TITLE_HEIGHT + line * LEGEND_HEIGHT
        for x, colour, name in entries:
            page.pixels(x, y, _blank(12, 18, colour))
            page.text(x + LEGEND_BOX, y + 6, name, size=8, va="center_baseline")


def _draw_grid(page: _Page, grid: ChartGrid, top: int, row_height: int) -> int:
    """Draw one grid from `top` down; return where it ends."""
    page.text(MARGIN, top + 6, grid.title, size=9, weight="bold")
    left, rows_top = MARGIN + SYMBOLS_WIDTH, top + TITLE_HEIGHT + HEADINGS_HEIGHT
    column_width = _column_width(grid)
    width, height = column_width * len(grid.columns), row_height * len(grid.rows)
    pixels = _blank(height, width, PAPER)
    space = int(row_height > 3)
    for n, row in enumerate(grid.rows):
        row_top = n * row_height
        _paint_row(pixels[row_top : row_top + row_height - space], grid, row, column_width)
        if row_height >= MIN_TEXT_ROW:
            middle = rows_top + row_top + row_height / 2 - 1
            _write_row(page, row.report, left, left + width + SHARES_WIDTH, middle)
    page.pixels(left, rows_top, pixels)
    _draw_headings(page, grid, left, top + TITLE_HEIGHT)
    if len(grid.rows) > MAX_ROWS_WITHOUT_FOOT:
        _draw_headings(page, grid, left, rows_top + height)
    return rows_top + height + HEADINGS_HEIGHT + MARGIN


def _write_row(page: _Page, report: SeriesReport, left: int, right: int, middle: float) -> None:
    """Write the symbol left of the row's columns, and the share right of them."""
    colour = FAINT_TEXT if report.is_complete else INCOMPLETE_TEXT
    options: dict[str, Any] = {"ha": "right", "va": "center_baseline"}
    page.text(left - 8, middle, report.series.symbol, **options)
    page.text(right - 8, middle, share_text(report.share), colour=colour, **options)


def _draw_headings(page: _Page, grid: ChartGrid, left: int, top: int) -> None:
    """Write years over months, or days over hours, as many as there is room for."""
    width = _column_width(grid)
    every = next(n for n in (1, 2, 3, 6, 12, 24) if n * width >= 15 or n == 24)
    for heading, start, end in grid.headings():
        page.pixels(left + start * width, top + 2, _blank(28, 1, (205, 210, 217)))
        if (end - start) * width >= 6 * len(heading):
            page.text(left + start * width + 4, top + 2, heading, size=8)
        for n in range(start, end, every):
            middle, label = left + (n + 0.5) * width, grid.columns[n].label
            page.text(middle, top + 17, label, size=6.5, colour=FAINT_TEXT, ha="center")


def _paint_row(pixels: np.ndarray[Any, Any], grid: ChartGrid, row: Row, column_width: int) -> None:
    """Set one row's pixels: a shade for each column, and over it each hole where it lies."""
    for n, share in enumerate(row.shares):
        if share is not None:
            pixels[:, n * column_width : (n + 1) * column_width] = GREENS[shade(share)]
    width = column_width * len(grid.columns)
    for hole in sorted(row.report.holes, key=lambda hole: LAYERS.index(hole.reason)):
        bounds = hole.span.start_ms, hole.span.end_ms
        start, end = (round(column_width * grid.position(ms)) for ms in bounds)
        if hole.reason not in NOT_TRADING:
            start, end = min(start, width - MIN_MARK), max(end, start + MIN_MARK)
        pixels[:, start:end] = COLOURS[hole.reason]
    if column_width >= 8:
        pixels[:, column_width - 1 :: column_width] = PAPER


def _blank(height: int, width: int, colour: Colour) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.full((max(1, height), max(1, width), 3), colour, dtype=np.uint8)
