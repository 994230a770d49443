"""The process that runs the commands of all tests is started again after it died."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import WITHIN_S
from tests.warm_klines import WarmKlines


@pytest.fixture
def warm() -> Iterator[WarmKlines]:
    with closing(WarmKlines()) as warm:
        yield warm


def helps(warm: WarmKlines, folder: Path) -> bool:
    """Whether a command runs and says what it is there for."""
    done = warm.run(["--help"], folder=folder, env=dict(os.environ), timeout_s=60)
    return done.returncode == 0 and "download" in done.stdout


def kill(warm: WarmKlines) -> None:
    assert warm.process
    warm.process.kill()
    warm.process.wait(WITHIN_S)


def test_one_that_died_between_two_commands_is_started_again(
    warm: WarmKlines, tmp_path: Path
) -> None:
    assert helps(warm, tmp_path)
    first = warm.pid
    kill(warm)
    assert helps(warm, tmp_path)
    assert warm.pid != first


def test_one_that_dies_under_a_command_fails_that_one_alone(
    warm: WarmKlines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert helps(warm, tmp_path)
    kill(warm)
    # As if it had died only after the look whether it lives.
    with monkeypatch.context() as looked:
        looked.setattr(warm, "_start", lambda: None)
        with pytest.raises(RuntimeError, match="died"):
            helps(warm, tmp_path)
    assert helps(warm, tmp_path)
