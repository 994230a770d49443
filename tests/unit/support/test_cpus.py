"""A container on a big machine uses the cores it was given, not those it sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klinefleet.workers.support.cpus import available_cpus

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota_text", "wanted"),
    [
        ("max 100000", MINE),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("6400000 100000", MINE),
        ("nonsense", MINE),
    ],
)
def test_a_quota_counts_where_there_is_one(tmp_path: Path, quota_text: str, wanted: int) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(quota_text)
    assert available_cpus(quota) == wanted


def test_a_machine_without_quotas_gives_all_its_cores(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none") == MINE
