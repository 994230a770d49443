"""How `.ci/run` treats failures: only acceptance tests are tried again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.second_try import Outcomes, why_not_again

#: What tests of the project begin with: `first(name)` is true in the run in which it is called
#: first.
HEAD = """
import os, pathlib, pytest

def first(name):
    mark = pathlib.Path(__file__).with_name(name)
    was_there = mark.exists()
    mark.touch()
    return not was_there
"""
FLAKY = "def test_flaky(): assert not first('flaky')"
BAD = "def test_bad(): assert False"
GOOD = "def test_good(): pass"
#: Ids as they come from a parameter's text, which may look like parts of an id.
ODD_IDS = ("a/b[c]", "tests/unit/test_u.py::test_good", "ü 币 [", "]", "")
ODD = f"""
@pytest.mark.parametrize("n", range({len(ODD_IDS)}), ids={ODD_IDS!r})
def test_odd(n): assert not first(f"odd {{n}}")
"""
AROUND = """
@pytest.fixture
def bad_setup(): assert not first("setup")

@pytest.fixture
def bad_teardown():
    yield
    assert not first("teardown")

def test_setup(bad_setup): pass

def test_teardown(bad_teardown): pass
"""
A, U = "tests/acceptance/test_a.py", "tests/unit/test_u.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one acceptance test and one unit test, which are good."""
    for name in (A, U):
        (tmp_path / name).parent.mkdir(parents=True)
        write(tmp_path, name, GOOD)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -q -p xdist.plugin\nfilterwarnings = error\n"
    )
    return tmp_path


def write(project: Path, name: str, *tests: str) -> None:
    (project / name).write_text("\n".join([HEAD, *tests, ""]))


def tried(project: Path, *options: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines that were printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.second_try", *options],
        cwd=project,
        env=env
        | {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def closing_lines(lines: list[str]) -> list[str]:
    """Return what each run of pytest said last, without how long it took."""
    return [
        told[1]
        for line in lines
        if (told := re.fullmatch(r"(\d+ (?:passed|failed).*) in [\d.]+s.*", line))
    ]


def test_nothing_is_run_twice_where_nothing_fails(project: Path) -> None:
    code, lines = tried(project)
    assert (code, closing_lines(lines)) == (0, ["2 passed"])
    assert lines[-1].startswith("2 passed in ")


def test_an_acceptance_test_that_passes_the_second_time_is_named_and_forgiven(
    project: Path,
) -> None:
    write(project, A, FLAKY, GOOD)
    code, lines = tried(project, "-n", "2", "--dist", "loadfile")
    assert (code, closing_lines(lines)) == (0, ["1 failed, 2 passed", "1 passed"])
    assert lines[-1] == f"{A}::test_flaky: failed, then passed"


def test_one_that_fails_twice_fails_the_run(project: Path) -> None:
    write(project, A, FLAKY, BAD)
    code, lines = tried(project)
    assert (code, closing_lines(lines)) == (1, ["2 failed, 1 passed", "1 failed, 1 passed"])
    assert lines[-2:] == [
        f"{A}::test_flaky: failed, then passed",
        f"{A}::test_bad: failed, then failed",
    ]


def test_what_an_earlier_run_has_left_is_not_taken_for_a_failure_of_this_one(project: Path) -> None:
    write(project, A, GOOD, FLAKY)
    left = project / ".pytest_cache/v/cache/lastfailed"
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps({f"{A}::test_good": True, f"{U}::test_good": True}))
    code, lines = tried(project)
    assert (code, closing_lines(lines)) == (0, ["1 failed, 2 passed", "1 passed"])


def test_a_failure_beside_the_acceptance_tests_stays_one(project: Path) -> None:
    write(project, A, FLAKY)
    write(project, U, FLAKY)
    code, lines = tried(project)
    assert (code, closing_lines(lines)) == (1, ["2 failed", "1 passed"])
    assert lines[-2:] == [f"{A}::test_flaky: failed, then passed", f"{U}::test_flaky: failed"]


def test_setup_and_teardown_count_as_the_test_and_any_id_is_found_again(project: Path) -> None:
    write(project, A, AROUND, ODD)
    code, lines = tried(project)
    told = lines[-2 - len(ODD_IDS) :]
    assert code == 0, lines
    assert closing_lines(lines)[1:] == [f"{len(told)} passed"]
    assert [line.removesuffix(": failed, then passed") for line in told[:3]] == [
        f"{A}::test_setup",
        f"{A}::test_teardown",
        f"{A}::test_odd[{ODD_IDS[0]}]",
    ]
    assert all(line.endswith(": failed, then passed") for line in told)


def test_one_that_is_skipped_the_second_time_has_not_passed(project: Path) -> None:
    write(project, A, "def test_skips():\n    assert not first('skips')\n    pytest.skip()")
    code, lines = tried(project)
    assert (code, lines[-1]) == (1, f"{A}::test_skips: failed, then skipped")


@pytest.mark.parametrize(
    ("broken", "options", "told"),
    [
        ("import nowhere", ("--continue-on-collection-errors",), f"broken, not failed: {A}"),
        ("import nowhere", ("-n", "1"), f"broken, not failed: {A}"),
        ("def test_crash(): os._exit(1)", ("-n", "1"), f"{A}::test_crash"),
        ("def test_ends(): pytest.exit('enough')", (), "pytest ended with exit code 2"),
    ],
    ids=["no import", "no import, by xdist", "a crash", "an exit"],
)
def test_what_is_broken_is_not_tried_again(
    project: Path, broken: str, options: tuple[str, ...], told: str
) -> None:
    write(project, A, FLAKY, broken)
    code, lines = tried(project, *options)
    assert code != 0
    assert lines[-1].startswith("no second try: ")
    assert told in lines[-1]
    assert len(closing_lines(lines)) <= 1


def failures(number: int, code: int = 1) -> Outcomes:
    return Outcomes(code, {f"{A}::test[{n}]": "failed" for n in range(number)})


def test_more_than_ten_acceptance_tests_that_fail_are_no_accident() -> None:
    assert why_not_again(failures(10)) == ""
    assert why_not_again(failures(11)) == "11 acceptance tests failed, more than 10 are no accident"


@pytest.mark.parametrize("code", [-9, 2, 3, 4, 5])
def test_a_run_that_was_not_all_run_is_not_tried_again(code: int) -> None:
    assert why_not_again(failures(1, code)) == f"pytest ended with exit code {code}"


def test_a_run_that_failed_without_an_acceptance_test_is_not_tried_again() -> None:
    assert why_not_again(Outcomes(1)) == "no acceptance test failed"
    assert why_not_again(Outcomes(1, {f"{U}::test": "failed"})) == "no acceptance test failed"


def test_the_same_tests_are_run_as_by_make_test() -> None:
    of_make = re.search(r"\$\(BIN\)/pytest (-n .*)", (ROOT / "Makefile").read_text())
    of_run = re.search(r"-m tests\.second_try (.*)", (ROOT / ".ci/run").read_text())
    assert of_make
    assert of_run
    assert of_run[1] == of_make[1]
