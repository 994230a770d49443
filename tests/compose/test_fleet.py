"""The fleet of compose.yaml: healthy, confined, complete, and robust against restarts."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator

import pytest

from klinefleet.workers.coordination.liveness import MAX_SILENCE_S
from tests.compose.project import Project, docker, missing
from tests.expected import Wanted
from tests.processes import ask, until

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"needs containers: {missing()}"),
    pytest.mark.timeout(1200),
]

OURS = ("worker", "compactor", "beat", "flower", "exchange")
LARGEST_IMAGE_BYTES = 450_000_000
#: Held back so long, a symbol-year takes two workers about a minute.
SLOW_MS = 1500


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A fleet of two workers that is up, and gone with its volumes afterwards."""
    project = Project(tmp_path_factory.mktemp("checkout"), KLINES_SLOTS="6")
    try:
        began = time.monotonic()
        print(project.make("up", "WORKERS=2"), f"up within {time.monotonic() - began:.0f} s")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in project.store_env.items():
                patch.setenv(name, value)
            yield project
    finally:
        project.close()


@pytest.fixture(autouse=True)
def _afresh(project: Project) -> None:
    """Every test finds an exchange that answers soon and has counted nothing."""
    ask(f"{project.exchange.url}/sim/latency", "PUT", {"ms": 100})
    project.exchange.ask("DELETE", "books")
    project.exchange.ask("DELETE", "calls")


def test_every_container_is_healthy(project: Project) -> None:
    health = {one.service: one.health for one in project.containers()}
    assert health == dict.fromkeys([*OURS, "redis", "s3"], "healthy")


def test_ours_run_without_rights_on_a_file_system_they_cannot_write(project: Project) -> None:
    for service in OURS:
        for told in project.inspect(service):
            assert told["Config"]["User"] == "10001:10001"
            assert told["HostConfig"]["ReadonlyRootfs"]
            assert told["HostConfig"]["CapDrop"] == ["ALL"]
            assert told["HostConfig"]["Memory"] > 0
            assert told["HostConfig"]["NanoCpus"] > 0
    refused = project.compose(
        "exec", "-T", "worker", "sh", "-c", "id -u; touch /app/x 2>&1 || echo refused"
    )
    assert refused.split()[0] == "10001"
    assert "refused" in refused


def test_workers_take_no_port_of_the_host_and_no_name(project: Project) -> None:
    for told in project.inspect("worker"):
        assert not told["HostConfig"]["PortBindings"]
        assert told["Name"].strip("/").startswith(project.name)


def test_the_image_is_small(project: Project) -> None:
    size = int(json.loads(docker("image", "inspect", project.env["KLINES_IMAGE"]))[0]["Size"])
    assert size < LARGEST_IMAGE_BYTES, f"{size / 1e6:.0f} MB"


