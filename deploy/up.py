"""`make up`: start the fleet of compose.yaml and wait until it is healthy.

Needs Docker and Python's own library, no .venv.

Makes .env from .env.example, with random passwords, if there is none. Then builds the image, starts
what is missing, waits until everything is healthy, and prints what runs and where to look.
WORKERS=4 starts four workers.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Everything must be healthy within this time, once images are built and pulled.
HEALTHY_WITHIN_S = 300.0
POLL_S = 1.0
#: Workers to start where WORKERS is not set and none runs yet.
WORKERS = 2
#: Last lines of the log to show of a container that does not become healthy.
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the project and its state."""

    id: str
    service: str
    state: str
    health: str | None
    exit_code: int

    @classmethod
    def from_inspect(cls, fields: dict[str, Any]) -> Container:
        """Return the container from one entry of `docker inspect`."""
        state = fields["State"]
        return cls(
            fields["Id"],
            fields["Config"]["Labels"]["com.docker.compose.service"],
            state["Status"],
            state.get("Health", {}).get("Status"),
            state["ExitCode"],
        )

    @property
    def is_well(self) -> bool:
        """Whether it is healthy, or has ended with success."""
        if self.state == "exited":
            return self.exit_code == 0
        return self.state == "running" and self.health in (None, "healthy")


def main() -> int:
    """Start the fleet, print what runs, and return the exit code."""
    try:
        compose = find_compose()
        if make_env(Path(".env.example"), Path(".env")):
            _say(
                "made .env from .env.example, with random passwords; keep it: they are stored "
                "nowhere else"
            )
        _run([*compose, "build", "worker"])
        _run([*compose, "up", "--detach", "--no-build", "--scale", f"worker={_workers(compose)}"])
        _await(compose)
    except subprocess.CalledProcessError as error:
        _show_unhealthy(containers(find_compose()))
        _say(f"{' '.join(error.cmd[:3])} … ended with {error.returncode}")
        return 1
    except (TimeoutError, FileNotFoundError) as error:
        _say(str(error))
        return 1
    _show_running(compose)
    return 0


def find_compose() -> list[str]:
    """Return this machine's command for Docker Compose; FileNotFoundError where it has none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            if (
                subprocess.run([*command, "version"], capture_output=True, check=False).returncode
                == 0
            ):
                return command
        except FileNotFoundError:
            continue
    raise FileNotFoundError(
        "Found neither `docker compose` nor `docker-compose`. Install Docker with Compose."
    )


def make_env(example: Path, env: Path) -> bool:
    """Write `env` from the example, with a secret in every empty place; False if it exists.

    Only its owner may read it.
    """
    text = re.sub(
        r"^([A-Z_]+)=$",
        lambda found: f"{found[1]}={_secret(found[1])}",
        example.read_text(),
        flags=re.M,
    )
    try:
        with os.fdopen(os.open(env, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def containers(compose: list[str]) -> list[Container]:
    """Return the project's containers, ended ones included.

    Those of one-off commands (`compose run`) are left out.
    """
    ids = subprocess.run(
        [*compose, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True
    ).stdout.split()
    if not ids:
        return []
    inspected = subprocess.run(
        ["docker", "inspect", *ids], capture_output=True, text=True, check=False
    ).stdout
    entries = json.loads(inspected or "[]")
    return [Container.from_inspect(entry) for entry in entries if not _is_one_off(entry)]


def _await(compose: list[str]) -> None:
    ends = time.monotonic() + HEALTHY_WITHIN_S
    while unhealthy := [one for one in containers(compose) if not one.is_well]:
        if time.monotonic() > ends:
            _show_unhealthy(unhealthy)
            services = ", ".join(one.service for one in unhealthy)
            raise TimeoutError(f"not healthy within {HEALTHY_WITHIN_S:.0f} s: {services}")
        time.sleep(POLL_S)


def _workers(compose: list[str]) -> int:
    running = sum(one.service == "worker" and one.state == "running" for one in containers(compose))
    return int(os.environ.get("WORKERS") or running or WORKERS)


def _show_running(compose: list[str]) -> None:
    counts = Counter(one.service for one in containers(compose) if one.state == "running")
    for service, count in sorted(counts.items()):
        print(f"{service:<12} {count} healthy")
    for service, port in (("flower", 5555), ("grafana", 3000), ("prometheus", 9090)):
        if counts[service]:
            address = subprocess.run(
                [*compose, "port", service, str(port)], capture_output=True, text=True, check=False
            )
            print(f"{service.capitalize()}: http://{address.stdout.strip()}")
    print("User and password of Flower are FLOWER_BASIC_AUTH in .env.")


def _show_unhealthy(project: list[Container]) -> None:
    for one in project:
        if not one.is_well:
            _say(f"{one.service} is {one.health or one.state}; last lines of its log:")
            subprocess.run(
                ["docker", "logs", "--tail", str(LOG_LINES), one.id],
                stdout=sys.stderr,
                check=False,
            )


def _is_one_off(fields: dict[str, Any]) -> bool:
    return str(fields["Config"]["Labels"].get("com.docker.compose.oneoff")) == "True"


def _secret(name: str) -> str:
    # Letters and digits only: the one of Redis is part of a URL.
    secret = secrets.token_hex(20)
    return f"klines:{secret}" if name == "FLOWER_BASIC_AUTH" else secret


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=sys.stderr, check=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
