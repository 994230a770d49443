"""Dashboard, alert rules, Prometheus and Grafana files name metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from klinefleet.workers.support import metrics
from klinefleet.workers.support.metrics import Counter, Histogram
from tests.processes import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "klinefleet.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0][
    "rules"
]

#: Exposed, but nothing to look at: there is none so far.
ELSEWHERE: set[str] = set()

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)

#: For each alert, series that must set it off, `name -> values by the minute`, and a minute at
#: which they have.
FIRING: dict[str, tuple[dict[str, str], str]] = {
    "KlinesBanned": ({'klines_pool_closed_seconds{pool="spot",egress="a"}': "0 120 60"}, "1m"),
    "KlinesTooManyRequests": ({'klines_requests_total{market="um",status="429"}': "0 0 3 3"}, "3m"),
    "KlinesStalled": (
        {
            "klines_windows_in_flight": "7x20",
            'klines_windows_total{queue="archive",outcome="done"}': "9x20",
        },
        "18m",
    ),
    "KlinesWindowStuck": ({"klines_oldest_window_seconds": "3000+60x30"}, "20m"),
    "KlinesFailuresRising": (
        {
            'klines_windows_total{queue="archive",outcome="failed"}': "0 0 1 1",
            'klines_partitions_total{outcome="failed"}': "0x3",
        },
        "3m",
    ),
    "KlinesCompactionBehind": ({"klines_oldest_compaction_seconds": "900+60x20"}, "10m"),
    "KlinesExchangeClockOff": (
        {'klines_exchange_clock_offset_seconds{pool="spot",egress="a"}': "-9x20"},
        "10m",
    ),
    "KlinesOneAddress": ({'klines_shared_egress_pairs{pool="spot"}': "1x9"}, "3m"),
    "KlinesRedisGone": (
        {'klines_redis_up{instance="a"}': "1 0 0 0", 'klines_redis_up{instance="b"}': "1x3"},
        "3m",
    ),
    "KlinesOtherStore": (
        {
            'klines_store_info{instance="a",id="1",url="/data"}': "1x9",
            'klines_store_info{instance="b",id="2",url="/data"}': "1x9",
        },
        "3m",
    ),
    "KlinesQueueUnserved": (
        {'klines_queue_length{queue="archive"}': "3x9", 'klines_workers{queue="archive"}': "0x9"},
        "5m",
    ),
    "KlinesNoWorker": ({'up{job="other"}': "1x9"}, "5m"),
    "KlinesWorkerSilent": (
        {'up{job="klinefleet",instance="a"}': "0x9", 'up{job="klinefleet",instance="b"}': "1x9"},
        "5m",
    ),
}

#: A fleet at work, of which no alert may tell anything.
AT_WORK = {
    'up{job="klinefleet",instance="a"}': "1x60",
    'klines_redis_up{instance="a"}': "1x60",
    'klines_store_info{instance="a",id="1",url="s3://lake"}': "1x60",
    'klines_store_info{instance="b",id="1",url="s3://lake"}': "1x60",
    'klines_pool_closed_seconds{pool="spot",egress="a"}': "0x20 40 0x39",
    'klines_requests_total{market="um",status="200"}': "0+100x60",
    'klines_requests_total{market="um",status="429"}': "0x60",
    "klines_windows_in_flight": "200x60",
    'klines_windows_total{queue="rest.spot",outcome="done"}': "0+50x60",
    'klines_windows_total{queue="rest.spot",outcome="failed"}': "2x60",
    'klines_partitions_total{outcome="failed"}': "1x60",
    "klines_oldest_window_seconds": "300x60",
    "klines_oldest_compaction_seconds": "200x60",
    'klines_exchange_clock_offset_seconds{pool="spot",egress="a"}': "0.4x60",
    'klines_shared_egress_pairs{pool="spot"}': "0x60",
    'klines_queue_length{queue="archive"}': "30x60",
    'klines_workers{queue="archive"}': "2x60",
}


def exposed() -> dict[str, str]:
    """Return every name a metric is exposed by, with the metric's own."""
    endings = {
        metric.name: ("_bucket", "_sum", "_count") if isinstance(metric, Histogram) else ("",)
        for metric in metrics.ALL
    }
    return {name + ending: name for name, several in endings.items() for ending in several}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def named(texts: list[str]) -> set[str]:
    return {name for text in texts for name in re.findall(r"\bklines_\w+", text)}


