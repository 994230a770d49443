"""deploy/Dockerfile without a Docker engine: all files that it names exist."""

from __future__ import annotations

import importlib.util
import json
import re

from tests.processes import ROOT

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
SOURCES = [
    source
    for copied in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.M)
    for source in copied.split()[:-1]
]


def test_the_code_is_copied_from_where_it_is_and_not_by_a_link() -> None:
    assert {"workers", "tasks", "deploy/package/klinefleet/__init__.py"} <= set(SOURCES)
    for source in SOURCES:
        found = list(ROOT.glob(source))
        assert found, source
        assert not any(path.is_symlink() for path in found), (
            "a link would point to nothing in the image"
        )


def test_every_file_of_the_package_beside_its_links_is_copied_and_let_in_to_the_builder() -> None:
    package = ROOT / "deploy/package/klinefleet"
    files = {str(path.relative_to(ROOT)) for path in package.iterdir() if path.is_file()}
    assert files <= set(SOURCES)
    assert {f"!{file}" for file in files} <= set((ROOT / ".dockerignore").read_text().splitlines())


def test_the_health_check_asks_a_module_that_exists() -> None:
    command = json.loads(re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.M)[0])
    assert command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(command[2])
