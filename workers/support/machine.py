"""The cores and the memory that this process may use, a container's limits included."""

from __future__ import annotations

import math
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Linux control groups v2: "max 100000" or "150000 100000", processor time per period, both in µs.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
#: Where control groups are, and which one this process is in.
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: A group's limit and use in bytes: of version 2, and below `memory` of version 1.
_LIMITS_AND_USES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_STAT = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)
#: What of a group's use is pages of files, which the kernel gives back where memory is short. In
#: version 1, names that begin with `total_` count the groups below it too.
_FILE_PAGES = ("active_file", "inactive_file")
_MACHINE = Path("/proc/meminfo")
#: What this process has: pages, and the most that it had.
_OWN_PAGES, _OWN_STATE = Path("/proc/self/statm"), Path("/proc/self/status")


def available_cpus(quota: Path = _QUOTA) -> int:
    """Return the number of cores, rounded up."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        time_us, period_us = quota.read_text().split()
        if time_us == "max":
            return cpus
        return max(1, min(cpus, math.ceil(int(time_us) / int(period_us))))
    except (OSError, ValueError):
        return cpus


def memory_limit(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Return the bytes of memory: the smallest limit of this process's groups, or the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _group_limits(groups, own_groups))])


def free_memory(
    groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS, machine: Path = _MACHINE
) -> int:
    """Return the bytes that this process can still get: of its groups, and of the machine.

    Where the machine does not tell, as other systems than Linux, half of its memory.
    """
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB", machine.read_text(), re.MULTILINE)
    except OSError:
        found = None
    free = int(found[1]) * 1024 if found else memory_limit() // 2
    return min([free, *(limit - used for limit, used in _group_limits(groups, own_groups))])


def own_memory() -> int:
    """Return the bytes that this process has in memory now."""
    try:
        return int(_OWN_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory()


def _group_limits(groups: Path, own_groups: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of the groups that this process is in, from its own to the outermost."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        # In a container the groups that are seen begin with the container's own.
        folder = groups / controllers / own.lstrip("/")
        for group in (folder, *folder.parents):
            for limit, use in _LIMITS_AND_USES:
                try:
                    yield int((group / limit).read_text()), _used(group, use)
                except (OSError, ValueError):  # no such group, or "max"
                    continue
            if group == groups:
                break


def _used(group: Path, use: str) -> int:
    """Return the bytes that a group uses and cannot give back; 0 where it does not tell."""
    try:
        used, lines = int((group / use).read_text()), (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return 0
    told = {name: int(pages) for name, pages in _STAT.findall(lines)}
    return max(0, used - sum(told.get(f"total_{name}", told.get(name, 0)) for name in _FILE_PAGES))


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory.

    Linux tells it in two ways: what `getrusage` tells, a process has from the one that started it.
    """
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", _OWN_STATE.read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
