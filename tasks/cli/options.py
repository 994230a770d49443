"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


#: Which symbols are meant.
symbol_options = options(
    click.option("--symbols", help="Symbols, separated by commas: BTCUSDT,ETHUSDT."),
    click.option(
        "--symbols-file",
        type=click.Path(path_type=Path),
        help="A CSV with a column symbol or binance_symbol, or one symbol a line.",
    ),
    click.option("--top", type=click.IntRange(min=1), help="Only the first N symbols of the file."),
    click.option("--all", "every", is_flag=True, help="Every symbol that the market has or had."),
    click.option("--quote", help="With --all: only symbols of this quote asset, like USDT."),
    click.option(
        "--status",
        type=click.Choice(["trading", "all"]),
        default="all",
        show_default=True,
        help="With --all: which.",
    ),
    click.option(
        "--skip-unknown",
        is_flag=True,
        help="Leave out symbols that nobody knows, instead of ending.",
    ),
)
#: How the command goes about it.
run_options = options(
    click.option(
        "--local", is_flag=True, help="Start a private Redis and worker for this one command."
    ),
    click.option("--detach", is_flag=True, help="Queue the run, print its id and return."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)
