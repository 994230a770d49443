from __future__ import annotations

import base64
import inspect
import re
import urllib.request
from dataclasses import fields
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from klinefleet.tasks.fleet.lanes import LANES
from klinefleet.tasks.fleet.supervisor import Supervisor
from klinefleet.workers.limits.weight_waiter import MAX_WAIT_S
from klinefleet.workers.support.settings import PREFIX, Settings
from tests.unit.helpers.manifests import (
    OVERLAYS,
    ROOT,
    SECRET_FILE,
    VERSIONS,
    check,
    container,
    documents,
    kustomizations,
    lines,
    manifests,
    of_kind,
    pod,
    walk,
    workloads,
)

EXAMPLE = ROOT / "components/secret-file/env.secret.example"
#: A Redis that fails over is gone for as long, s.
FAILOVER_S = 180
#: What the autoscaler's kinds may hold, by the path of the mapping; its schemas are not among those
#: of Kubernetes.
KEDA = {
    "ScaledObject": {
        "scaleTargetRef": {"apiVersion", "kind", "name", "envSourceContainerName"},
        "": {
            *(
                "scaleTargetRef",
                "pollingInterval",
                "cooldownPeriod",
                "initialCooldownPeriod",
                "idleReplicaCount",
            ),
            *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
        },
        "advanced": {"restoreToOriginalReplicaCount", "horizontalPodAutoscalerConfig"},
        "advanced.horizontalPodAutoscalerConfig": {"name", "behavior"},
        "triggers": {
            "type",
            "name",
            "metadata",
            "authenticationRef",
            "metricType",
            "useCachedMetrics",
        },
        "triggers.metadata": {
            "address",
            "listName",
            "listLength",
            "activationListLength",
            "enableTLS",
            "databaseIndex",
        },
        "triggers.authenticationRef": {"name", "kind"},
    },
    "TriggerAuthentication": {
        "": {"secretTargetRef"},
        "secretTargetRef": {"parameter", "name", "key"},
    },
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", manifests(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_is_valid_for_kubernetes(file: Path, version: str) -> None:
    check(documents(file), version)


def test_a_misspelt_field_would_be_noticed() -> None:
    worker = workloads(documents())["worker"]
    pod(worker)["terminationGracePeriodSecond"] = 90
    with pytest.raises(kubernetes_validate.ValidationError):
        check([worker], VERSIONS[-1])


def test_the_autoscalers_kinds_hold_only_fields_that_it_knows() -> None:
    def look(value: object, path: str, known: dict[str, set[str]]) -> None:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and path in known:
                assert set(item) <= known[path], path
                for name, inner in item.items():
                    look(inner, f"{path}.{name}".strip("."), known)

    found = [doc for doc in documents() if doc["apiVersion"].startswith("keda.sh/")]
    assert {doc["kind"] for doc in found} == set(KEDA)
    for doc in found:
        assert doc["apiVersion"] == "keda.sh/v1alpha1"
        look(doc["spec"], "", KEDA[doc["kind"]])
    for trigger in of_kind("ScaledObject", found)["worker"]["spec"]["triggers"]:
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), (
            "the autoscaler takes only text"
        )


