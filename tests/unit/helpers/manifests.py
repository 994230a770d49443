"""The Kubernetes manifests as data: what the tests of deploy/k8s/ look at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[3] / "deploy" / "k8s"
SECRET_FILE = "components/secret-file/.env.secret"
OVERLAYS = sorted(path.name for path in (ROOT / "overlays").iterdir())
#: The oldest release that somebody may still run, and the newest whose schemas there are.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]

Document = dict[str, Any]
#: Ten times faster where the library was built with it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def kustomizations() -> list[Path]:
    """Return every kustomization there is."""
    return sorted(ROOT.rglob("kustomization.yaml"))


def manifests() -> list[Path]:
    """Return the files that hold Kubernetes objects."""
    of_kustomize = {"kustomization.yaml", "names-in-keda.yaml"}
    return sorted(path for path in ROOT.rglob("*.yaml") if path.name not in of_kustomize)


def documents(*files: Path) -> list[Document]:
    """Return the objects of these files, of all manifests where none is named."""
    return [
        doc
        for file in files or manifests()
        for doc in yaml.load_all(file.read_text(), _Loader)
        if doc
    ]


def rendered(overlay: str, tmp_path: Path) -> list[Document]:
    """Return the objects that an overlay makes, its secrets filled in from the example."""
    copy = shutil.copytree(
        ROOT, tmp_path / "k8s", ignore=shutil.ignore_patterns(".env.secret", "__pycache__")
    )
    shutil.copy(copy / "components/secret-file/env.secret.example", copy / SECRET_FILE)
    build = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    done = subprocess.run(
        [*build, str(copy / "overlays" / overlay)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, _Loader))


def check(found: list[Document], version: str) -> None:
    """Raise ValidationError where Kubernetes of this version would refuse an object.

    The autoscaler's objects are not checked.
    """
    for doc in found:
        if not doc["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(doc, version, strict=True)


def of_kind(kind: str, found: list[Document]) -> dict[str, Document]:
    """Return the objects of a kind by name."""
    return {doc["metadata"]["name"]: doc for doc in found if doc["kind"] == kind}


def workloads(found: list[Document]) -> dict[str, Document]:
    """Return what makes pods, by name."""
    return of_kind("Deployment", found) | of_kind("StatefulSet", found)


def pod(workload: Document) -> Document:
    """Return the pod that a workload makes."""
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Document) -> Document:
    """Return the one container of a workload."""
    (only,) = pod(workload)["containers"]
    return dict(only)


def lines(file: Path) -> dict[str, str]:
    """Return the names and values of a file of NAME=value lines."""
    given = (
        line.partition("=")
        for line in file.read_text().splitlines()
        if line and not line.startswith("#")
    )
    return {name: value for name, _, value in given}


def walk(value: Any) -> Iterator[Document]:
    """Yield every mapping inside an object, itself included."""
    if isinstance(value, dict):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from walk(inner)
