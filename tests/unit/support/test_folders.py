"""This user's folders, also where the user has no home, no name or no place to write."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from klinefleet.tasks.cli.main import main
from klinefleet.workers.lake.footers.cache import footer_cache_path
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support import folders
from klinefleet.workers.support.folders import cache_folder, runtime_folder
from tests.harness import KLINES


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user with no home folder and no entry in the list of users."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_has_no_cache() -> None:
    assert cache_folder() is None
    assert footer_cache_path() is None
    cache, entry, rows = ArrowCache(), StoredObject("key", "etag", 1), pl.DataFrame({"a": [1]})
    assert cache.put("store", entry, rows) is rows
    assert not cache.has("store", entry)
    assert cache.get("store", entry) is None
    cache.make_room()


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    "command",
    [
        ["coverage"],
        ["read", "--market", "spot", "--symbols", "BTCUSDT"],
        ["read", "--sql", "SELECT 1"],
        ["catalog", "show", "--market", "spot"],
        ["status"],
        ["workers"],
    ],
    ids=" ".join,
)
def test_a_command_of_a_user_without_a_home_goes_on_without_a_cache(command: list[str]) -> None:
    done = CliRunner().invoke(main, command)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "home" not in done.output
    assert "cache" not in done.output


def test_a_home_that_cannot_be_written_has_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "klinefleet"
    monkeypatch.setattr(folders.os, "access", lambda *_: False)
    assert cache_folder() is None


def test_a_file_in_the_way_of_the_cache_is_no_place_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    assert cache_folder() is None
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "loop"))
    assert cache_folder() is None


def test_a_machine_without_a_folder_for_temporary_files_stops_no_command_that_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    assert runtime_folder().parent == Path("/tmp")
    assert "the lake holds nothing" in CliRunner().invoke(main, ["coverage"]).output


def test_a_picture_for_a_user_without_a_home_needs_no_word_of_a_library(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"} | {"HOME": "/dev/null"}
    done = subprocess.run(
        [KLINES, "coverage", "--plot", "x.png"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("klines: the lake holds nothing")
