"""Every retry policy: how often a call is tried, and how long is waited between two tries.

Which errors may recover is the caller's to say. Waits grow at random up to the longest, so that
many callers of one server do not come back together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `tries` tries; between two of them a random wait that grows up to `longest_pause_s`."""

    tries: int
    longest_pause_s: float
    first_pause_s: float = 0.25
    """The first wait is at most this long, seconds."""

    def retrying(
        self,
        may_recover: Callable[[BaseException], bool],
        *,
        sleep: Callable[[float], None] = time.sleep,
        before_sleep: Callable[[RetryCallState], None] | None = None,
    ) -> Retrying:
        """Return what calls a function by this policy; it raises the last error once all tries have
        failed.
        """
        options: dict[str, Any] = {"before_sleep": before_sleep} if before_sleep else {}
        return Retrying(
            retry=retry_if_exception(may_recover),
            stop=stop_after_attempt(self.tries),
            wait=wait_random_exponential(multiplier=self.first_pause_s, max=self.longest_pause_s),
            sleep=sleep,
            reraise=True,
            **options,
        )


#: One call to the object store or folder.
STORE = RetryPolicy(6, 5.0, first_pause_s=0.1)
#: One listing of the archive.
ARCHIVE_LISTING = RetryPolicy(4, 5.0)
#: One file of the archive: another source answers for its time, so it is given up sooner than a
#: page.
ARCHIVE_FILE = RetryPolicy(3, 10.0)
#: One REST page; what a 429 or 418 makes wait costs no try.
REST_PAGE = RetryPolicy(6, 10.0)
#: One question about a symbol while a catalog is made.
CATALOG = RetryPolicy(4, 5.0)
#: One file or page that a verification compares the lake with.
VERIFICATION = RetryPolicy(4, 5.0)
