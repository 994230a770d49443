"""What tests get from the machine they share: ports that no other test gets too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import ROOT, PortReservations, free_port

#: A process that reserves a port, says whether it got it, and lives until its stdin ends.
OTHER = (
    "import sys; from pathlib import Path; from tests.processes import PortReservations;"
    "print(PortReservations(Path(sys.argv[1])).reserve(int(sys.argv[2])), flush=True); "
    "sys.stdin.read()"
)
PORT = 12_345


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ports"


@pytest.fixture
def ours(path: Path) -> Iterator[PortReservations]:
    with closing(PortReservations(path)) as ours:
        yield ours


def other(path: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER, str(path), str(port)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_port_is_given_once_in_a_process(ours: PortReservations) -> None:
    assert [ours.reserve(port) for port in (PORT, PORT, PORT + 1)] == [True, False, True]


def test_a_port_that_another_process_has_is_free_again_once_that_is_killed(
    path: Path, ours: PortReservations
) -> None:
    with other(path, PORT) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        assert not ours.reserve(PORT)
        assert ours.reserve(PORT + 1)
        process.kill()
    assert ours.reserve(PORT)


def test_a_port_of_ours_is_refused_to_another_process(path: Path, ours: PortReservations) -> None:
    assert ours.reserve(PORT)
    with other(path, PORT) as process:
        assert process.stdout
        assert process.stdout.readline() == "False\n"


def test_no_port_comes_twice() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
