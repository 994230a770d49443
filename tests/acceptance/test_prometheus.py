"""A real Prometheus scrapes a real worker: dashboard queries and alert rules work."""

from __future__ import annotations

import os
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.harness import Fleet
from tests.processes import Process, ask, free_port, until
from tests.unit.deploy.test_watching import PROMETHEUS, RULES, queries

JANUARY = ("--interval", "1m", "--start", "2024-01-01", "--end", "2024-02-01")

#: What there is nothing to see of where all goes well, or where it is over between two scrapes.
MAY_BE_UNSEEN = {
    "max by (pool, egress) (klines_pool_closed_seconds) > 0",
    "max(klines_oldest_compaction_seconds)",
}

#: What Grafana puts in place of its own variable: long enough for two scrapes a second apart.
RATE_INTERVAL = "10s"


class Watcher(Process):
    """A Prometheus with our rules and settings, but with other targets and a shorter interval."""

    def __init__(self, folder: Path, target: str) -> None:
        told = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        told["global"] = {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "1s",
        }
        told["rule_files"] = [str(PROMETHEUS / name) for name in told["rule_files"]]
        job = next(job for job in told["scrape_configs"] if job["job_name"] == "klinefleet")
        told["scrape_configs"] = [
            {"job_name": job["job_name"], "static_configs": [{"targets": [target]}]}
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/api/v1"
        options = [
            "--config.file",
            str(folder / "prometheus.yml"),
            "--storage.tsdb.path",
            str(folder / "tsdb"),
        ]
        self.spawn(
            ["prometheus", *options, f"--web.listen-address={address}"],
            dict(os.environ),
            folder / "prometheus.log",
        )
        self.began = time.time()

    def ask(self, path: str, **asked: Any) -> Any:
        return ask(f"{self.url}/{path}?{urlencode(asked)}")["data"]

    def has_scraped(self) -> bool:
        """Whether the worker has answered it, and so whether it is up itself."""
        try:
            return [target["health"] for target in self.ask("targets")["activeTargets"]] == ["up"]
        except (urllib.error.URLError, OSError):
            return False

    def seen(self, query: str) -> list[Any]:
        """Return what a query has found at any moment since the beginning."""
        query = query.replace("$__rate_interval", RATE_INTERVAL)
        found: list[Any] = self.ask(
            "query_range", query=query, start=self.began, end=time.time(), step=1
        )["result"]
        return found

    def now(self, query: str) -> float | None:
        """Return what a query finds now; None where the last scrape came to nothing."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> dict[str, str]:
        """Return the alerts that are pending or firing."""
        return {
            alert["labels"]["alertname"]: alert["state"] for alert in self.ask("alerts")["alerts"]
        }


@pytest.fixture
def watched(fleet_of: Callable[..., Fleet], tmp_path: Path) -> Iterator[tuple[Fleet, Watcher]]:
    """A fleet of one worker, and the Prometheus that scrapes it."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed (a Debian package of that name)")
    port = free_port()
    fleet = fleet_of("--latency-ms", "60", KLINES_METRICS_PORT=str(port), KLINES_SLOTS="2")
    fleet.start_worker()
    with Watcher(tmp_path, f"127.0.0.1:{port}") as watcher:
        until("the first scrape", watcher.has_scraped)
        yield fleet, watcher


def test_each_query_of_the_dashboard_finds_what_happened(watched: tuple[Fleet, Watcher]) -> None:
    fleet, watcher = watched
    fleet.exchange.faults({"500": 0.1}, seed=1)
    told = fleet.download("--market", "um", "--symbols", "BTCUSDT", *JANUARY, "--source", "rest")
    fleet.download("--market", "spot", "--symbols", "ETHUSDT", *JANUARY, "--source", "archive")
    until(
        "all rows are counted",
        lambda: watcher.now("sum(klines_rows_compacted_total)") == 2 * 44_640,
    )
    unseen = set(queries()) - MAY_BE_UNSEEN
    # A rate is there once a scrape has followed upon what happened.
    until("every query finds something", lambda: not still_unseen(unseen, watcher))
    assert told["klines"] == 44_640
    assert told["retries"] > 0
    for query, counted in {
        'sum(klines_rows_fetched_total{market="um"})': told["klines"],
        'klines_requests_total{market="um",status="500"}': told["retries"],
        'sum(klines_retries_total{source="rest",reason="ServerFault"})': told["retries"],
    }.items():
        until(
            f"{query} is {counted}",
            lambda query=query, counted=counted: watcher.now(query) == counted,
        )
    assert_rules_hold(watcher)


def still_unseen(queries: set[str], watcher: Watcher) -> set[str]:
    """Take those that find something off the queries, and return them."""
    queries -= {query for query in queries if watcher.seen(query)}
    return queries


def assert_rules_hold(watcher: Watcher) -> None:
    """Every rule of ours is evaluated without an error, and none tells of a fleet that works."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in watcher.ask("rules")["groups"] for rule in group["rules"]]

    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in RULES}
    until("all rules are evaluated", lambda: "unknown" not in {rule["health"] for rule in rules()})
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules()} == {("ok", "")}
    # One that is pending after a scrape that came too late is so until the next.
    until("no alert is pending or fires", lambda: watcher.alerts() == {})