def test_kustomizations_name_files_that_exist_and_no_file_is_forgotten() -> None:
    named = set()
    for file in kustomizations():
        said = yaml.safe_load(file.read_text())
        made = [*said.get("configMapGenerator", []), *said.get("secretGenerator", [])]
        own = [
            *said.get("resources", []),
            *said.get("components", []),
            *said.get("configurations", []),
        ]
        own += [path for one in made for path in [*one.get("envs", []), *one.get("files", [])]]
        named |= {(file.parent / path).resolve() for path in own}
    named.discard(ROOT / SECRET_FILE)
    assert all(path.exists() for path in named)
    there = {
        path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    of_its_own = {*kustomizations(), EXAMPLE, ROOT / SECRET_FILE}
    assert there - of_its_own == {path for path in named if path.is_file()}
    assert {path for path in named if path.is_dir()} | {
        ROOT / "overlays" / name for name in OVERLAYS
    } == {path.parent for path in kustomizations()}


@pytest.mark.parametrize("name", workloads(documents()))
def test_no_container_may_do_more_than_it_has_to(name: str) -> None:
    workload = workloads(documents())[name]
    spec, only = pod(workload), container(workload)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0, (
        "a name in the image proves nothing to the kubelet"
    )
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, (
        "FLOWER_PORT and REDIS_PORT would be taken for settings"
    )
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", workloads(documents()))
def test_every_container_has_probes_bounds_and_an_image_that_stays(name: str) -> None:
    only = container(workloads(documents())[name])
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= only.keys()
    for of in ("requests", "limits"):
        assert only["resources"][of].keys() == {"cpu", "memory"}
    assert re.fullmatch(r"[a-z0-9./-]+:\d[\w.-]+", only["image"])
    assert {"name": "tmp", "mountPath": "/tmp"} in only["volumeMounts"], (
        "the root file system is read-only"
    )
    tmp = next(
        volume for volume in pod(workloads(documents())[name])["volumes"] if volume["name"] == "tmp"
    )
    assert tmp["emptyDir"].keys() == {"medium", "sizeLimit"}


@pytest.mark.parametrize("name", ["worker", "compactor", "beat"])
def test_lanes_are_judged_by_their_own_signs_of_life_and_not_by_one_slow_answer(name: str) -> None:
    only = container(workloads(documents())[name])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert only[probe]["exec"]["command"] == [
            "python",
            "-m",
            "klinefleet.workers.coordination.liveness",
        ]
        assert only[probe]["failureThreshold"] >= 3
    assert (
        only["startupProbe"]["periodSeconds"] * only["startupProbe"]["failureThreshold"]
        >= FAILOVER_S
    )


def test_flower_is_not_killed_while_redis_fails_over() -> None:
    probe = container(workloads(documents())["flower"])["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= FAILOVER_S


def test_flowers_probe_fails_only_where_no_page_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    python, _, program = container(workloads(documents())["flower"])["livenessProbe"]["exec"][
        "command"
    ]
    asked: list[urllib.request.Request] = []
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "me:word,you:other")
    monkeypatch.setattr(urllib.request, "urlopen", lambda page, timeout: asked.append(page))
    exec(program, {})
    assert python == "python"
    assert asked[0].full_url == "http://127.0.0.1:5555/healthcheck"
    assert base64.b64decode(asked[0].get_header("Authorization", "").split()[1]) == b"me:word"


@pytest.mark.parametrize("name", ["worker", "compactor"])
def test_a_worker_is_not_killed_before_its_crew_gives_up_on_its_lanes(name: str) -> None:
    crew_s = inspect.signature(Supervisor.stop).parameters["within_s"].default
    assert pod(workloads(documents())[name])["terminationGracePeriodSeconds"] >= crew_s + 15


def test_every_queue_is_served_by_one_deployment() -> None:
    commands = [
        container(workloads(documents())[name])["command"] for name in ("worker", "compactor")
    ]
    assert all(command[:3] == ["klines", "worker", "--queues"] for command in commands)
    served = [queue for command in commands for queue in command[3].split(",")]
    assert sorted(served) == sorted(lane.queue for lane in LANES)


def test_there_are_never_two_clocks() -> None:
    beat = workloads(documents())["beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


def test_every_setting_that_a_manifest_names_is_one() -> None:
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    named = {
        env["name"] for work in workloads(documents()).values() for env in container(work)["env"]
    }
    named |= lines(ROOT / "base/settings.env").keys() | lines(EXAMPLE).keys()
    assert {name for name in named if name.startswith(PREFIX)} <= known


def test_the_settings_of_the_config_map_are_accepted() -> None:
    assert Settings.load(lines(ROOT / "base/settings.env"), Path("no .env")).store_url.startswith(
        "s3://"
    )


def test_no_secret_is_in_a_config_map_or_in_the_repository() -> None:
    assert not lines(EXAMPLE).keys() & lines(ROOT / "base/settings.env").keys()
    assert not of_kind("Secret", documents())
    for name, value in lines(EXAMPLE).items():
        left_open = re.sub(r"redis://:|@redis:6379/0", "", value)
        assert re.fullmatch(r"[A-Z-]*", left_open), f"{name} must be filled in by whoever uses it"
    for work in workloads(documents()).values():
        for env in container(work)["env"]:
            assert env["name"] not in lines(EXAMPLE) or "valueFrom" in env


def test_the_example_has_the_keys_that_are_asked_for_and_no_other() -> None:
    asked = [
        found["secretKeyRef"]
        for doc in documents()
        for found in walk(doc)
        if "secretKeyRef" in found
    ]
    asked += [
        found
        for doc in of_kind("TriggerAuthentication", documents()).values()
        for found in walk(doc)
    ]
    asked = [found for found in asked if "key" in found]
    assert {found["name"] for found in asked} == {"klines-secrets"}
    assert {found["key"] for found in asked} == lines(EXAMPLE).keys()


def test_metrics_are_scraped_where_they_are_served() -> None:
    port = lines(ROOT / "base/settings.env")["KLINES_METRICS_PORT"]
    for name in ("worker", "compactor"):
        work = workloads(documents())[name]
        assert {"name": "metrics", "containerPort": int(port)} in container(work)["ports"]
        noted = work["spec"]["template"]["metadata"]["annotations"]
        assert noted == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": port,
            "prometheus.io/path": "/metrics",
        }


def test_nothing_may_talk_unless_it_is_said() -> None:
    policies = of_kind("NetworkPolicy", documents())
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        for way in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert way["ports"]
            assert way.get("from") or way.get("to"), policy["metadata"]["name"]


def test_the_autoscaler_counts_lists_that_are_queues_and_waits_for_the_longest_task() -> None:
    scaled = of_kind("ScaledObject", documents())["worker"]["spec"]
    lanes = {lane.queue: lane for lane in LANES}
    for trigger in scaled["triggers"]:
        takes_at_once = lanes[trigger["metadata"]["listName"]].concurrency(Settings())
        assert int(trigger["metadata"]["listLength"]) >= takes_at_once, (
            "what one takes at once needs no second"
        )
    assert [trigger["metadata"]["listName"] for trigger in scaled["triggers"]] == [
        "rest.spot",
        "rest.futures",
        "archive",
    ]
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert min(scaled["cooldownPeriod"], down["stabilizationWindowSeconds"]) >= MAX_WAIT_S
    assert scaled["minReplicaCount"] >= 1, "with none, nobody plans"
