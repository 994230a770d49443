"""Names of workers: telling, the same after a restart, and never two at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from klinefleet.workers.coordination.node_names import node_name
from tests.processes import ROOT

HOST = os.uname().nodename
ASK = """
import sys, pathlib
from klinefleet.workers.coordination.node_names import node_name
print(node_name("plan", pathlib.Path(sys.argv[1])))
"""


def asked_in_another_process(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_a_worker_is_called_the_same_after_every_restart(tmp_path: Path) -> None:
    assert {asked_in_another_process(tmp_path) for _ in range(2)} == {f"plan@{HOST}"}


def test_no_two_living_workers_of_a_machine_share_a_name(tmp_path: Path) -> None:
    assert node_name("plan", tmp_path) == f"plan@{HOST}"
    assert asked_in_another_process(tmp_path) == f"plan.2@{HOST}"
    assert node_name("archive", tmp_path) == f"archive@{HOST}"


def test_without_a_folder_a_name_is_still_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert node_name("plan", tmp_path / "file") == f"plan.{os.getpid()}@{HOST}"
