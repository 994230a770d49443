"""A Redis of one's own: a real server that is gone with the command, in a folder of its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.workers.coordination import private_redis as product
from klinefleet.workers.coordination.heartbeat import live_workers
from klinefleet.workers.coordination.leases import Leases, are_leased
from klinefleet.workers.coordination.private_redis import (
    is_reachable,
    is_shared_reachable,
    private_redis,
    shared_redis,
    shared_url,
)
from klinefleet.workers.domain.errors import SettingsError
from tests.processes import ROOT, until
from tests.unit.helpers.leases import let_pass


def folder_of(url: str) -> Path:
    return Path(url.removeprefix("unix://")).parent


def client(url: str) -> Redis:
    return Redis.from_url(url)


def test_a_private_server_is_real_and_gone_with_its_folder() -> None:
    with private_redis() as url:
        with client(url) as redis:
            assert int(redis.info("server")["process_id"]) > 0
            assert redis.eval("return redis.call('PING')", 0)
            assert redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert redis.config_get("port")["port"] == "0"
        folder = folder_of(url)
        assert is_reachable(url)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700
    assert not is_reachable(url)
    assert not folder.exists()


@pytest.mark.parametrize("error", [RuntimeError, PermissionError])
@pytest.mark.parametrize("name", ["", "own"])
def test_a_private_server_is_gone_though_the_command_fails(
    tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error), private_redis(tmp_path / name if name else None) as url:
        raise error
    assert not is_reachable(url)
    assert folder_of(url).exists() == bool(name)


def test_two_private_servers_know_nothing_of_each_other() -> None:
    with (
        private_redis() as one,
        private_redis() as other,
        client(one) as mine,
        client(other) as theirs,
    ):
        mine.set("key", "mine")
        assert one != other
        assert theirs.get("key") is None


def test_a_child_whose_parent_went_before_the_kernel_was_told_ends_as_well() -> None:
    script = (
        "import os, time\n"
        "from klinefleet.workers.coordination.private_redis import die_with_parent\n"
        "parent = os.getpid()\n"
        "if not os.fork():\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    print('orphan', flush=True); die_with_parent(parent); print('goes on', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("orphan\n", "")


def test_a_private_server_is_gone_with_a_command_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from klinefleet.workers.coordination.private_redis import private_redis\n"
        "with private_redis(Path(sys.argv[1])) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "own")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert is_reachable(url)
        process.kill()
    until("the server is gone", lambda: not is_reachable(url))


def test_a_shared_server_that_runs_is_used_and_left_running() -> None:
    with shared_redis() as url:
        assert url == shared_url()
        with client(url) as redis:
            redis.set("key", "mine")
            with shared_redis() as same, client(same) as second:
                assert same == url
                assert second.get("key") == b"mine"
            assert redis.ping()
    assert not is_reachable(url)


def test_a_shared_server_belongs_to_its_user_alone(tmp_path: Path) -> None:
    with shared_redis() as url:
        assert folder_of(url) == tmp_path / f"klinefleet-{os.getuid()}"
        assert stat.S_IMODE(folder_of(url).stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_server_in_a_folder_that_others_may_enter_is_not_asked(mode: int) -> None:
    with shared_redis() as url:
        folder_of(url).chmod(mode)
        with pytest.raises(
            SettingsError, match=rf"not asked: .* open to other users \(mode {mode:o}"
        ):
            is_shared_reachable()
        with pytest.raises(SettingsError, match="not asked"), shared_redis():
            pass
        folder_of(url).chmod(0o700)
        assert is_shared_reachable()


def test_a_server_of_another_user_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with shared_redis() as url:
        user, folder = os.getuid(), folder_of(url)
        theirs = folder.with_name(f"klinefleet-{user + 1}")
        folder.rename(theirs)
        try:
            monkeypatch.setattr(os, "getuid", lambda: user + 1)
            told = f"belongs to the user {user}, not to this one \\({user + 1}\\)"
            with pytest.raises(SettingsError, match=told):
                is_shared_reachable()
        finally:
            monkeypatch.undo()
            theirs.rename(folder)


def test_a_socket_that_others_may_use_is_not_asked() -> None:
    with shared_redis() as url:
        (folder_of(url) / "redis.sock").chmod(0o777)
        with pytest.raises(SettingsError, match=r"redis\.sock is open to other users \(mode 777\)"):
            is_shared_reachable()


def test_no_server_is_started_in_a_folder_that_is_not_this_user_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"klinefleet-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")
    with pytest.raises(SettingsError, match="is a link; remove it"), shared_redis():
        pass
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="open to other users"), shared_redis():
        pass
    folder.chmod(0o755)  # as earlier versions left it
    with shared_redis() as url:
        assert stat.S_IMODE(folder_of(url).stat().st_mode) == 0o700


def test_a_machine_without_a_place_for_a_server_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    told = r"no folder for a private Redis .*XDG_RUNTIME_DIR"
    with pytest.raises(SettingsError, match=told), shared_redis():
        pass

    def none_usable(**_: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", none_usable)
    with pytest.raises(SettingsError, match=r"none is writable.*TMPDIR"), private_redis():
        pass


def test_the_socket_a_killed_server_left_behind_is_no_hindrance() -> None:
    with shared_redis() as url:
        pass
    socket = Path(url.removeprefix("unix://"))
    socket.write_text("left over")
    with shared_redis() as again:
        assert is_reachable(again)


def test_a_machine_without_a_server_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(product.importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(SettingsError, match=r"install redis-server .* or set KLINES_REDIS_URL"),
        private_redis(),
    ):
        pass


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\necho starting\necho out of cheese >&2\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setattr(product, "server_binary", lambda: str(binary))
    with pytest.raises(SettingsError, match="did not start: out of cheese"), private_redis():
        pass


NO_URLS = ["no url at all", ""]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock", *NO_URLS])
def test_what_does_not_answer_is_told_as_such(url: str) -> None:
    assert not is_reachable(url)


def test_the_leases_of_a_killed_process_are_free_once_they_have_lapsed(
    redis_url: str, redis: Redis
) -> None:
    script = (
        "import sys\n"
        "from redis import Redis\n"
        "from klinefleet.workers.coordination.heartbeat import Heartbeat\n"
        "from klinefleet.workers.coordination.leases import Leases\n"
        "redis = Redis.from_url(sys.argv[1])\n"
        "leases = Leases(redis, ttl_ms=60_000)\n"
        "Heartbeat(redis, leases, serves='plan', interval_s=0.1).start()\n"
        "with leases.hold('work') as got:\n"
        "    print(got is not None, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, redis_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        until("it lives", lambda: live_workers(redis) == ["plan"])
        with Leases(redis).hold("work") as mine:
            assert not mine
        process.kill()
        process.wait()
    assert (are_leased(redis, ["work"]), live_workers(redis)) == ([True], ["plan"])
    let_pass(redis, 60_000)
    assert (are_leased(redis, ["work"]), live_workers(redis)) == ([False], [])
    with Leases(redis).hold("work") as mine:
        assert mine