def test_flower_asks_for_the_password_of_env(project: Project) -> None:
    url = f"http://{project.compose('port', 'flower', '5555').strip()}/api/workers"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=60)
    refused.value.close()
    assert refused.value.code == 401
    lines = (project.folder / ".env").read_text().splitlines()
    secret = next(line.partition("=")[2] for line in lines if line.startswith("FLOWER_BASIC_AUTH="))
    request = urllib.request.Request(
        url, headers={"Authorization": f"Basic {b64encode(secret.encode()).decode()}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_a_symbol_year_through_four_workers_into_s3_equals_the_truth(project: Project) -> None:
    project.make("scale", "WORKERS=4")
    _await_workers(project, 4)
    wanted = Wanted("spot", ("BTCUSDT",), "2024-01-01", "2025-01-01")
    status = project.await_complete(project.enqueue(wanted))
    assert status["rows_gained"] == wanted.klines
    _assert_held(project, wanted)
    assert [page for page, times in project.exchange.pages().items() if times > 1] == []
    again = project.await_complete(project.enqueue(wanted))
    assert (again["requests"], again["files"], again["rows_gained"]) == (0, 0, 0)


def test_files_and_calls_of_a_futures_year_through_containers_equal_the_truth(
    project: Project,
) -> None:
    wanted = Wanted("um", ("BTCUSDT",), "2023-01-01", "2024-01-01", source="auto")
    assert project.await_complete(project.enqueue(wanted))["files"] > 0
    _assert_held(project, wanted)


def test_eight_workers_and_two_again_under_way_lose_and_double_nothing(project: Project) -> None:
    project.make("scale", "WORKERS=2")
    wanted = Wanted("spot", ("ETHUSDT", "BNBUSDT"), "2024-01-01", "2025-01-01")
    run = _under_way(project, wanted)
    project.make("scale", "WORKERS=8")
    assert len(project.containers("worker")) == 8
    _await_more(project, 100_000)
    assert project.status(run)["state"] == "running", "the run ended too soon: make it longer"
    began = time.monotonic()
    project.make("scale", "WORKERS=2")
    print(f"back to two within {time.monotonic() - began:.1f} s")
    assert len(project.containers("worker")) == 2
    assert project.status(run)["state"] == "running", "the run ended too soon: make it longer"
    _end(project, run)
    _assert_held(project, wanted)


def test_two_of_four_workers_killed_under_way_cost_no_kline(project: Project) -> None:
    project.make("scale", "WORKERS=4")
    wanted = Wanted("um", ("ETHUSDT", "SOLUSDT"), "2024-01-01", "2025-01-01")
    run = _under_way(project, wanted)
    for one in project.containers("worker")[:2]:
        docker("kill", "--signal", "KILL", one.id)
    assert len(project.containers("worker")) == 2
    assert project.status(run)["state"] == "running", "the run ended too soon: make it longer"
    _end(project, run)
    _assert_held(project, wanted)
    project.make("up", "WORKERS=2")


def test_redis_killed_under_way_costs_no_kline(project: Project) -> None:
    wanted = Wanted("spot", ("SOLUSDT",), "2024-01-01", "2025-01-01")
    run = _under_way(project, wanted)
    redis = project.containers("redis")[0].id
    docker("kill", "--signal", "KILL", redis)
    time.sleep(3)
    docker("start", redis)
    until(
        "Redis is healthy again",
        lambda: [one.health for one in project.containers("redis")] == ["healthy"],
        180,
    )
    assert project.status(run)["state"] in ("planning", "running"), (
        "the run ended too soon: make it longer"
    )
    _end(project, run)
    _assert_held(project, wanted)


def test_a_fleet_that_is_stopped_under_way_ends_in_order_and_goes_on_where_it_was(
    project: Project,
) -> None:
    wanted = Wanted("cm", ("BTCUSD_PERP",), "2024-01-01", "2025-01-01")
    run = _under_way(project, wanted)
    stopped = [one.id for one in (*project.containers("worker"), *project.containers("compactor"))]
    began = time.monotonic()
    project.compose("stop", "worker", "compactor")
    print(f"stopped within {time.monotonic() - began:.1f} s")
    codes = [told["State"]["ExitCode"] for told in json.loads(docker("inspect", *stopped))]
    assert codes == [0] * len(stopped), "a container had to be killed"
    project.make("up", "WORKERS=2")
    _end(project, run)
    _assert_held(project, wanted)


def test_a_lane_whose_loop_stands_still_turns_its_container_unhealthy(project: Project) -> None:
    compactor = project.containers("compactor")[0].id
    lane = _lane(project, "compact")
    long_ago = f"{int(MAX_SILENCE_S) + 60} seconds ago"
    docker(
        "exec",
        compactor,
        "sh",
        "-c",
        f"kill -STOP {lane}; touch -d '{long_ago}' /tmp/klinefleet-10001/alive/compact",
    )
    _await_health(project, "unhealthy")
    docker("exec", compactor, "sh", "-c", f"kill -CONT {lane}")
    _await_health(project, "healthy")


def _lane(project: Project, queue: str) -> str:
    """Return the process of the only lane of a queue, as its container numbers it."""
    served = project.compose(
        "exec", "-T", "redis", "redis-cli", "zrange", "klines:workers", "0", "-1"
    ).split()
    return next(name.split("|")[-1] for name in reversed(served) if name.startswith(f"{queue}|"))


def _under_way(project: Project, wanted: Wanted) -> str:
    """Return a run that has begun and will take a while."""
    ask(f"{project.exchange.url}/sim/latency", "PUT", {"ms": SLOW_MS})
    run = project.enqueue(wanted)
    _await_more(project, 50_000)
    return run


def _end(project: Project, run: str) -> None:
    """Have the rest of a run done soon."""
    ask(f"{project.exchange.url}/sim/latency", "PUT", {"ms": 100})
    project.await_complete(run)


def _await_more(project: Project, klines: int) -> None:
    served = project.exchange.books()["klines"] + klines
    until("klines arrive", lambda: project.exchange.books()["klines"] >= served, 240)


def _await_workers(project: Project, count: int) -> None:
    until(
        "every worker is healthy",
        lambda: [one.health for one in project.containers("worker")] == ["healthy"] * count,
        180,
    )


def _await_health(project: Project, health: str) -> None:
    until(
        f"the compactor is {health}",
        lambda: project.containers("compactor")[0].health == health,
        240,
    )


def _assert_held(project: Project, wanted: Wanted) -> None:
    wanted.assert_held(project)  # type: ignore[arg-type]
    assert project.exchange.refused(429) == project.exchange.refused(418) == 0
    assert not project.exchange.overspent()
