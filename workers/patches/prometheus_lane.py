"""Metrics files named after the lane instead of the process: a lane that starts again goes on in
the same files.

prometheus_client 0.23 names files by process id: each restart would leave a set of files behind,
and their number would grow without end (prometheus/client_python issue 509; its answer,
`values.ValueClass`, is no public name).
"""

from __future__ import annotations

import os
from pathlib import Path


def keep_values_by_lane(folder: Path, lane: str) -> None:
    """Have this process keep the values of its metrics in files of `lane` below `folder`."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: lane)  # type: ignore[no-untyped-call]
