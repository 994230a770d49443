"""The README and the pages of deploy/docs: links, paths, commands and options in them exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from klinefleet.tasks.cli.main import main
from tests.processes import ROOT

PAGES = [ROOT / "README.md", ROOT / "deploy/README.md", *(ROOT / "deploy/docs").glob("*.md")]
#: A front page: more belongs in deploy/docs.
MOST_LINES = 220

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def lines_of_code(page: Path) -> list[str]:
    """Return the lines of the page's code partitions that name no language, without comments."""
    partitions = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = (
        line
        for language, partition in partitions
        if not language
        for line in partition.splitlines()
    )
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_a_front_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_every_path_of_the_repository_that_is_named_exists(page: Path) -> None:
    for path in re.findall(r"`((?:workers|tasks|deploy|tests)/[\w./-]+)", page.read_text()):
        assert "NAME" in path or (ROOT / path).exists(), path


@every_page
def test_every_klines_command_and_its_options_exist(page: Path) -> None:
    typed = (line.removeprefix(".venv/bin/") for line in lines_of_code(page))
    for line in typed:
        if line.startswith("klines "):
            command: click.Command = main
            words = shlex.split(re.split(r" [|>] ", line)[0])[1:]
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            command.make_context(line, words)


@every_page
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)(?=[ `\n])", "\n".join(lines_of_code(page)))) <= targets
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets
