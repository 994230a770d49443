"""compose.yaml as it is written: what every service has to have."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from klinefleet.tasks.fleet.lanes import LANES
from tests.processes import ROOT

#: The lanes of a worker are given so long to end (Supervisor.stop), and the container longer.
CREW_STOPS_WITHIN_S = 60

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
OURS = ("bucket", "worker", "compactor", "beat", "flower", "exchange")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_limits_a_restart_and_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["logging"]["options"]["max-size"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 30
    if name == "bucket":
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    # Lanes and the clock have the image's own check.
    assert "healthcheck" in service or name in ("worker", "compactor", "beat")
    assert "container_name" not in service


@pytest.mark.parametrize("name", OURS)
def test_ours_run_one_image_without_rights_and_outlive_their_longest_task(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] == PROJECT["x-klines"]["image"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["init"]
    assert int(service["stop_grace_period"].removesuffix("s")) > CREW_STOPS_WITHIN_S


@pytest.mark.parametrize("name", ["worker", "compactor", "beat", "flower"])
def test_nothing_works_before_redis_is_healthy_and_the_bucket_is_proved(name: str) -> None:
    conditions = {on: how["condition"] for on, how in SERVICES[name]["depends_on"].items()}
    assert conditions == {"redis": "service_healthy", "bucket": "service_completed_successfully"}


def test_worker_and_compactor_serve_every_lane_once() -> None:
    served = [
        queue
        for name in ("worker", "compactor")
        for queue in SERVICES[name]["command"][-1].split(",")
    ]
    assert sorted(served) == sorted(lane.queue for lane in LANES)


def test_nothing_is_reached_from_other_machines_unless_told() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(
        re.match(r"127\.0\.0\.1:|\$\{FLOWER_ADDRESS:-127\.0\.0\.1\}:", port) for port in ports
    )
    assert "ports" not in SERVICES["worker"]


def test_every_foreign_image_is_pinned_to_a_version() -> None:
    images = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert all(re.search(r":v?\d", image) for image in images), images


def test_the_stand_in_and_the_watchers_start_only_where_asked_for() -> None:
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {"exchange": ["demo"], "prometheus": ["watch"], "grafana": ["watch"]}


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_an_argument_which_a_list_of_processes_shows(name: str) -> None:
    service = SERVICES[name]
    told = [service.get(key) for key in ("command", "entrypoint", "healthcheck")]
    # $$ is left to the container's shell, which reads it from the environment.
    assert not re.search(r"(?<!\$)\$\{?[A-Z_]*(PASSWORD|SECRET|AUTH|KEY)", str(told))


def test_redis_reads_its_password_from_stdin_and_still_drops_its_rights() -> None:
    shell, flags, script = SERVICES["redis"]["command"]
    assert (shell, flags) == ("sh", "-euc")
    # The image's own script drops root; an image without one keeps the user that it starts with.
    assert "as_redis=$$(command -v docker-entrypoint.sh || true)\nexec $$as_redis redis-" in script
    assert " - <<EOF\nrequirepass $$REDISCLI_AUTH\nEOF\n" in script
    assert "REDISCLI_AUTH" in SERVICES["redis"]["environment"]
