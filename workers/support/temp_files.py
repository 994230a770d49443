"""Files that appear whole: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from klinefleet.workers.domain.timestamps import HOUR_MS

_NAME = re.compile(r"\..+\.[0-9a-f]{32}")
_MAX_AGE_S = HOUR_MS / 1000


@contextmanager
def temp_path(target: Path) -> Iterator[Path]:
    """Yield a new hidden path beside `target`; a file there that is not renamed is deleted."""
    path = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def is_left_over(name: str, modified_s: float) -> bool:
    """Return whether a process that was killed has left this temporary file, an hour ago or more.

    name: the file's name in its folder. modified_s: when it was written last, Unix time in s.
    """
    return _NAME.fullmatch(name) is not None and time.time() - modified_s > _MAX_AGE_S
