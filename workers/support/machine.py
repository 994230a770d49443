"""The cores and the memory that this process may use, a container's limits included."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

#: Linux control groups v2: "max 100000" or "150000 100000", processor time per period, both in µs.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
#: Where control groups are, and which one this process is in.
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: A group's limit in bytes: of version 2, and below `memory` of version 1.
_LIMITS = ("memory.max", "memory.limit_in_bytes")


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
    return min([machine, *_group_limits(groups, own_groups)])


def _group_limits(groups: Path, own_groups: Path) -> Iterator[int]:
    """Yield the limits of the groups that this process is in, from its own to the outermost."""
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
            for name in _LIMITS:
                try:
                    yield int((group / name).read_text())
                except (OSError, ValueError):  # no such group, or "max"
                    continue
            if group == groups:
                break


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
