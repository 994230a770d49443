"""A container on a big machine uses the cores it was given, not those it sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klinefleet.workers.support.machine import (
    available_cpus,
    free_memory,
    memory_limit,
    own_memory,
    peak_memory,
)

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


GIB = 1 << 30


def put(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("own", "limits", "limit"),
    [
        ("0::/\n", {"memory.max": GIB // 8}, GIB // 8),
        ("0::/a/b\n", {"a/memory.max": GIB // 4, "a/b/memory.max": GIB // 8}, GIB // 8),
        ("0::/a/b\n", {"a/memory.max": GIB // 16, "a/b/memory.max": GIB // 8}, GIB // 16),
        ("0::/a/b\n", {"memory.max": GIB // 8}, GIB // 8),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": GIB // 8}, GIB // 8),
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": GIB // 8}, GIB // 8),
    ],
)
def test_the_smallest_limit_of_all_groups_around_a_process_holds(
    tmp_path: Path, own: str, limits: dict[str, int], limit: int
) -> None:
    put(tmp_path, "own", own)
    for name, size in limits.items():
        folder, _, file = f"/{name}".rpartition("/")
        put(tmp_path / "groups" / folder.lstrip("/"), file, f"{size}\n")
    assert memory_limit(tmp_path / "groups", tmp_path / "own") == limit


def test_without_a_limit_the_machines_memory_is_it(tmp_path: Path) -> None:
    put(tmp_path, "own", "0::/\n")
    put(tmp_path / "groups", "memory.max", "max\n")
    machine = memory_limit(tmp_path / "groups", tmp_path / "own")
    assert machine == memory_limit(tmp_path / "none", tmp_path / "none")
    assert 0 < peak_memory() < machine


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        ("0::/\n", {"memory.max": GIB, "memory.current": GIB // 4}, GIB * 3 // 4),
        ("0::/a\n", {"a/memory.max": GIB, "a/memory.current": 2 * GIB}, -GIB),
        (
            "0::/a\n",
            {
                "memory.max": GIB,
                "memory.current": GIB // 2,
                "memory.stat": f"anon 5\ninactive_file {GIB // 8}\nactive_file {GIB // 8}\n",
                "a/memory.max": "max",
                "a/memory.current": GIB // 4,
            },
            GIB * 3 // 4,
        ),
        (
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": GIB,
                "memory/x/memory.usage_in_bytes": GIB // 2,
                "memory/x/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 4}\n",
            },
            GIB * 3 // 4,
        ),
        ("0::/\n", {"memory.max": "max", "memory.current": GIB}, 4 * GIB),
    ],
)
def test_what_is_free_is_the_least_of_all_groups_and_the_machine_without_pages_of_files(
    tmp_path: Path, own: str, files: dict[str, int | str], free: int
) -> None:
    put(tmp_path, "own", own)
    put(tmp_path, "meminfo", f"MemTotal: 99 kB\nMemAvailable:   {4 * GIB // 1024} kB\n")
    for name, text in files.items():
        folder, _, file = f"/{name}".rpartition("/")
        put(tmp_path / "groups" / folder.lstrip("/"), file, f"{text}\n")
    groups = tmp_path / "groups"
    for path in groups.rglob("memory.current"):
        if not path.with_name("memory.stat").exists():
            put(path.parent, "memory.stat", "anon 5\n")
    assert free_memory(groups, tmp_path / "own", tmp_path / "meminfo") == free


def test_this_process_has_memory_and_can_get_more(tmp_path: Path) -> None:
    assert 0 < own_memory() <= peak_memory()
    assert 0 < free_memory() < memory_limit()
    half = memory_limit(tmp_path / "none", tmp_path / "none") // 2
    assert free_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") == half
