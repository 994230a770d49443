"""Run the tests, then once more the acceptance tests that failed, alone.

`python -m tests.second_try [pytest options]`. Acceptance tests run a dozen processes on a machine
that may be busy: one that fails once and then passes is named, but does not fail the run. Any other
failure does. This is also the pytest plugin that records the outcomes of both runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ACCEPTANCE = "tests/acceptance/"
#: With more failures than this something is broken, not flaky.
MOST_TRIED_AGAIN = 10
#: pytest's own: all passed; some failed. Every other one means that not all was run.
PASSED, FAILED = 0, 1


@dataclass
class Outcomes:
    """What came of one run of pytest."""

    code: int = FAILED
    tests: dict[str, str] = field(default_factory=dict)
    """By node id: passed, failed (also where setup or teardown did) or skipped."""
    broken: list[str] = field(default_factory=list)
    """What kept tests from running or ended them: files that do not import, processes that crashed.
    """

    @property
    def failed(self) -> list[str]:
        return [test for test, outcome in self.tests.items() if outcome == "failed"]


class Recorder:
    """Notes outcomes, and writes them to a file when the session ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = Outcomes()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when not in ("setup", "call", "teardown"):
            # What pytest-xdist reports of a test under which its process crashed.
            self._seen.broken.append(report.nodeid)
        if report.failed or (
            report.when == "call" and self._seen.tests.get(report.nodeid) != "failed"
        ):
            self._seen.tests[report.nodeid] = report.outcome
        elif report.skipped:
            self._seen.tests.setdefault(report.nodeid, "skipped")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._seen.broken.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        if error:
            self._seen.broken.append("a test process")

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps({"tests": self._seen.tests, "broken": self._seen.broken}))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", metavar="FILE", help="write what came of each test to this file")


def pytest_configure(config: pytest.Config) -> None:
    # Processes of pytest-xdist report to the one that started them.
    if (path := config.getoption("--outcomes")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)))


def run(arguments: Iterable[str]) -> Outcomes:
    """Run pytest in a process of its own and return what came of it; its output goes to ours."""
    with tempfile.TemporaryDirectory() as folder:
        # A new file each time: no earlier run can be taken for this one.
        path = Path(folder, "outcomes.json")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.second_try",
            "--outcomes",
            str(path),
            *arguments,
        ]
        code = subprocess.run(command, check=False).returncode
        return (
            Outcomes(code, **json.loads(path.read_text()))
            if path.exists()
            else Outcomes(code or FAILED)
        )


def main(arguments: list[str]) -> int:
    """Run pytest, then what may be tried again, and return the exit code."""
    first = run(arguments)
    if first.code == PASSED:
        return PASSED
    if reason := why_not_again(first):
        print(f"no second try: {reason}", flush=True)
        return first.code if first.code > 0 else FAILED
    again = [test for test in first.failed if test.startswith(ACCEPTANCE)]
    print(f"\nsecond try, alone: {', '.join(again)}", flush=True)
    second = run(["-n", "0", *again])
    for test in first.failed:
        then = f", then {second.tests.get(test, 'not run')}" if test in again else ""
        print(f"{test}: failed{then}")
    for what in second.broken:
        print(f"{what}: broken in the second try")
    stays = [test for test in first.failed if second.tests.get(test) != "passed"]
    return FAILED if stays or second.broken or second.code != PASSED else PASSED


def why_not_again(first: Outcomes) -> str:
    """Return why a second try is pointless; an empty string where it is not."""
    again = [test for test in first.failed if test.startswith(ACCEPTANCE)]
    if first.code != FAILED:
        return f"pytest ended with exit code {first.code}"
    if first.broken:
        return f"broken, not failed: {', '.join(dict.fromkeys(first.broken))}"
    if len(again) > MOST_TRIED_AGAIN:
        return f"{len(again)} acceptance tests failed, more than {MOST_TRIED_AGAIN} are no accident"
    return "" if again else "no acceptance test failed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
