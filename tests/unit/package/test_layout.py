"""The shape of the house: how large a room may be, and that the lint step knows every room."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOPS = ("workers", "tasks")
MOST_FILES = 14
MOST_LINES = 350
MOST_TEST_LINES = 400


def folders() -> list[Path]:
    return sorted(
        folder
        for top in TOPS
        for folder in [ROOT / top, *(ROOT / top).rglob("*")]
        if folder.is_dir() and folder.name != "__pycache__"
    )


def modules() -> Iterator[Path]:
    for top in TOPS:
        yield from sorted((ROOT / top).rglob("*.py"))


def too_long(paths: Iterable[Path], most: int) -> dict[str, int]:
    """Return how many lines each file with more than `most` lines has."""
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in paths}
    return {name: count for name, count in lines.items() if count > most}


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_folder_has_more_files_than_can_be_taken_in_at_a_glance(folder: Path) -> None:
    assert len([entry for entry in folder.iterdir() if entry.is_file()]) <= MOST_FILES


def test_no_file_is_too_long_to_read_from_top_to_bottom() -> None:
    assert too_long(modules(), MOST_LINES) == {}
    assert too_long((ROOT / "tests").rglob("*.py"), MOST_TEST_LINES) == {}


def test_every_room_says_what_it_has_what_it_may_import_and_where_to_begin() -> None:
    for folder in folders():
        if any(folder.glob("*.py")):
            told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
            assert "Begin with" in told, folder
            assert "May import" in told, folder


def test_the_lint_step_has_a_line_for_every_room() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = {room.strip() for line in layers for room in line.split("|")}
    rooms = {
        f"{top}.{entry.stem}"
        for top in TOPS
        for entry in (ROOT / top).iterdir()
        if entry.name not in ("__init__.py", "__pycache__") and not entry.name.startswith(".")
    }
    assert listed == rooms
