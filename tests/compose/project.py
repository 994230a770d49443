"""A fleet in containers, from a copy of the checkout in which `make` is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.up import Container, find_compose
from tests.expected import Wanted
from tests.processes import ROOT, free_port, until
from tests.servers import Exchange

#: The image is built and every container healthy within this; later calls are much sooner done.
MAKE_WITHIN_S = 800.0
GIVEN_STORE = os.environ.get("AWS_ENDPOINT_URL_FOR_TESTS")
BUCKET = os.environ.get("KLINES_TEST_BUCKET", "lake")


def missing() -> str | None:
    """Return why no fleet can be started here, None where one can."""
    try:
        find_compose()
        told = subprocess.run(
            ["docker", "info"], capture_output=True, text=True, check=False, timeout=120
        )
    except FileNotFoundError as error:
        return str(error)
    return None if told.returncode == 0 else "no Docker engine answers"


class Project:
    """The fleet. Its S3 server is AWS_ENDPOINT_URL_FOR_TESTS, or else the tests' stand-in."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.name = f"klinefleet-test-{uuid.uuid4().hex[:8]}"
        self._compose = find_compose()
        _copy_checkout(folder)
        self.env = self._environment(settings)

    def make(self, *arguments: str) -> str:
        """Run `make … DEMO=1` and return what it printed; it must succeed."""
        return self._run("make", *arguments, "DEMO=1", f"COMPOSE={' '.join(self._compose)}")

    def enqueue(self, wanted: Wanted) -> str:
        """Return the id of the run that `make enqueue` began."""
        options = {
            "MARKET": wanted.market,
            "SYMBOLS": ",".join(wanted.symbols),
            "INTERVAL": wanted.interval,
        }
        options |= {"START": wanted.start, "END": wanted.end, "SOURCE": wanted.source}
        return self.make(
            "--silent", "enqueue", *(f"{name}={value}" for name, value in options.items())
        ).split()[-1]

    def status(self, run: str) -> dict[str, Any]:
        """Return how a run stands, as `klines status --json` tells it."""
        told = self.compose("exec", "-T", "flower", "klines", "status", run, "--json")
        status: dict[str, Any] = json.loads(told.splitlines()[-1])
        return status

    def await_complete(self, run: str, within_s: float = 400.0) -> dict[str, Any]:
        """Return the run's summary once it has ended, which it must have done completely."""
        until(
            "the run ends",
            lambda: self.status(run)["state"] not in ("planning", "running"),
            within_s,
        )
        status = self.status(run)
        assert status["state"] == "complete", status
        return status

    def compose(self, *arguments: str) -> str:
        return self._run(*self._compose, *arguments)

    def containers(self, service: str | None = None) -> list[Container]:
        """Return the containers of a service, or all, that run."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = (
            [Container.from_inspect(one) for one in json.loads(docker("inspect", *ids))]
            if ids
            else []
        )
        return [one for one in found if service in (None, one.service) and one.state == "running"]

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine knows of a service's containers."""
        told: list[dict[str, Any]] = json.loads(
            docker("inspect", *(one.id for one in self.containers(service)))
        )
        return told

    @property
    def exchange(self) -> Exchange:
        """The stand-in exchange's control, as other tests use it."""
        exchange = Exchange.__new__(Exchange)
        exchange.url = f"http://{self.compose('port', 'exchange', '8000').strip()}"
        return exchange

    @property
    def store_url(self) -> str:
        return f"s3://{self.env['S3_BUCKET']}"

    @property
    def store_env(self) -> dict[str, str]:
        """What a reader on this machine needs to know of the S3 server."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        url = GIVEN_STORE or f"http://{self.compose('port', 's3', '8333').strip()}"
        return {name: self.env[name] for name in names} | {"AWS_ENDPOINT_URL": url}

    def close(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        ours = ("KLINES_", "COMPOSE_", "REDIS_", "S3_", "FLOWER_", "AWS_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env |= {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_PROFILES": "demo",
            "KLINES_IMAGE": "klinefleet:test",
        }
        env |= {
            "BUILD_NETWORK": os.environ.get("BUILD_NETWORK", "host"),
            "FLOWER_PORT": str(free_port()),
        }
        env |= {"AWS_REGION": "us-east-1", "S3_BUCKET": f"{BUCKET}/{self.name}", **settings}
        store = "given" if GIVEN_STORE else "standin"
        env["COMPOSE_FILE"] = f"compose.yaml:tests/compose/{store}-store.yaml"
        if GIVEN_STORE:
            port = str(free_port())
            env |= {"FORWARD_TO": urlsplit(GIVEN_STORE).netloc, "FORWARD_PORT": port}
            env |= {
                name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            }
            return env | {"S3_ENDPOINT_URL": f"http://s3:{port}"}
        return env | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=MAKE_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, (
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout


def docker(*arguments: str) -> str:
    """Return what a `docker` command printed; it must succeed."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _copy_checkout(folder: Path) -> None:
    """Copy the files of the checkout, so that `make up` writes its .env elsewhere."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        listed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        # The package's links to `workers` and `tasks` are no files, and are copied as the links
        # they are.
        if source.is_file() or source.is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name, follow_symlinks=False)
