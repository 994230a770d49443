"""What `import klinefleet` does to the process that imports it: nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import klinefleet

#: Modules that nothing which only reads a lake may load.
HEAVY = (
    "celery",
    "kombu",
    "flower",
    "redis",
    "requests",
    "click",
    "rich",
    "structlog",
    "prometheus_client",
)


def python(code: str, folder: Path) -> str:
    """Return what a new interpreter prints that runs `code` in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_but_itself(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import klinefleet; "
        "print(sorted(set(sys.modules) - before))"
    )
    loaded = python(code, tmp_path)
    assert "klinefleet" in loaded
    assert "polars" not in loaded
    assert "klinefleet.workers" not in loaded


def test_a_reader_loads_no_celery_and_no_exchange(tmp_path: Path) -> None:
    code = (
        "import json, sys, klinefleet; klinefleet.Reader('lake'); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(python(code, tmp_path))
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []
    assert [
        name
        for name in loaded
        if name.startswith(("klinefleet.tasks", "klinefleet.workers.binance"))
    ] == []


def test_what_users_have_in_their_folder_is_never_taken_for_ours(tmp_path: Path) -> None:
    for name in ("tasks", "workers", "deploy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the user\\'s own file')")
    python("import klinefleet.tasks.notebook; klinefleet.Reader('lake')", tmp_path)


def test_another_celery_app_stays_the_current_one_and_keeps_its_transport_and_logging(
    tmp_path: Path,
) -> None:
    python(
        "import celery\n"
        "from celery import current_app, signals\n"
        "from kombu.transport import TRANSPORT_ALIASES\n"
        "mine, before = celery.Celery('mine'), dict(TRANSPORT_ALIASES)\n"
        "import klinefleet.tasks.plan, klinefleet.tasks.fetch, klinefleet.tasks.notebook\n"
        "assert current_app.main == 'mine', current_app.main\n"
        "assert {name: TRANSPORT_ALIASES[name] for name in before} == before\n"
        "assert not signals.setup_logging.receivers\n"
        "assert not signals.task_prerun.receivers\n",
        tmp_path,
    )


@pytest.mark.parametrize("name", klinefleet.__all__)
def test_every_name_that_is_promised_is_there(name: str) -> None:
    assert getattr(klinefleet, name).__name__ == name
    assert name in dir(klinefleet)


def test_a_name_that_is_not_promised_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'klinefleet' has no attribute 'nothing'"):
        klinefleet.nothing  # noqa: B018