def test_every_metric_of_the_dashboard_and_the_alerts_is_exposed() -> None:
    assert named(queries()) <= set(exposed())
    assert named([rule["expr"] for rule in RULES]) <= set(exposed())


def test_every_metric_that_is_exposed_is_looked_at() -> None:
    looked_at = {exposed()[name] for name in named([*queries(), *(rule["expr"] for rule in RULES)])}
    assert {metric.name for metric in metrics.ALL} - looked_at == ELSEWHERE


def test_what_is_written_about_metrics_names_those_that_there_are() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    assert named([page.read_text() for page in pages]) <= set(exposed())


def test_labels_that_queries_name_are_those_of_their_metric() -> None:
    labels = {
        name: {metric.name: metric for metric in metrics.ALL}[own].labels
        for name, own in exposed().items()
    }
    for text in [*queries(), *(rule["expr"] for rule in RULES)]:
        for name, chosen in re.findall(r"(klines_\w+)\{(.*?)\}", text):
            assert set(re.findall(r"(\w+)=~?\"", chosen)) <= set(labels[name]), text
        known = {label for name in named([text]) for label in labels[name]} | {"le", "instance"}
        for grouped in re.findall(r"by \((.*?)\)", text):
            assert set(grouped.split(", ")) <= known | ({"job"} if "up{" in text else set()), text


def test_counters_are_summed_and_what_every_worker_tells_alike_is_not() -> None:
    """Ten workers tell of one queue: their sum would be ten times its length."""
    fleet_wide = {metric.name for metric in metrics.ALL if not isinstance(metric, Counter)}
    for text in [*queries(), *(rule["expr"] for rule in RULES)]:
        for inside in re.findall(r"sum(?: by \(.*?\))? ?\(([^()]*)", text):
            assert not named([inside]) & fleet_wide, text


def test_each_panel_has_a_place_a_title_and_the_provisioned_source() -> None:
    source = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"]["uid"] == source["datasources"][0]["uid"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {
            source["datasources"][0]["uid"]
        }
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["alert"].startswith("Klines")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert len(rule["annotations"]["summary"]) > 20, rule["alert"]
        assert len(rule["annotations"]["description"]) > 80, rule["alert"]


def test_every_alert_is_tried() -> None:
    assert {rule["alert"] for rule in RULES} == set(FIRING)


def test_workers_are_scraped_where_containers_serve_their_metrics() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    workers = next(job for job in jobs if job["job_name"] == "klinefleet")["dns_sd_configs"][0]
    assert (workers["names"], workers["port"]) == (["worker", "compactor"], 9108)


def series(told: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in told.items()]


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_its_settings_and_rules() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))


@needs_promtool
def test_each_alert_goes_off_when_it_must_and_none_over_a_fleet_at_work(tmp_path: Path) -> None:
    calm = [
        {"expr": 'count(ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": []}
        for at in ("15m", "50m")
    ]
    tests = [
        {
            "name": "at work",
            "interval": "1m",
            "input_series": series(AT_WORK),
            "promql_expr_test": calm,
        }
    ]
    for alert, (told, at) in FIRING.items():
        query = f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
        wanted = [
            {
                "expr": query,
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
            }
        ]
        tests.append(
            {
                "name": alert,
                "interval": "1m",
                "input_series": series(told),
                "promql_expr_test": wanted,
            }
        )
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(PROMETHEUS / "alerts.yml")], "tests": tests})
    )
    promtool("test", "rules", str(path))
