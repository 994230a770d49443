"""The pages of `klines --help` on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from klinefleet.tasks.cli.main import main


def _commands(command: click.Command, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield names
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*names, name))


@pytest.mark.parametrize("names", list(_commands(main)), ids=" ".join)
def test_no_line_of_a_help_page_is_broken_by_a_terminal(names: tuple[str, ...]) -> None:
    page = CliRunner().invoke(main, [*names, "--help"], terminal_width=80)
    assert page.exit_code == 0
    lines = page.output.splitlines()
    assert lines[0].startswith("Usage: ")
    assert [line for line in lines if len(line) > 80] == []
