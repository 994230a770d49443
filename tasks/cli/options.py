"""Options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from klinefleet.workers.domain.kinds.registry import KINDS

F = TypeVar("F", bound=Callable[..., Any])

#: What `--status` takes.
STATUSES = ["trading", "all"]


def combine(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds the options in their order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def market_option(**attributes: Any) -> Callable[[F], F]:
    """Return `--market`."""
    text = "Market: spot, um (USD-M futures) or cm (COIN-M futures)."
    return click.option("--market", metavar="MARKET", help=text, **attributes)


def kind_option(**attributes: Any) -> Callable[[F], F]:
    """Return `--kind`; its help lists every declared kind."""
    kinds = (f"{kind} ({kind.summary})" for kind in KINDS.values())
    text = f"Kind of rows: {', '.join(kinds)}."
    return click.option("--kind", metavar="KIND", help=text, **attributes)


def interval_option(**attributes: Any) -> Callable[[F], F]:
    """Return `--interval`."""
    text = "Candle interval: 1s (spot only), 1m, 3m … 12h, 1d, 3d, 1w or 1M."
    return click.option("--interval", metavar="INTERVAL", help=text, **attributes)


def start_option(text: str = "First open time, UTC.", **attributes: Any) -> Callable[[F], F]:
    """Return `--start`."""
    return click.option("--start", metavar="TIME", help=text, **attributes)


def end_option(text: str = "End, UTC, exclusive.", **attributes: Any) -> Callable[[F], F]:
    """Return `--end`."""
    return click.option("--end", metavar="TIME", help=text, **attributes)


symbols_option = click.option(
    "--symbols", metavar="LIST", help="Symbols, separated by commas: BTCUSDT,ETHUSDT."
)
symbols_file_option = click.option(
    "--symbols-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="CSV with a column symbol or binance_symbol, or a list with one symbol a line.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

#: Which symbols a run is about.
symbol_options = combine(
    symbols_option,
    symbols_file_option,
    click.option(
        "--top",
        metavar="N",
        type=click.IntRange(min=1),
        help="Take only the first N symbols of --symbols-file.",
    ),
    click.option("--all", is_flag=True, help="Select every symbol, delisted ones included."),
    click.option(
        "--quote", metavar="ASSET", help="With --all: only symbols with this quote asset: USDT."
    ),
    click.option(
        "--status",
        type=click.Choice(STATUSES),
        default="all",
        show_default=True,
        help="With --all: only symbols with this status.",
    ),
    click.option(
        "--skip-unknown", is_flag=True, help="Leave out unknown symbols instead of failing."
    ),
)
#: How a command runs.
run_options = combine(
    click.option(
        "--local", is_flag=True, help="Start a private Redis and workers for this command."
    ),
    click.option("--detach", is_flag=True, help="Queue the run, print its id and return."),
    json_option,
)
