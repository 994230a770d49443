"""Metrics files named after the lane instead of the process.

prometheus_client 0.23 names them by process id, so every restart leaves a set of files behind
(prometheus/client_python issue 509; the way proposed there, `values.ValueClass`, is no public
name). A restarted lane now continues in its files.
"""

from __future__ import annotations

import os
from pathlib import Path


def keep_values_by_lane(folder: Path, lane: str) -> None:
    """Keep this process's metrics in files of `lane` below `folder`."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: lane)  # type: ignore[no-untyped-call]
