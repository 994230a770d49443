"""The overlays as kustomize renders them; skipped without kubectl or kustomize."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.helpers.manifests import (
    OVERLAYS,
    VERSIONS,
    check,
    container,
    of_kind,
    pod,
    rendered,
    walk,
    workloads,
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("kubectl") or shutil.which("kustomize")),
    reason="neither kubectl nor kustomize is on the PATH",
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_to_objects_that_fit_together(overlay: str, tmp_path: Path) -> None:
    found = rendered(overlay, tmp_path)
    for version in VERSIONS:
        check(found, version)
    assert {doc["metadata"].get("namespace") for doc in found if doc["kind"] != "Namespace"} == {
        "klinefleet"
    }
    config_maps, secrets = of_kind("ConfigMap", found), of_kind("Secret", found)
    for doc in found:
        for inner in walk(doc):
            if "configMapRef" in inner:
                assert inner["configMapRef"]["name"] in config_maps
            if "configMap" in inner:
                assert inner["configMap"]["name"] in config_maps
            if "key" in inner and "secret" in str(inner.get("name")):
                assert inner["key"] in secrets[inner["name"]]["data"]
    selectors = [str(work["spec"]["selector"]) for work in workloads(found).values()]
    assert len(set(selectors)) == len(selectors), "two would fight for the same pods"
    assert "to-redis" in of_kind("NetworkPolicy", found)


def test_each_address_has_workers_on_nodes_of_its_own_and_a_name_of_its_own(tmp_path: Path) -> None:
    found = workloads(rendered("two-egresses", tmp_path))
    for name, egress in (("worker", "default"), ("worker-second", "second")):
        spec = found[name]["spec"]
        assert spec["selector"]["matchLabels"]["klinefleet/egress"] == egress
        assert spec["template"]["metadata"]["labels"]["klinefleet/egress"] == egress
        assert pod(found[name])["nodeSelector"] == {"klinefleet/egress": egress}
        named = next(env for env in container(found[name])["env"] if env["name"] == "KLINES_EGRESS")
        assert named["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['klinefleet/egress']"


def test_applying_an_autoscaled_fleet_again_does_not_set_its_size_back(tmp_path: Path) -> None:
    found = rendered("autoscaled", tmp_path)
    scaled = of_kind("ScaledObject", found)["worker"]["spec"]
    assert "replicas" not in workloads(found)[scaled["scaleTargetRef"]["name"]]["spec"]
