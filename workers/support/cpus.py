"""The number of cores that this process may use, a container's limit included."""

from __future__ import annotations

import math
import os
from pathlib import Path

#: Linux control groups v2: "max 100000" or "150000 100000", processor time per period, both in µs.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


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
