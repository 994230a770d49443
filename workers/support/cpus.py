"""How many cores this process may use: what a container is given counts, not what its machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

#: "max 100000" or "150000 100000": processor time in µs for each period in µs (Linux, control
#: groups version 2).
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cpus(quota: Path = _QUOTA) -> int:
    """Return the number of cores, a part of one counted as one."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        time_us, period_us = quota.read_text().split()
        return (
            mine
            if time_us == "max"
            else max(1, min(mine, math.ceil(int(time_us) / int(period_us))))
        )
    except (OSError, ValueError):
        return mine
